"""Secrets as their owner sees them, and as gifts."""

import pytest

from apis.graphql.asking import ask, ask_badly, with_scopes
from buildyard.domain.secrets import SecretKind, SecretValue
from buildyard.engine import secret_keys, secrets
from buildyard.engine.secrets import NewSecret, Place
from world import World

LIST = """query($cursor: Cursor) { secrets(cursor: $cursor) { cursor results {
    __typename id uuid name created fromUser { canonicalName } ... on SecretFile { path mode } } } }"""
SHARE = """mutation($uuid: String!, $user: String!) { shareSecret(uuid: $uuid, user: $user) {
    uuid name fromUser { canonicalName } } }"""


@pytest.fixture
async def keyed(world: World) -> World:
    """A world whose server can keep secrets."""
    assert await secret_keys.prepare_keys(world.engine) == ""
    return world


async def keep(
    world: World, name: str, kind: SecretKind = SecretKind.FILE, account: str = "bob", path: str = ""
) -> str:
    """A secret of an account; its uid."""
    new = NewSecret(name=name, kind=kind, value=SecretValue(name.encode() * 4), path=path, mode=0o400)
    made = await world.engine.run(
        secrets.set_secret, world.administrator, Place(account=account), new, world.engine.keys
    )
    return made.secret.uid


@pytest.mark.covers("sourcehut: POST /query: query secrets", "sourcehut.graphql.secrets")
async def test_each_kind_of_secret_is_listed_newest_first_without_its_value(keyed: World) -> None:
    await keep(keyed, "ssh", SecretKind.SSH_KEY)
    await keep(keyed, "pgp", SecretKind.PGP_KEY)
    file = await keep(keyed, "netrc", path="~/.netrc")
    await keep(keyed, "TOKEN", SecretKind.VARIABLE)
    await keep(keyed, "other", account="admin")

    found = await ask(keyed.engine, keyed.owner, LIST)

    assert [(one["__typename"], one["name"]) for one in found["secrets"]["results"]] == [
        ("SecretFile", "TOKEN"),
        ("SecretFile", "netrc"),
        ("PGPKey", "pgp"),
        ("SSHKey", "ssh"),
    ]
    netrc = found["secrets"]["results"][1]
    assert (netrc["uuid"], netrc["path"], netrc["mode"], netrc["fromUser"]) == (file, "~/.netrc", 0o400, None)
    assert found["secrets"]["cursor"] is None


@pytest.mark.covers("sourcehut.graphql.secrets")
@pytest.mark.parametrize(
    "wanted", ["... on SSHKey { privateKey }", "... on PGPKey { privateKey }", "... on SecretFile { data }"]
)
async def test_nobody_is_shown_a_value(keyed: World, wanted: str) -> None:
    for name, kind in (("s", SecretKind.SSH_KEY), ("p", SecretKind.PGP_KEY), ("f", SecretKind.FILE)):
        await keep(keyed, name, kind)

    assert await ask_badly(keyed.engine, keyed.owner, f"{{ secrets {{ results {{ {wanted} }} }} }}") == "Access denied"


@pytest.mark.covers("sourcehut.graphql.secrets", "sourcehut.graphql.cursors")
async def test_secrets_come_in_pages_and_a_cursor_belongs_to_its_list(keyed: World) -> None:
    for number in range(60):
        await keep(keyed, f"s{number}")

    names, cursor, pages = [], None, 0
    while cursor is not None or not pages:
        found = (await ask(keyed.engine, keyed.owner, LIST, cursor=cursor))["secrets"]
        names += [one["name"] for one in found["results"]]
        cursor, pages = found["cursor"], pages + 1

    assert names == [f"s{number}" for number in reversed(range(60))]
    assert pages == 3
    for wrong in ("", "x", "am9iczox", "c2VjcmV0czo5OTk5OTk5OTk5OTk", "Ã¼", "\U0001f600"):
        assert "not a cursor" in await ask_badly(keyed.engine, keyed.owner, LIST, cursor=wrong)


@pytest.mark.covers("sourcehut: POST /query: mutation shareSecret", "sourcehut.graphql.share")
async def test_a_shared_secret_is_a_copy_that_says_who_gave_it(keyed: World) -> None:
    eve = await keyed.user("eve")
    uid = await keep(keyed, "KEY", SecretKind.SSH_KEY)

    shared = (await ask(keyed.engine, keyed.owner, SHARE, uuid=uid, user="~eve"))["shareSecret"]

    assert shared["uuid"] != uid
    assert (shared["name"], shared["fromUser"]) == ("KEY", {"canonicalName": "~bob"})
    await keyed.engine.run(secrets.remove_secret, keyed.owner, Place(account="bob"), "KEY")
    (received,) = (await ask(keyed.engine, eve, LIST))["secrets"]["results"]
    assert (received["uuid"], received["__typename"]) == (shared["uuid"], "SSHKey")


@pytest.mark.covers("sourcehut.graphql.share")
async def test_a_gift_takes_no_name_that_is_in_use_and_can_be_thrown_away(keyed: World) -> None:
    eve = await keyed.user("eve")
    own = await keep(keyed, "KEY", account="eve")
    uid = await keep(keyed, "KEY")

    shared = (await ask(keyed.engine, keyed.owner, SHARE, uuid=uid, user="eve"))["shareSecret"]

    assert shared["name"] is None
    found = (await ask(keyed.engine, eve, LIST))["secrets"]["results"]
    assert [(one["uuid"], one["name"]) for one in found] == [(shared["uuid"], None), (own, "KEY")]
    await keyed.engine.run(secrets.remove_secret, eve, Place(account="eve"), shared["uuid"])
    assert [one["uuid"] for one in (await ask(keyed.engine, eve, LIST))["secrets"]["results"]] == [own]


@pytest.mark.covers("sourcehut.graphql.share")
async def test_only_own_secrets_are_given_and_only_to_others_who_are_there(keyed: World) -> None:
    eve = await keyed.user("eve")
    uid = await keep(keyed, "KEY")

    assert await ask_badly(keyed.engine, eve, SHARE, uuid=uid, user="bob") == "secret not found"
    assert await ask_badly(keyed.engine, keyed.owner, SHARE, uuid=uid, user="nobody") == "user nobody not found"
    assert await ask_badly(keyed.engine, keyed.owner, SHARE, uuid=uid, user="~bob") == "this secret is yours already"
    writer = with_scopes(keyed.owner, "jobs:write")
    assert "SECRETS:RW" in await ask_badly(keyed.engine, writer, SHARE, uuid=uid, user="eve")
    assert (await ask(keyed.engine, writer, LIST))["secrets"]["results"]
    assert "SECRETS:RO" in await ask_badly(keyed.engine, with_scopes(keyed.owner, "jobs:read"), LIST)
