"""What is shown of a user's jobs: badges, a feed, and pages."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from buildyard.apis.http import client_of
from buildyard.apis.sourcehut import addresses, pages, states
from buildyard.apis.sourcehut.addresses import job_url
from buildyard.apis.sourcehut.badges import UNKNOWN, badge
from buildyard.apis.sourcehut.feeds import Entry, feed
from buildyard.apis.sourcehut.files import build_id
from buildyard.domain.access import Actor
from buildyard.domain.ids import BuildId
from buildyard.engine import account_builds
from buildyard.engine.account_builds import TaggedBuild
from buildyard.engine.engine import Engine
from buildyard.engine.job_sheets import TaskSheet
from buildyard.engine.job_summaries import JobSummary, summarize_job
from buildyard.engine.records import Artifact
from buildyard.engine.sign_in import PasswordGate, authenticate

LISTED = 50
"""Jobs on a page, and looked at for a feed."""
LOOKED_AT = 200
"""Jobs among which a badge looks for one that has ended."""
SVG_HEADERS = {
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
    "cache-control": "no-cache",
    "vary": "authorization",
}


class PeopleRoutes:
    """The handlers; they show to each who asks what they may see."""

    def __init__(self, engine: Engine, gate: PasswordGate) -> None:
        self._engine = engine
        self._gate = gate
        self._base = engine.policy.public_url

    def routes(self) -> list[Route]:
        """Where they answer, in the order in which they are tried."""
        return [
            Route("/~{user}.svg", self.get_badge),
            Route("/~{user}/rss.xml", self.get_feed),
            Route("/~{user}/{tags:path}.svg", self.get_badge),
            Route("/~{user}", self.list_jobs),
            Route("/~{user}/job/{build}", self.get_job),
            Route("/~{user}/{tags:path}", self.list_jobs),
        ]

    async def _actor(self, request: Request) -> Actor:
        ip, agent = client_of(request)
        return await authenticate(self._engine, self._gate, request.headers.get("authorization"), ip=ip, agent=agent)

    async def get_badge(self, request: Request) -> Response:
        """`GET /~:user.svg` and `/~:user/:tags.svg`: how the newest job went."""
        actor, user, tags = await self._actor(request), request.path_params["user"], _tags(request)
        found = await self._engine.read(account_builds.find_account_builds, actor, user, tags, limit=LOOKED_AT)
        status = next((states.JOB.of(one.view.build.state) for one in found if one.speaks), UNKNOWN)
        picture = badge("/".join(tags) or f"~{user}", status)
        etag = f'"{status}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={**SVG_HEADERS, "etag": etag})
        return Response(picture, headers={**SVG_HEADERS, "etag": etag}, media_type="image/svg+xml")

    async def get_feed(self, request: Request) -> Response:
        """`GET /~:user/rss.xml`: jobs that ended."""
        actor, user = await self._actor(request), request.path_params["user"]
        found = await self._engine.read(account_builds.list_account_builds, actor, user, limit=LISTED)
        page = f"{self._base}/~{quote(user, safe='')}"
        text = feed(title=f"~{user}", page=page, address=f"{page}/rss.xml", entries=self._entries(user, found))
        return Response(text, headers={"cache-control": "private, no-cache"}, media_type="application/rss+xml")

    def _entries(self, user: str, found: list[TaggedBuild]) -> list[Entry]:
        ended = [(one, one.view.build.finished_at) for one in found]
        return [
            Entry(
                url=job_url(self._base, user, one.view.build.id),
                title=f"{'/'.join(one.tags)} #{one.view.build.id}: {states.JOB.of(one.view.build.state)}".strip(),
                text=note_of(one),
                ended_at=at,
            )
            for one, at in ended
            if at is not None
        ]

    async def list_jobs(self, request: Request) -> Response:
        """`GET /~:user` and `/~:user/:tags`: a page of the newest jobs."""
        actor, user, tags = await self._actor(request), request.path_params["user"], _tags(request)
        found = await self._engine.read(account_builds.list_account_builds, actor, user, tags, limit=LISTED)
        title = "/".join((f"~{user}", *tags))
        feed_url = f"{self._base}/~{quote(user, safe='')}/rss.xml"
        return HTMLResponse(pages.jobs_page(title, feed_url, self._rows(user, found)), headers=pages.HEADERS)

    async def get_job(self, request: Request) -> Response:
        """`GET /~:user/job/:id`: a page of one job; below another user's name it leads to its own address."""
        actor, build = await self._actor(request), build_id(request)
        found = await self._engine.read(summarize_job, actor, build)
        if found.owner != request.path_params["user"]:
            return RedirectResponse(job_url(self._base, found.owner, build), 303)
        return HTMLResponse(pages.job_page(self._page(found)), headers=pages.HEADERS)

    def _page(self, found: JobSummary) -> pages.JobPage:
        build = found.build.view.build
        setup = pages.Link(name="setup", url=addresses.setup_log_url(self._base, build.id), beside="")
        return pages.JobPage(
            number=build.id,
            owner=found.owner,
            home=f"{self._base}/~{quote(found.owner, safe='')}",
            status=states.JOB.of(build.state),
            tags="/".join(found.build.tags),
            note=note_of(found.build),
            created_at=build.created_at,
            finished_at=build.finished_at,
            logs=(setup, *(self._log(build.id, task) for task in found.tasks)),
            artifacts=tuple(self._file(one) for one in found.artifacts),
        )

    def _log(self, build: BuildId, task: TaskSheet) -> pages.Link:
        url = addresses.task_log_url(self._base, build, task.name)
        return pages.Link(name=task.name, url=url, beside=states.task(task.state, started=task.began))

    def _file(self, kept: Artifact) -> pages.Link:
        if kept.removed_at is not None:
            return pages.Link(name=kept.path, url="", beside="deleted")
        url = addresses.artifact_url(self._base, kept.build, kept.uid, kept.path)
        return pages.Link(name=kept.path, url=url, beside=f"{kept.size} bytes")

    def _rows(self, user: str, found: list[TaggedBuild]) -> list[pages.Row]:
        return [
            pages.Row(
                number=one.view.build.id,
                url=job_url(self._base, user, one.view.build.id),
                status=states.JOB.of(one.view.build.state),
                tags="/".join(one.tags),
                note=note_of(one),
                created_at=one.view.build.created_at,
            )
            for one in found
        ]


def note_of(build: TaggedBuild) -> str:
    """What people read of a job: its note, else what the commit says."""
    view = build.view
    return view.build.note or (view.revision.message if view.revision is not None else "")


def _tags(request: Request) -> tuple[str, ...]:
    return tuple(tag for tag in request.path_params.get("tags", "").split("/") if tag)
