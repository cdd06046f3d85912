"""The key of secrets: made once, changed in rounds, and never lost, whenever a server dies or what file is missing."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import Conflict, Forbidden, Unavailable
from buildyard.domain.secrets import SecretValue
from buildyard.domain.specs import SecretUse
from buildyard.engine import secret_keys, secrets
from buildyard.engine.engine import Engine
from buildyard.engine.keyring import Keyring, add_key, changing, read_keys, write_keys
from buildyard.engine.secrets import NewSecret, Place
from buildyard.store import secrets as stored
from buildyard.store.transactions import Transaction
from world import World, job

# ruff: noqa: ASYNC240 - looks at one small file

COUNT = secret_keys.ROUND + 3
PROJECT = Place(project="hello")


@pytest.fixture
async def path(world: World) -> Path:
    """The key file of a server that has started."""
    assert await secret_keys.prepare_keys(world.engine) == ""
    assert world.engine.keys.path is not None
    return world.engine.keys.path


async def put(world: World, *numbers: int) -> None:
    """Set a secret for each number."""
    for number in numbers:
        wanted = NewSecret(name=f"S{number}", value=SecretValue(f"value {number}".encode()))
        await world.engine.run(secrets.set_secret, world.owner, PROJECT, wanted, world.engine.keys)


async def values(world: World, *numbers: int) -> list[bytes]:
    """What a job is given of these secrets, by a server that has just read its key file; none with why, if refused."""
    world.engine = replace(world.engine, keys=Keyring(world.engine.keys.path))
    await world.submit(job("a", secrets=tuple(SecretUse(name=f"S{number}") for number in numbers)))
    hand = world.hands.get("w1") or await world.hand()
    grant = await hand.take()
    assert grant.refused == "", grant.refused
    return [one.value for one in grant.secrets]


async def key_of(world: World) -> str:
    """The key in use."""
    found = await world.engine.read(secret_keys.key_in_use, SYSTEM)
    assert found is not None
    return found


@pytest.mark.covers("secrets.key_file")
async def test_the_first_start_makes_a_key_for_the_owner_only_and_later_ones_keep_it(world: World, path: Path) -> None:
    written = path.read_bytes()
    key = await key_of(world)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(read_keys(path)) == [key]
    assert await secret_keys.prepare_keys(world.engine) == ""
    assert path.read_bytes() == written


@pytest.mark.covers("secrets.rotation")
async def test_a_rotation_encrypts_everything_anew_and_removes_the_old_key(world: World, path: Path) -> None:
    await put(world, *range(COUNT))
    old = await key_of(world)

    rotation = await secret_keys.rotate_key(world.engine, world.administrator)

    assert (rotation.rewritten, rotation.damaged) == (COUNT, 0)
    assert list(read_keys(path)) == [rotation.key] != [old]
    assert await key_of(world) == rotation.key
    assert await values(world, 0, COUNT - 1) == [b"value 0", f"value {COUNT - 1}".encode()]
    assert await world.engine.read(secret_keys.retired_keys, SYSTEM) == []


class _Dead(Exception):
    """The server dies here."""


async def die_after(world: World, transactions: int, engine: Engine) -> None:
    """Rotate the key, and die once so many writing transactions are done."""
    database, count = engine.database, 0

    class Mortal:
        """A database whose server dies."""

        async def run(self, body):  # type: ignore[no-untyped-def]
            nonlocal count
            if count == transactions:
                raise _Dead
            count += 1
            return await database.run(body)

        read = staticmethod(database.read)

    mortal = replace(engine, database=Mortal())  # type: ignore[arg-type]
    with pytest.raises(_Dead):
        await secret_keys.rotate_key(mortal, world.administrator)


@pytest.mark.covers("secrets.rotation")
@pytest.mark.parametrize("transactions", range(4))
async def test_a_rotation_that_is_cut_off_anywhere_loses_nothing_and_is_finished_at_the_next_start(
    world: World, path: Path, transactions: int
) -> None:
    await put(world, *range(COUNT))
    old = await key_of(world)
    await die_after(world, transactions, world.engine)
    halfway = await values(world, 0, COUNT - 1)

    assert await secret_keys.prepare_keys(world.engine) == ""

    assert halfway == await values(world, 0, COUNT - 1) == [b"value 0", f"value {COUNT - 1}".encode()]
    if transactions == 0:
        assert await key_of(world) == old
        assert len(read_keys(path)) == 2
        unused = next(key for key in read_keys(path) if key != old)
        assert (await secret_keys.rotate_key(world.engine, world.administrator)).key == unused
    assert list(read_keys(path)) == [await key_of(world)]
    assert await key_of(world) != old


@pytest.mark.covers("secrets.key_file")
async def test_without_its_key_file_a_server_says_so_makes_no_other_and_loses_nothing(world: World, path: Path) -> None:
    await put(world, 1)
    away = path.rename(path.with_name("away"))
    world.engine = replace(world.engine, keys=Keyring(path))

    said = await secret_keys.prepare_keys(world.engine)

    assert said.startswith(
        f"the key {await key_of(world)} that secrets are encrypted with is not in {path} (there: none)"
    )
    assert not path.exists()
    with pytest.raises(Unavailable, match="is not in"):
        await put(world, 2)
    with pytest.raises(Unavailable, match="is not in"):
        await secret_keys.rotate_key(world.engine, world.administrator)
    await world.submit(job("a", secrets=(SecretUse(name="S1"),)))
    grant = await (await world.hand()).take()
    assert grant.refused.startswith(f"the secret S1 cannot be read: the key {await key_of(world)} ")
    assert grant.secrets == []
    away.rename(path)
    assert await values(world, 1) == [b"value 1"]


@pytest.mark.covers("secrets.key_file")
async def test_a_wrong_key_file_is_told_apart_from_a_damaged_one(world: World, path: Path) -> None:
    await put(world, 1)
    kept = path.read_bytes()
    path.unlink()
    other = add_key(path)
    world.engine = replace(world.engine, keys=Keyring(path))
    assert f"(there: {other})" in await secret_keys.prepare_keys(world.engine)

    path.write_bytes(kept[:-6] + b"AAAAA\n")
    assert "line 3 of the key file" in await secret_keys.prepare_keys(replace(world.engine, keys=Keyring(path)))
    path.write_bytes(b"\xff\xfe rubbish")
    assert "cannot be read" in await secret_keys.prepare_keys(replace(world.engine, keys=Keyring(path)))

    path.write_bytes(kept)
    assert await values(world, 1) == [b"value 1"]


async def test_a_key_that_was_put_into_the_file_beforehand_is_the_next_one(world: World, path: Path) -> None:
    await put(world, 1)
    prepared = add_key(path)

    assert (await secret_keys.rotate_key(world.engine, world.administrator)).key == prepared
    assert await values(world, 1) == [b"value 1"]


async def test_another_server_on_the_same_file_reads_the_new_key_when_it_meets_it(world: World, path: Path) -> None:
    await put(world, 1)
    other = replace(world.engine, keys=Keyring(path))
    assert other.keys.ids() == [await key_of(world)]
    await secret_keys.rotate_key(world.engine, world.administrator)

    wanted = NewSecret(name="S2", value=SecretValue(b"value 2"))
    await other.run(secrets.set_secret, world.owner, PROJECT, wanted, other.keys)

    assert await values(world, 1, 2) == [b"value 1", b"value 2"]


async def test_two_rotations_at_once_are_refused_and_only_who_runs_the_server_may_rotate(
    world: World, path: Path
) -> None:
    with changing(path), pytest.raises(Conflict, match="being changed already"):
        await secret_keys.rotate_key(world.engine, world.administrator)
    with pytest.raises(Forbidden):
        await secret_keys.rotate_key(world.engine, world.owner)
    with pytest.raises(Conflict):
        await world.engine.run(secret_keys.take_key_into_use, world.administrator, "new", seen="another")

    assert len(read_keys(path)) == 1


@pytest.mark.covers("secrets.at_rest")
async def test_a_secret_moved_to_another_row_or_damaged_cannot_be_read_and_is_left_as_it_is(
    world: World, path: Path
) -> None:
    await put(world, 1, 2)
    keys, key = world.engine.keys, await key_of(world)
    sealed = keys.seal(key, "one", SecretValue(b"value"))

    assert keys.unseal(key, "one", sealed).reveal() == b"value"
    for uid, data in (("two", sealed), ("one", sealed[:-1] + b"\0"), ("one", sealed[:5])):
        with pytest.raises(Unavailable, match="damaged"):
            keys.unseal(key, uid, data)
    assert sealed != keys.seal(key, "one", SecretValue(b"value"))
    assert b"value" not in sealed

    async def damage(tx: Transaction, _actor: Actor) -> None:
        ((secret, _, data), _) = await stored.of_key(tx, key, after=0, count=2)
        await stored.reseal(tx, {secret: stored.Sealed(key=key, data=data[:-1] + b"\0")})

    await world.engine.run(damage, SYSTEM)
    rotation = await secret_keys.rotate_key(world.engine, world.administrator)

    assert (rotation.rewritten, rotation.damaged) == (1, 1)
    assert set(read_keys(path)) == {key, rotation.key}
    assert await values(world, 2) == [b"value 2"]


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "none" / "secrets.keys"
    with pytest.raises(Unavailable, match="cannot be written"):
        write_keys(path, {})
    with changing(path):
        add_key(path)

    assert sorted(os.listdir(path.parent)) == ["secrets.keys", "secrets.keys.lock"]
    assert len(read_keys(path)) == 1
