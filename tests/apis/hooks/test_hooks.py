"""Deliveries to a server: what they start, what they do not, and that none counts twice."""

import contextlib
import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apis.hooks.deliveries import (
    AFTER,
    BEFORE,
    MIDDLE,
    NOBODY,
    PULLS,
    PUSHES,
    SOURCES,
    Told,
    bitbucket_pull,
    github_pull,
    github_push,
    github_repository,
    signed,
)
from apis.hooks.serving import Door
from buildyard.apis.hooks.routes import READERS
from buildyard.domain.access import SYSTEM
from buildyard.domain.errors import Forbidden, Invalid, LimitReached, NotFound
from buildyard.domain.hooks import Forge
from buildyard.domain.states import Phase, Result
from buildyard.domain.triggers import Filters, Forks, PullRequest, Push
from buildyard.engine import receiving
from buildyard.engine.approvals import answer_approval
from buildyard.engine.builds import rebuild_build
from buildyard.engine.clockwork import pass_what_is_due
from buildyard.engine.receiving import Delivery, receive_delivery
from invariants import check_invariants
from world import QUEUE_LIMIT

GITHUB = SOURCES[Forge.GITHUB]


@pytest.mark.covers("hooks.forges", "hooks.push")
@pytest.mark.parametrize("forge", Forge)
async def test_a_push_to_each_forge_builds_what_was_pushed(door: Door, forge: Forge) -> None:
    (pipeline, _other) = await door.watch(Push(), SOURCES[forge], "https://example.org/other.git")
    answered = await door.deliver(forge, PUSHES[forge](message="Say hello"))

    assert answered.status == 200, answered
    assert answered.message == "branch main: on-push started 1 build"
    (view,) = await door.builds()
    assert [view.build.uid] == answered.builds
    assert view.build.pipeline == pipeline.id
    assert view.build.trusted
    assert view.revision is not None
    assert (view.revision.repository, view.revision.branch, view.revision.commit) == (SOURCES[forge], "main", AFTER)
    assert view.revision.message == "Say hello"
    started_by = await door.reasons_of(view)
    assert started_by[-1].category == "push"
    await door.world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("hooks.changes")
async def test_each_commit_of_a_push_is_a_change_of_the_evaluation(door: Door) -> None:
    await door.watch(Push(), GITHUB)
    await door.deliver(Forge.GITHUB, github_push())

    first, second = await door.changes()
    assert (first.files, second.files) == (("src/hello.c",), ("docs/hello.md",))
    assert (first.parent, second.parent) == (None, first.id)
    assert first.link.endswith(MIDDLE)
    assert second.committer == "GitHub <noreply@github.com>"
    assert second.committed_at is not None
    assert await door.reasons_of((await door.builds())[0]) == [first, second]


@pytest.mark.covers("hooks.replay")
@pytest.mark.parametrize("forge", Forge)
async def test_a_repeated_delivery_gets_the_same_answer_and_starts_nothing(door: Door, forge: Forge) -> None:
    await door.watch(Push(), SOURCES[forge])
    answers = await door.send_all(forge, PUSHES[forge](), 5)
    again = await door.deliver(forge, PUSHES[forge]())

    assert {one.status for one in answers} == {200}
    assert {(one.message, tuple(one.builds)) for one in answers} == {(again.message, tuple(again.builds))}
    assert sorted("repeated" in one.document for one in answers) == [False, True, True, True, True]
    assert [view.build.uid for view in await door.builds()] == again.builds
    assert len(await door.changes()) == len(set(await door.changes()))


@pytest.mark.covers("hooks.replay")
async def test_a_replay_is_known_for_ninety_days(door: Door) -> None:
    await door.watch(Push(), GITHUB)
    await door.deliver(Forge.GITHUB, github_push())
    for days, builds in ((89, 1), (2, 2)):
        door.world.clock.advance(days * 86_400)
        await door.world.engine.run(receiving.forget_deliveries, SYSTEM)
        await door.deliver(Forge.GITHUB, github_push())
        assert len(await door.builds()) == builds


@pytest.mark.covers("hooks.replay")
async def test_gitlab_repeats_have_the_same_key_and_a_new_push_another(door: Door) -> None:
    await door.watch(Push(), SOURCES[Forge.GITLAB])
    told = PUSHES[Forge.GITLAB]()
    for key in ("1", "1", "2"):
        await door.deliver(Forge.GITLAB, told, **{"Idempotency-Key": key})
    assert len(await door.builds()) == 2


