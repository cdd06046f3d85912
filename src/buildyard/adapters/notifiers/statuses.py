"""Statuses at commits, as the public APIs of five forges take them.

GitHub: docs.github.com/rest/commits/statuses. GitLab: docs.gitlab.com/api/commits (set a commit's pipeline status).
Gitea and Forgejo: their OpenAPI, `/repos/{owner}/{repo}/statuses/{sha}`. Bitbucket Cloud: "Commit statuses" of its
REST API 2.0. Bitbucket Data Center: `/rest/build-status/1.0`.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import quote

from buildyard.adapters.notifiers.posting import post
from buildyard.domain.news import News
from buildyard.domain.notifications import Event, Forge, StatusTarget, context_of, path_of
from buildyard.domain.states import Result
from buildyard.ports import Notice, Outcome

R = Result
_FAILED = (R.DEPENDENCY_FAILED, R.FAILURE, R.LOG_LIMIT, R.OUTPUT_LIMIT, R.TIMEOUT)

GITHUB = {R.SUCCESS: "success", R.WARNINGS: "success", **dict.fromkeys(_FAILED, "failure"), R.ERROR: "error",
          R.CANCELLED: "error", R.SKIPPED: "error"}  # fmt: skip
GITLAB = {R.SUCCESS: "success", R.WARNINGS: "success", **dict.fromkeys(_FAILED, "failed"), R.ERROR: "failed",
          R.CANCELLED: "canceled", R.SKIPPED: "skipped"}  # fmt: skip
GITEA = {R.SUCCESS: "success", R.WARNINGS: "warning", **dict.fromkeys(_FAILED, "failure"), R.ERROR: "error",
         R.CANCELLED: "error", R.SKIPPED: "error"}  # fmt: skip
BITBUCKET = {R.SUCCESS: "SUCCESSFUL", R.WARNINGS: "SUCCESSFUL", **dict.fromkeys(_FAILED, "FAILED"), R.ERROR: "FAILED",
             R.CANCELLED: "STOPPED", R.SKIPPED: "STOPPED"}  # fmt: skip
BITBUCKET_SERVER = {**BITBUCKET, R.CANCELLED: "FAILED", R.SKIPPED: "FAILED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is to be shown at a commit. `result` is None while the build runs."""

    commit: str
    branch: str
    context: str
    description: str
    link: str
    result: Result | None


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a forge: its path below the API's base, its headers, its JSON."""

    path: str
    headers: dict[str, str]
    body: dict[str, str]


class StatusNotifier:
    """Posts to the forges that rules name. `allow_local`: private addresses, too."""

    def __init__(self, *, allow_local: bool, timeout_s: float = 20.0) -> None:
        self._allow_local = allow_local
        self._timeout_s = timeout_s

    async def send(self, notice: Notice) -> Outcome:
        """See Notifier."""
        target = notice.target
        assert isinstance(target, StatusTarget)
        assert notice.news is not None
        if not notice.credential:
            return Outcome(delivered=False, error=f"the credential {target.token} is empty")
        if not notice.credential.isprintable() or not notice.credential.isascii():
            return Outcome(delivered=False, error=f"the credential {target.token} is not one line of plain text")
        call = CALLS[target.forge](target.repository, notice.credential, status_of(notice.news))
        body = json.dumps(call.body, ensure_ascii=False).encode("utf-8", "replace")
        outcome = await post(
            target.base + call.path, call.headers, body, allow_local=self._allow_local, timeout_s=self._timeout_s
        )
        return _repeated(outcome) if target.forge is Forge.GITLAB else outcome


def _repeated(outcome: Outcome) -> Outcome:
    """GitLab refuses to set the state that a status has already: it has got this message before."""
    if outcome.status == 400 and "Cannot transition status" in outcome.body:
        return replace(outcome, delivered=True, final=False, error="")
    return outcome


def status_of(news: News) -> Status:
    """What is shown for a build: that it runs, or how it ended."""
    result = news.result if news.event is Event.FINISHED else None
    return Status(
        commit=news.commit,
        branch=news.branch,
        context=context_of(news.pipeline),
        description=description_of(news, result),
        link=news.link,
        result=result,
    )


def description_of(news: News, result: Result | None) -> str:
    """One short sentence."""
    if result is None:
        return f"build {news.number} is running"
    words = {R.SUCCESS: "succeeded", R.WARNINGS: "succeeded with warnings", R.CANCELLED: "was cancelled"}
    said = words.get(result, f"ended with {result.word.replace('_', ' ')}")
    failed = f": {', '.join(job.job for job in news.failed[:3])}" if news.failed else ""
    return f"build {news.number} {said}{failed}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _github(repository: str, token: str, status: Status) -> Call:
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    body = {
        "state": "pending" if status.result is None else GITHUB[status.result],
        "target_url": status.link,
        "description": _cut(status.description, 140),
        "context": status.context,
    }
    return Call(f"/repos/{path_of(repository)}/statuses/{status.commit}", headers, body)


def _gitlab(repository: str, token: str, status: Status) -> Call:
    body = {
        "state": "running" if status.result is None else GITLAB[status.result],
        "name": status.context,
        "target_url": status.link,
        "description": _cut(status.description, 255),
        **({"ref": status.branch} if status.branch and not status.branch.startswith("refs/") else {}),
    }
    path = f"/projects/{quote(repository, safe='')}/statuses/{status.commit}"
    return Call(path, {"PRIVATE-TOKEN": token}, body)


def _gitea(repository: str, token: str, status: Status) -> Call:
    body = {
        "state": "pending" if status.result is None else GITEA[status.result],
        "target_url": status.link,
        "description": _cut(status.description, 250),
        "context": status.context,
    }
    path = f"/repos/{path_of(repository)}/statuses/{status.commit}"
    return Call(path, {"Authorization": f"token {token}", "Accept": "application/json"}, body)


def _bitbucket_body(status: Status, states: dict[Result, str]) -> dict[str, str]:
    """The key identifies a status and has at most 40 characters."""
    digest = hashlib.sha256(status.context.encode()).hexdigest()
    return {
        "key": status.context if len(status.context) <= 40 else digest[:40],
        "state": "INPROGRESS" if status.result is None else states[status.result],
        "name": status.context,
        "url": status.link,
        "description": _cut(status.description, 250),
    }


def _bitbucket(repository: str, token: str, status: Status) -> Call:
    path = f"/2.0/repositories/{path_of(repository)}/commit/{status.commit}/statuses/build"
    return Call(path, {"Authorization": f"Bearer {token}"}, _bitbucket_body(status, BITBUCKET))


def _bitbucket_server(_repository: str, token: str, status: Status) -> Call:
    path = f"/rest/build-status/1.0/commits/{status.commit}"
    return Call(path, {"Authorization": f"Bearer {token}"}, _bitbucket_body(status, BITBUCKET_SERVER))


CALLS: dict[Forge, Callable[[str, str, Status], Call]] = {
    Forge.GITHUB: _github,
    Forge.GITLAB: _gitlab,
    Forge.GITEA: _gitea,
    Forge.BITBUCKET: _bitbucket,
    Forge.BITBUCKET_SERVER: _bitbucket_server,
}
