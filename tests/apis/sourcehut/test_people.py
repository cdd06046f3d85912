"""Badges, feeds and lists of a user's jobs show to each who asks what they may see."""

from typing import Any
from xml.etree import ElementTree

import pytest

from apis.sourcehut.serving import Site
from buildyard.domain.access import SYSTEM, Actor, Visibility
from buildyard.domain.states import Result
from buildyard.engine import builds, manifest_jobs
from buildyard.engine.manifest_jobs import NewManifestJob
from buildyard.store import projects
from buildyard.store.builds import BuildView
from buildyard.store.transactions import Transaction
from world import QUEUE_LIMIT, World, job


async def show_to(world: World, visibility: Visibility) -> None:
    """Let others see the project, or not."""

    async def change(tx: Transaction, _actor: Any) -> None:
        await projects.change(tx, world.project.id, name="hello", visibility=visibility)

    await world.engine.run(change, SYSTEM)


async def ended(world: World, *results: Result) -> list[BuildView]:
    """Builds of one pipeline `main`, one after the other, that ended so."""
    hand = world.hands.get("w1") or await world.hand()
    pipeline = await world.define(job("a"))
    made = []
    for result in results:
        view = await world.submit(pipeline=pipeline)
        await hand.finish(await hand.take(), result)
        made.append(view)
    return made