@pytest.mark.covers("hooks.signatures")
async def test_without_the_secret_nothing_happens(door: Door) -> None:
    await door.watch(Push(), GITHUB)
    told = github_push()
    wrong = signed(Forge.GITHUB, told.event, told.body, "not the secret")
    unsigned = {"X-GitHub-Event": "push"}

    assert (await door.post("github/github", told.body, wrong)).status == 403
    assert (await door.post("github/github", told.body, unsigned)).status == 401
    assert (await door.post("github/github", told.body[:-1], signed(Forge.GITHUB, "push", told.body))).status == 403
    assert await door.builds() == []
    assert await door.changes() == []


@pytest.mark.covers("hooks.route")
async def test_unknown_doors_methods_and_sizes_are_refused(door: Door) -> None:
    told = github_push()
    headers = signed(Forge.GITHUB, told.event, told.body)
    assert (await door.post("github/nothing", told.body, headers)).status == 404
    assert (await door.post("gitlab/github", told.body, headers)).status == 404
    assert (await door.post("github/github", b"x" * 1_000_001, headers)).status == 413
    assert (await door.post("github/github", told.body, {**headers, "X-GitHub-Event": ""})).status == 400
    async with door.session.get(f"{door.url}/-/hooks/github/github") as response:
        assert (response.status, response.headers["allow"]) == (405, "POST")


@pytest.mark.covers("hooks.ping", "hooks.unknown")
async def test_pings_are_answered_and_unknown_events_accepted_with_a_sentence(door: Door) -> None:
    ping = await door.deliver(Forge.GITHUB, Told("ping", {"zen": "Keep it logically awesome.", "hook_id": 1}))
    star = await door.deliver(Forge.GITHUB, Told("star", {"action": "created"}))
    assert (ping.status, ping.message) == (200, "the hook works")
    assert (star.status, star.message) == (202, "events of the kind 'star' start nothing")


@pytest.mark.covers("hooks.route")
async def test_forms_carry_the_document_in_a_field(door: Door) -> None:
    await door.watch(Push(), GITHUB)
    body = b"payload=" + quote(github_push().body).encode()
    headers = {**signed(Forge.GITHUB, "push", body), "Content-Type": "application/x-www-form-urlencoded"}

    assert len((await door.post("github/github", body, headers)).builds) == 1
    for broken in (b"payload=%ff", b"payload", b"\xff", b"payload={}&payload={}"):
        headers |= signed(Forge.GITHUB, "push", broken) | {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await door.post("github/github", broken, headers)).status == 400


@pytest.mark.covers("hooks.bad_bodies")
@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'"\\ud800"'])
async def test_broken_bodies_get_a_sentence(door: Door, body: bytes) -> None:
    answered = await door.post("github/github", body, signed(Forge.GITHUB, "push", body))
    assert answered.status == 400
    assert answered.message


@pytest.mark.covers("hooks.deleted")
async def test_the_end_of_a_branch_starts_nothing(door: Door) -> None:
    await door.watch(Push(), GITHUB)
    answered = await door.deliver(Forge.GITHUB, github_push(after=NOBODY, deleted=True, commits=[]))
    assert (answered.status, answered.message) == (200, "branch main was deleted: nothing to build")
    assert await door.builds() == []


@pytest.mark.covers("filters.branches", "filters.paths", "filters.skip_words")
async def test_a_push_that_a_trigger_does_not_want_says_why(door: Door) -> None:
    await door.watch(Push(filters=Filters(branches=("release/*",))), GITHUB, name="releases")
    await door.watch(Push(filters=Filters(exclude_paths=("docs/", "src/"))), GITHUB, name="code")
    await door.watch(Push(filters=Filters(paths=("docs/",))), GITHUB, name="docs")
    first = await door.deliver(Forge.GITHUB, github_push())
    second = await door.deliver(Forge.GITHUB, github_push(message="Later [ci skip]"))

    assert first.message.split("; ") == [
        "branch main: releases does not start: branch main is not one of its branches or tags",
        "branch main: code does not start: no changed file is one of its files",
        "branch main: docs started 1 build",
    ]
    assert "docs does not start: the message of the commit says [ci skip]" in second.message
    assert len(await door.builds()) == 1


