"""Secrets on the server: who sets them, which job gets which, what is noted, and that nothing shows a value."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from sqlalchemy import select, update

from buildyard.domain.access import SYSTEM, Actor, Role
from buildyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from buildyard.domain.labels import Offer
from buildyard.domain.secrets import SecretKind, SecretValue
from buildyard.domain.specs import Retry, SecretUse
from buildyard.engine import audit, identity, runners, secret_keys, secrets
from buildyard.engine.secrets import NewSecret, Place
from buildyard.protocol import JobGrant
from buildyard.store import identity as people
from buildyard.store.statements import Statement, given
from buildyard.store.tables import builds as build_rows
from buildyard.store.tables import metadata
from buildyard.store.transactions import Transaction
from world import World, job

PROJECT = Place(project="hello")
DISTRUST = Statement(update(build_rows).where(build_rows.c.id == given("build")).values(trusted=0))
EVERYTHING = [Statement(select(table)) for table in metadata.tables.values()]


@pytest.fixture(autouse=True)
async def key(world: World) -> str:
    """The first key, as a start makes it."""
    assert await secret_keys.prepare_keys(world.engine) == ""
    found = await world.engine.read(secret_keys.key_in_use, SYSTEM)
    assert found is not None
    return found


async def put(
    world: World, name: str, value: bytes, place: Place = PROJECT, by: Actor | None = None, **more: Any
) -> Any:
    """Set a secret."""
    wanted = NewSecret(name=name, value=SecretValue(value), **more)
    return await world.engine.run(secrets.set_secret, by or world.owner, place, wanted, world.engine.keys)


def needing(*names: str | SecretUse, **more: Any) -> Any:
    """A job that names secrets."""
    uses = tuple(SecretUse(name=one) if isinstance(one, str) else one for one in names)
    return job("a", secrets=uses, **more)


async def granted(world: World, *names: str | SecretUse) -> JobGrant:
    """The grant of a job that names secrets."""
    await world.submit(needing(*names))
    return await (await world.hand()).take()


async def entries(world: World, action: str) -> list[Any]:
    """Entries of the audit log of an action, the oldest first."""
    found, _ = await world.engine.read(
        audit.list_audit, world.administrator, project_uid=None, action=action, limit=99, offset=0
    )
    return found[::-1]


async def everything(world: World) -> str:
    """All that the database holds."""

    async def read(tx: Transaction, _actor: Actor) -> list[Sequence[Any]]:
        return [row for statement in EVERYTHING for row in await tx.fetch(statement)]

    return repr(await world.engine.read(read, SYSTEM))


@pytest.mark.covers("secrets.grant", "secrets.scopes")
async def test_a_job_is_given_the_nearest_secret_of_each_name(world: World) -> None:
    pipeline = await world.define(needing("A", "B", "C"))
    account, of_pipeline = Place(account="bob"), Place(project="hello", pipeline=pipeline.slug)
    for name, places in {"A": (account,), "B": (account, PROJECT), "C": (account, PROJECT, of_pipeline)}.items():
        for place in places:
            await put(world, name, f"{name} of {place}".encode(), place)
    await put(world, "A", b"of somebody else", Place(account="admin"), by=world.administrator)

    await world.submit(pipeline=pipeline)
    grant = await (await world.hand()).take()

    given_values = {one.variable: one.value for one in grant.secrets}
    assert given_values == {"A": b"A of account bob", "B": b"B of project hello", "C": b"C of pipeline hello:main"}
    assert grant.refused == ""


@pytest.mark.covers("secrets.grant")
async def test_kind_path_and_mode_decide_how_a_job_gets_it_unless_the_job_says(world: World) -> None:
    await put(world, "plain", b"value")
    await put(world, "key", b"-----KEY-----", kind=SecretKind.SSH_KEY)
    await put(world, "conf", b"a = 1", kind=SecretKind.FILE, path="~/.config//conf", mode=0o640)
    await put(world, "other-file", b"a = 1", kind=SecretKind.FILE)

    wish = SecretUse(name="other-file", given="file", variable="WHERE", path=".netrc", mode=0o400)
    grant = await granted(world, "plain", "key", "conf", wish)

    assert [(one.variable, one.path, one.mode) for one in grant.secrets] == [
        ("plain", "", 0o600),
        ("key", ".ssh/key", 0o600),
        ("conf", ".config/conf", 0o640),
        ("WHERE", ".netrc", 0o400),
    ]


@pytest.mark.covers("secrets.audit")
async def test_the_audit_log_says_which_attempt_was_given_which_secret_once(world: World) -> None:
    stored = await put(world, "TOKEN", b"top-secret")
    await world.submit(needing("TOKEN", retry=Retry(lost_count=3)))
    hand = await world.hand()

    lost = (await hand.poll(have=[])).jobs
    again = (await hand.poll(have=[])).jobs
    world.clock.advance(100)
    await world.expire()
    await hand.hello(held=[])
    hand.held.clear()
    second = await hand.take()

    assert [one.secrets[0].value for one in (*lost, *again, second)] == [b"top-secret"] * 3
    used = await entries(world, "secret.use")
    assert [(one.resource_id, one.details["attempt"], one.details["name"]) for one in used] == [
        (stored.secret.uid, 1, "TOKEN"),
        (stored.secret.uid, 2, "TOKEN"),
    ]
    assert used[0].project == world.project.uid
    (view,) = await world.engine.read(secrets.list_secrets, world.owner, PROJECT)
    assert view.secret.used_at == world.clock.now


@pytest.mark.covers("secrets.audit", "secrets.hidden")
async def test_setting_changing_and_deleting_is_audited_and_the_value_is_nowhere(world: World) -> None:
    first = await put(world, "TOKEN", b"top-secret-1")
    world.clock.advance(5)
    second = await put(world, "TOKEN", b"top-secret-2", kind=SecretKind.FILE)
    grant = await granted(world, "TOKEN")
    stored = await everything(world)
    await world.engine.run(secrets.remove_secret, world.owner, PROJECT, "TOKEN")

    assert first.secret.uid == second.secret.uid
    assert (second.secret.created_at, second.secret.kind) == (first.secret.created_at, SecretKind.FILE)
    assert second.secret.updated_at > first.secret.updated_at
    acts = [await entries(world, f"secret.{act}") for act in ("create", "update", "delete")]
    assert [[one.resource_id for one in found] for found in acts] == [[first.secret.uid]] * 3
    assert acts[0][0].details == {"name": "TOKEN", "kind": "variable", "of": "project hello"}
    assert grant.secrets[0].value == b"top-secret-2"
    assert "top-secret" not in stored
    assert "top-secret" not in f"{grant!r} {second!r} {acts!r}"


@pytest.mark.covers("secrets.unknown")
async def test_a_build_that_names_an_unknown_secret_is_refused_at_once(world: World) -> None:
    await put(world, "KNOWN", b"value")

    with pytest.raises(Invalid, match="there is no secret ALSO, OTHER for hello:main; set it with"):
        await world.submit(needing("OTHER", "KNOWN", "ALSO"))

    view = await world.submit(needing("KNOWN", SecretUse(name="OTHER", optional=True)))
    assert view.build.number == 1


@pytest.mark.covers("secrets.unknown", "secrets.refused")
async def test_a_secret_that_was_deleted_meanwhile_fails_the_job_unless_it_is_optional(world: World) -> None:
    await put(world, "GONE", b"value")
    await world.submit(needing("GONE"))
    await world.submit(needing(SecretUse(name="GONE", optional=True)))
    await world.engine.run(secrets.remove_secret, world.owner, PROJECT, "GONE")

    grants = await (await world.hand()).claim(2)

    assert sorted(one.refused for one in grants) == [
        "",
        "the job names the secret GONE, and there is none of that name",
    ]
    assert [one.secrets for one in grants] == [[], []]


@pytest.mark.covers("secrets.untrusted")
async def test_untrusted_builds_are_given_nothing(world: World) -> None:
    await put(world, "TOKEN", b"top-secret")
    for uses in (["TOKEN"], [SecretUse(name="TOKEN", optional=True)]):
        view = await world.submit(needing(*uses))

        async def distrust(tx: Transaction, _actor: Actor, build: int = view.build.id) -> None:
            await tx.execute(DISTRUST, build=build)

        await world.engine.run(distrust, SYSTEM)

    named, optional = sorted(await (await world.hand()).claim(2), key=lambda grant: grant.build)

    assert (named.secrets, optional.secrets, optional.refused) == ([], [], "")
    assert named.refused == "this build is not trusted, so its jobs are given no secrets; this one names TOKEN"
    assert await entries(world, "secret.use") == []


async def test_what_cannot_be_given_as_wished_fails_the_job_and_says_why(world: World) -> None:
    await put(world, "binary", b"\0\1\2\3\4", kind=SecretKind.FILE)
    await put(world, "LD_PRELOAD", b"value")
    await put(world, "A.B", b"value")
    await put(world, "A-B", b"value")

    for names in (SecretUse(name="binary", given="env"),), ("LD_PRELOAD",), ("A.B", "A-B"):
        await world.submit(needing(*names))
    grants = await (await world.hand()).claim(3)

    assert sorted(one.refused for one in grants) == [
        "the secret LD_PRELOAD: LD_PRELOAD is a variable that jobs cannot be given",
        "the secret binary holds NUL bytes, so it can only be given as a file",
        "two secrets of the job would be in the variable A_B",
    ]


@pytest.mark.covers("secrets.runners")
async def test_scripts_for_single_steps_are_given_no_secrets_nor_steps_that_name_some(world: World) -> None:
    await put(world, "TOKEN", b"top-secret")
    named = await world.submit(needing("TOKEN"))
    plain = await world.submit(job("a"))
    (uid,), (other,) = [[one.job.uid for one in (await world.jobs(view)).values()] for view in (named, plain)]
    offer = Offer(frozenset(), frozenset({"process"}), "x86_64-linux")

    with pytest.raises(Conflict, match="given to workers only"):
        await runners.claim_step(world.engine, world.owner, uid)
    first = await runners.claim_next_step(world.engine, world.owner, offer, wait_s=0)
    second = await runners.claim_next_step(world.engine, world.owner, offer, wait_s=0)

    assert first is not None
    assert (first[0], second) == (other, None)


@pytest.mark.covers("secrets.access")
async def test_only_who_may_manage_secrets_sets_lists_and_deletes_them(world: World) -> None:
    await put(world, "TOKEN", b"top-secret")
    await put(world, "TOKEN", b"top-secret", Place(account="bob"))
    actors = {"owner": world.owner, "stranger": await world.user("eve"), "administrator": world.administrator}
    for role in (Role.DEVELOPER, Role.ADMIN):
        user = (await world.user(f"the-{role.name.lower()}")).user

        async def join(tx: Transaction, _actor: Actor, user: Any = user, role: Role = role) -> None:
            await people.add_member(tx, user, role, project=world.project.id)

        await world.engine.run(join, SYSTEM)
        actors[role.name] = await world.engine.read(identity.actor_of_user, SYSTEM, f"the-{role.name.lower()}")
    for scope in ("secrets:write", "jobs:write"):
        made = await world.engine.run(identity.create_token, world.owner, "bob", (scope,))
        actors[scope] = await world.engine.read(identity.actor_of_token, SYSTEM, made.secret)
    own = await world.engine.run(identity.create_token, world.owner, "bob", ("*",), project_uid=world.project.uid)
    actors["of the project"] = await world.engine.read(identity.actor_of_token, SYSTEM, own.secret)

    for place, expected in {
        PROJECT: {"owner", "administrator", "ADMIN", "secrets:write", "of the project"},
        Place(account="bob"): {"owner", "administrator", "secrets:write"},
    }.items():
        may = set()
        for name, actor in actors.items():
            try:
                await put(world, "TOKEN", b"another", place, by=actor)
                may.add(name)
            except (Forbidden, NotFound):
                with pytest.raises((Forbidden, NotFound)):
                    await world.engine.read(secrets.list_secrets, actor, place)
                with pytest.raises((Forbidden, NotFound)):
                    await world.engine.run(secrets.remove_secret, actor, place, "TOKEN")
            else:
                assert len(await world.engine.read(secrets.list_secrets, actor, place)) == 1
        assert may == expected

    shown = {name: len(await world.engine.read(secrets.list_secrets, actor)) for name, actor in actors.items()}
    assert shown == {
        "owner": 2, "stranger": 0, "administrator": 2, "DEVELOPER": 0, "ADMIN": 1, "secrets:write": 2,
        "jobs:write": 0, "of the project": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"value": b"abc"}, "at least 4 characters"),
        ({"value": b"x" * 65_537}, "must not be longer than 64 KiB"),
        ({"value": b"val\0ue"}, "must not hold NUL bytes"),
        ({"name": "1st"}, "must begin with a letter"),
        ({"path": "/etc/passwd", "kind": SecretKind.FILE}, "must be relative"),
        ({"path": "../up", "kind": SecretKind.FILE}, "must not hold .."),
        ({"mode": 0o1777}, "permission bits"),
    ],
)
async def test_what_cannot_be_a_secret_is_refused_without_repeating_it(
    world: World, wanted: dict[str, Any], words: str
) -> None:
    value = wanted.get("value", b"a value")

    with pytest.raises(Invalid, match=words) as refused:
        await put(world, **{"name": "NAME", "value": value, **wanted})

    assert value.decode() not in str(refused.value)


@pytest.mark.parametrize("place", [Place(), Place(account="bob", project="hello"), Place(pipeline="main")])
async def test_a_place_is_an_account_or_a_project_or_a_pipeline_of_one(world: World, place: Place) -> None:
    with pytest.raises(Invalid, match="name either"):
        await put(world, "NAME", b"value", place)
    for unknown in (Place(account="nobody"), Place(project="none"), Place(project="hello", pipeline="none")):
        with pytest.raises(NotFound):
            await put(world, "NAME", b"value", unknown)


@pytest.mark.covers("secrets.at_rest")
async def test_two_who_set_a_secret_at_the_same_moment_leave_one(world: World) -> None:
    done = await asyncio.gather(*(put(world, "NAME", f"value {n}".encode()) for n in range(5)), return_exceptions=True)

    assert all(not isinstance(one, BaseException) or isinstance(one, Conflict) for one in done)
    assert len(await world.engine.read(secrets.list_secrets, world.owner, PROJECT)) == 1


@pytest.mark.covers("secrets.hidden")
async def test_a_grant_keeps_its_secrets_on_the_wire_and_out_of_texts(world: World) -> None:
    await put(world, "TOKEN", b"top-secret")

    grant = await granted(world, "TOKEN")

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(grant), type=JobGrant) == grant
    assert "top-secret" not in repr(grant)