def status_on(picture: bytes) -> str:
    """The word on a badge."""
    return [each.text or "" for each in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")][-1]


@pytest.mark.covers("sourcehut: GET /~:user.svg", "sourcehut: GET /~:user/:tags.svg", "sourcehut.badges")
async def test_a_badge_shows_how_the_newest_job_went(site: Site) -> None:
    world, owner = site.world, site.world.owner
    await show_to(world, Visibility.PUBLIC)
    assert status_on((await site.get("/~bob.svg")).data) == "unknown"
    await ended(world, Result.SUCCESS, Result.FAILURE)
    await world.submit(job("not begun", labels=["nowhere"]))

    answer = await site.get("/~bob.svg")
    assert (answer.status, status_on(answer.data)) == (200, "failed")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["cache-control"] == "no-cache"
    assert (await site.get("/~bob.svg", If_None_Match=answer.headers["etag"])).status == 304
    await ended(world, Result.SUCCESS)
    assert status_on((await site.get("/~bob.svg", If_None_Match=answer.headers["etag"])).data) == "success"
    for tags, status in {
        "hello/main": "failed",
        "hello/main-3": "success",
        "hello": "success",
        "main": "unknown",
        "hello/other": "unknown",
        "%3Cb%3E&%22": "unknown",
    }.items():
        assert status_on((await site.get(f"/~bob/{tags}.svg", by=owner)).data) == status, tags


async def test_a_cancelled_job_leaves_the_badge_as_it_was(site: Site) -> None:
    world = site.world
    (first,) = await ended(world, Result.SUCCESS)
    again = await world.engine.run(
        builds.rebuild_build, world.owner, first.build.uid, reason="", queue_limit=QUEUE_LIMIT
    )
    await world.cancel(again)

    assert status_on((await site.get("/~bob.svg", by=world.owner)).data) == "success"


@pytest.mark.covers("sourcehut: GET /~:user/rss.xml", "sourcehut.feed")
async def test_the_feed_has_the_jobs_that_ended_newest_first(site: Site) -> None:
    world = site.world
    await show_to(world, Visibility.PUBLIC)
    first, second = await ended(world, Result.SUCCESS, Result.FAILURE)
    await world.submit(job("not begun", labels=["nowhere"]))

    answer = await site.get("/~bob/rss.xml")

    assert answer.headers["content-type"] == "application/rss+xml"
    items = ElementTree.fromstring(answer.data).findall("./channel/item")
    assert [item.findtext("title") for item in items] == [
        f"hello/main #{second.build.id}: failed",
        f"hello/main #{first.build.id}: success",
    ]
    assert [item.findtext("guid") for item in items] == [
        f"http://127.0.0.1:8010/~bob/job/{view.build.id}" for view in (second, first)
    ]


@pytest.mark.covers("sourcehut.people.access")
@pytest.mark.parametrize("visibility", [Visibility.PRIVATE, Visibility.UNLISTED])
async def test_who_finds_nothing_is_told_of_nobody(site: Site, visibility: Visibility) -> None:
    world = site.world
    await show_to(world, visibility)
    await ended(world, Result.SUCCESS)
    eve = await world.user("eve")

    for by in (None, eve):
        assert status_on((await site.get("/~bob.svg", by=by)).data) == "unknown"
        for path in ("/~bob", "/~bob/rss.xml", "/~bob/hello", "/~nobody", "/~nobody/rss.xml", "/~"):
            assert (await site.get(path, by=by)).status == 404, path
    assert status_on((await site.get("/~bob.svg", by=world.owner)).data) == "success"
    assert "#1" in (await site.get("/~bob", by=world.owner)).text
    assert (await site.get("/~eve", by=eve)).status == 200


@pytest.mark.covers("sourcehut.people.pages")
async def test_a_users_page_lists_jobs_all_or_with_tags(site: Site) -> None:
    world = site.world
    await show_to(world, Visibility.PUBLIC)
    await ended(world, Result.SUCCESS)
    await ended(world, Result.FAILURE)

    whole, some = await site.get("/~bob"), await site.get("/~bob/hello/main-2")

    assert [line in whole.text for line in ("hello/main<", "hello/main-2<")] == [True, True]
    assert [line in some.text for line in ("hello/main<", "hello/main-2<")] == [False, True]
    assert whole.headers["content-security-policy"].startswith("default-src 'none'")


MANIFEST = "image: debian\ntasks:\n  - hello: echo hello\n"


async def submitted(world: World, *tags: str, **more: object) -> BuildView:
    """A job of the owner that ended well."""
    wanted = NewManifestJob(text=MANIFEST, tags=tags, **more)  # type: ignore[arg-type]  # fields of a new job
    view = await manifest_jobs.submit_manifest(world.engine, world.owner, wanted)
    hand = world.hands.get("w1") or await world.hand()
    await hand.finish(await hand.take())
    return view


@pytest.mark.covers("sourcehut.people.access")
async def test_each_sees_the_jobs_whose_own_lists_let_them(site: Site) -> None:
    world = site.world
    eve, carl = await world.user("eve"), await world.user("carl")
    public = await submitted(world, "hare", "alpine", read=("*",), note="for all")
    some = await submitted(world, "hare", "arch", read=("eve",))
    unlisted = await submitted(world, "hare", visibility=Visibility.UNLISTED)
    private = await submitted(world, visibility=Visibility.PRIVATE)
    everything = {view.build.id for view in (public, some, unlisted, private)}

    async def shown(path: str, by: Actor | None) -> set[int]:
        text = (await site.get(path, by=by)).text
        return {key for key in everything if f"#{key}<" in text or f"#{key}:" in text}

    for path in ("/~bob", "/~bob/rss.xml"):
        assert await shown(path, None) == {public.build.id}, path
        assert await shown(path, carl) == {public.build.id}, path
        assert await shown(path, eve) == {public.build.id, some.build.id}, path
        assert await shown(path, world.owner) == everything, path
    assert await shown("/~bob/hare", eve) == {public.build.id, some.build.id}
    assert await shown("/~bob/hare/arch", eve) == {some.build.id}
    assert await shown("/~bob/hare/arch", None) == set()
    assert [status_on((await site.get(f"/~bob/hare{rest}.svg")).data) for rest in ("", "/alpine", "/arch")] == [
        "success",
        "success",
        "unknown",
    ]
    assert status_on((await site.get("/~bob/hare/arch.svg", by=eve)).data) == "success"


@pytest.mark.covers("sourcehut.people.job")
async def test_a_jobs_page_leads_to_its_logs_and_files_those_who_may_see_it(site: Site) -> None:
    world = site.world
    view = await submitted(world, "hare", visibility=Visibility.UNLISTED, note="<b>A note</b>")
    address = f"/~bob/job/{view.build.id}"

    page = await site.get(address)
    assert page.status == 200
    for words in (
        "success",
        "hare",
        "&lt;b&gt;A note",
        f"/logs/{view.build.id}/log",
        f"/logs/{view.build.id}/hello/log",
    ):
        assert words in page.text
    other = await site.get(f"/~eve/job/{view.build.id}")
    assert (other.status, other.headers["location"]) == (303, f"http://127.0.0.1:8010{address}")
    private = await submitted(world, visibility=Visibility.PRIVATE)
    assert (await site.get(f"/~bob/job/{private.build.id}")).status == 404
    assert (await site.get(f"/~bob/job/{private.build.id}", by=world.owner)).status == 200
    assert (await site.get("/~bob/job/x")).status == 404