@pytest.mark.covers("hooks.push")
async def test_a_tag_is_built_by_its_name(door: Door) -> None:
    await door.watch(Push(filters=Filters(tags=("v*",))), GITHUB)
    await door.deliver(Forge.GITHUB, github_push("refs/tags/v1"))
    (view,) = await door.builds()
    assert view.revision is not None
    assert (view.revision.branch, view.revision.commit) == ("refs/tags/v1", AFTER)


@pytest.mark.covers("hooks.push")
async def test_a_newer_push_supersedes_the_older_build_of_its_branch(door: Door) -> None:
    await door.watch(Push(cancel_superseded=True), GITHUB)
    for ref, after in (("refs/heads/main", AFTER), ("refs/heads/topic", AFTER), ("refs/heads/main", MIDDLE)):
        assert (await door.deliver(Forge.GITHUB, github_push(ref, after=after))).status == 200
    assert [view.build.state.phase is Phase.FINISHED for view in await door.builds()] == [True, False, False]


@pytest.mark.covers("hooks.projects")
async def test_a_hook_for_some_projects_starts_nothing_of_others(door: Door) -> None:
    await door.watch(Push(), GITHUB)
    answered = await door.deliver(Forge.GITHUB, github_push(), hook="narrow")
    assert "no trigger of this server" in answered.message
    assert await door.builds() == []


@pytest.mark.covers("hooks.queue_full")
async def test_a_full_queue_leaves_the_delivery_to_be_repeated(door: Door) -> None:
    await door.watch(Push(), GITHUB)
    (event,) = READERS[Forge.GITHUB]("push", github_push().body)  # type: ignore[misc]  # a push
    delivery = Delivery(hook="github", key="k", event="push")
    with pytest.raises(LimitReached):
        await door.world.engine.run(receive_delivery, SYSTEM, delivery, [event], queue_limit=0)
    assert await door.changes() == []
    taken = await door.world.engine.run(receive_delivery, SYSTEM, delivery, [event], queue_limit=QUEUE_LIMIT)
    assert len(taken.builds) == 1
    assert not taken.repeated


@pytest.mark.covers("hooks.route")
async def test_nobody_but_a_hook_delivers(door: Door) -> None:
    for actor in (door.world.owner, door.world.administrator):
        with pytest.raises(Forbidden):
            await door.world.engine.run(
                receive_delivery, actor, Delivery(hook="h", key="k", event="e"), [], queue_limit=1
            )


@pytest.mark.covers("hooks.pull_requests")
@pytest.mark.parametrize("forge", Forge)
async def test_a_pull_request_of_each_forge_builds_its_head(door: Door, forge: Forge) -> None:
    await door.watch(PullRequest(), SOURCES[forge])
    answered = await door.deliver(forge, PULLS[forge]())

    assert len(answered.builds) == 1, answered
    (view,) = await door.builds()
    assert view.revision is not None
    assert view.revision.repository == SOURCES[forge]
    assert AFTER.startswith(view.revision.commit)
    assert view.build.trusted
    grant = await (await door.world.hand()).take()
    assert grant.spec.environment["BUILDYARD_PULL_REQUEST"].isdecimal()
    assert grant.spec.environment["BUILDYARD_BASE_BRANCH"] in {"main", "master"}


@pytest.mark.covers("hooks.pull_requests")
async def test_an_edited_pull_request_is_not_built_again(door: Door) -> None:
    await door.watch(PullRequest(), SOURCES[Forge.BITBUCKET])
    for event in ("pullrequest:created", "pullrequest:updated"):
        told = bitbucket_pull(event)
        told.document["pullrequest"]["title"] = event
        await door.deliver(Forge.BITBUCKET, told)
    assert len(await door.builds()) == 1


@pytest.mark.covers("hooks.pull_requests")
async def test_filters_of_pull_requests_are_about_their_base(door: Door) -> None:
    await door.watch(PullRequest(filters=Filters(branches=("stable",))), GITHUB)
    answered = await door.deliver(Forge.GITHUB, github_pull())
    assert "branch master is not one of its branches" in answered.message


FORK = github_pull(head_repository=github_repository("mallory/Hello-World", 5))


@pytest.mark.covers("hooks.forks")
async def test_a_pull_request_of_a_fork_waits_for_a_member_and_stays_untrusted(door: Door) -> None:
    await door.watch(PullRequest(), GITHUB)
    engine, hand = door.world.engine, await door.world.hand()
    (uid,) = (await door.deliver(Forge.GITHUB, FORK)).builds

    (view,) = await door.builds()
    assert not view.build.trusted
    assert view.revision is not None
    assert (view.revision.repository, view.revision.branch) == (GITHUB, "refs/pull/2/head")
    assert await hand.claim(9) == []
    with pytest.raises((Forbidden, NotFound)):
        await engine.run(answer_approval, await door.world.user("mallory"), uid, granted=True)
    await engine.run(answer_approval, door.world.owner, uid, granted=True, reason="looks fine")
    grant = await hand.take()
    assert not grant.trusted
    await hand.finish(grant)

    again = await engine.run(rebuild_build, door.world.owner, uid, reason="", queue_limit=QUEUE_LIMIT)
    assert not again.build.trusted
    await engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("hooks.forks")
async def test_an_approval_is_for_one_head_only_and_not_for_ever(door: Door) -> None:
    await door.watch(PullRequest(), GITHUB)
    engine, hand = door.world.engine, await door.world.hand()
    (first,) = (await door.deliver(Forge.GITHUB, FORK)).builds
    await engine.run(answer_approval, door.world.owner, first, granted=True)
    newer = github_pull("synchronize", head_repository=github_repository("mallory/Hello-World", 5), sha=MIDDLE)
    (second,) = (await door.deliver(Forge.GITHUB, newer)).builds

    old, new = await door.builds()
    assert (old.build.uid, old.build.state.result) == (first, Result.CANCELLED)
    assert (new.build.uid, new.build.state.phase) == (second, Phase.WAITING)
    assert await hand.claim(9) == []
    door.world.clock.advance(receiving.APPROVAL_DAYS * 86_400 + 1)
    await pass_what_is_due(engine)
    assert [view.build.state.result for view in await door.builds()] == [Result.CANCELLED] * 2


@pytest.mark.covers("hooks.forks")
async def test_a_pull_request_of_a_fork_starts_nothing_if_forks_are_ignored(door: Door) -> None:
    await door.watch(PullRequest(forks=Forks.IGNORE), GITHUB)
    assert "it comes from a fork" in (await door.deliver(Forge.GITHUB, FORK)).message
    assert await door.builds() == []


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.sampled_from([BEFORE, NOBODY, "refs/heads/x", "\0", "\ud800", "x" * 5000, {}, [], [{}], {"id": 2**70}]),
)


def places(document: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """All places in a document."""
    found = [path] if path else []
    if isinstance(document, dict):
        found += [place for key, inner in document.items() for place in places(inner, (*path, key))]
    elif isinstance(document, list):
        found += [place for at, inner in enumerate(document) for place in places(inner, (*path, at))]
    return found


@pytest.mark.covers("hooks.bad_bodies")
@pytest.mark.parametrize("forge", Forge)
async def test_wrong_values_anywhere_never_break_the_server(door: Door, forge: Forge) -> None:
    await door.watch(Push(), SOURCES[forge], name="pushes")
    await door.watch(PullRequest(), SOURCES[forge], name="pulls")
    tried: list[bytes] = []

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def spoil(data: st.DataObject) -> None:
        told = data.draw(st.sampled_from([PUSHES[forge], PULLS[forge]]))()
        document = json.loads(told.body)
        for place in data.draw(st.lists(st.sampled_from(places(document)), min_size=1, max_size=3)):
            parent = document
            try:
                for key in place[:-1]:
                    parent = parent[key]
                parent[place[-1]] = data.draw(JUNK)
            except (KeyError, IndexError, TypeError):
                continue
        body = json.dumps(document).encode()
        with contextlib.suppress(Invalid):
            READERS[forge](told.event, body)
        tried.append(told.event.encode() + b"|" + body)

    spoil()
    for line in tried[::3]:
        event, _bar, body = line.partition(b"|")
        answered = await door.post(f"{forge.value}/{forge.value}", body, signed(forge, event.decode(), body))
        assert answered.status in {200, 202, 400}, (answered, body)
    await door.world.engine.read(check_invariants, SYSTEM)
