"""Makes servers: the database, the stores, the engine and the application that answers on one port."""

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from buildyard.adapters.blobs.local import LocalBlobStore
from buildyard.adapters.bus.memory import MemoryBus
from buildyard.adapters.logs.local import LocalLogStore
from buildyard.adapters.sources.git_files import ManifestReader
from buildyard.adapters.sources.git_watching import GitWatcher
from buildyard.apis.build_server.app import PATHS as BUILD_SERVER_PATHS
from buildyard.apis.build_server.app import build_server_app
from buildyard.apis.build_server.auth import BuildServerConfig
from buildyard.apis.dispatch import Dispatcher, Mount
from buildyard.apis.health import health_app
from buildyard.apis.hooks.routes import hooks_app
from buildyard.apis.native.routes import native_app
from buildyard.apis.observe import Observer
from buildyard.apis.sourcehut.config import SourcehutConfig
from buildyard.apis.sourcehut.graphql.app import graphql_app
from buildyard.apis.sourcehut.graphql.execution import GraphqlConfig
from buildyard.apis.sourcehut.routes import PATHS as SOURCEHUT_PATHS
from buildyard.apis.sourcehut.routes import sourcehut_app
from buildyard.apis.sourcehut.web import PATHS as SOURCEHUT_WEB_PATHS
from buildyard.apis.sourcehut.web import web_app
from buildyard.apis.terminals import Switchboard
from buildyard.apis.worker.routes import worker_app
from buildyard.bootstrap.notifiers import notifiers_of, writers_of
from buildyard.bootstrap.schema import prepare_schema
from buildyard.domain.access import SYSTEM
from buildyard.domain.errors import Unavailable
from buildyard.domain.retention import Bounds, What
from buildyard.domain.sources import SourcePolicy
from buildyard.engine import identity
from buildyard.engine.engine import Database, Engine, Policy, fresh_uid, system_clock
from buildyard.engine.keyring import Keyring
from buildyard.engine.loops import keep_time
from buildyard.engine.manifest_plans import ManifestOptions
from buildyard.engine.manifest_readings import keep_reading
from buildyard.engine.polling import Eyes, keep_looking
from buildyard.engine.secret_keys import prepare_keys
from buildyard.engine.sign_in import PasswordGate
from buildyard.engine.signing import SigningKey
from buildyard.engine.usage import UsageBook
from buildyard.engine.yard_book import YardBook
from buildyard.ports import BlobStore, EventBus, LogStore
from buildyard.settings import Settings
from buildyard.store.sqlite import SqliteDatabase
from buildyard.web.start import start_app

if TYPE_CHECKING:
    from buildyard.adapters.blobs.objects import ObjectBlobStore
    from buildyard.adapters.logs.chunked import ChunkedLogs

log = structlog.get_logger()

SQLITE = "sqlite:///"
"""What only some servers need (PostgreSQL, object stores, migrations) is imported where it is used, for its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSteps:
    """What a start made: the administrator's password, if made just now, and the tokens of this machine's own parts."""

    admin_password: str
    operator_token: str
    worker_token: str


class Wakers:
    """Publishes wake-ups after commits, without anyone waiting for them."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._tasks: set[asyncio.Future[None]] = set()

    def wake(self, topics: set[str]) -> None:
        """Publish soon."""
        task = asyncio.ensure_future(self._bus.publish(sorted(topics)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextlib.asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Engine]:
    """The engine of these settings, its schema up to date, its clockwork running; all of it closed at the end."""
    async with contextlib.AsyncExitStack() as stack:
        await prepare_schema(settings.database_url)
        bus = await _open_bus(settings, stack)
        database = await _open_database(settings, Wakers(bus), stack)
        logs, blobs = await _open_stores(settings, stack)
        engine = Engine(
            database=database,
            logs=logs,
            blobs=blobs,
            bus=bus,
            policy=policy_of(settings),
            usage=UsageBook(),
            stored_in=str(settings.data),
            blobs_on_disk=not settings.blobs.url,
            notifiers=notifiers_of(settings),
            credentials={name: Path(path) for name, path in settings.telling.credentials.items()},
            keys=Keyring(settings.key_file),
            signing=SigningKey(settings.signing_key_file),
            manifests=manifest_options(settings),
            writers=writers_of(graphql_config(settings)),
        )
        _prepare_signing(engine)
        if fault := await prepare_keys(engine):
            log.error("secrets_unavailable", error=fault)
        reader = ManifestReader(settings.data / "looks.mirrors", source_policy_of(settings))
        loops = (keep_time(engine), keep_looking(engine, eyes_of(settings)), keep_reading(engine, reader.read))
        for loop in loops:
            stack.push_async_callback(_end, asyncio.create_task(loop))
        yield engine


def _prepare_signing(engine: Engine) -> None:
    try:
        engine.signing.prepare()
        log.info("webhooks_signed", public_key=engine.signing.public())
    except Unavailable as exc:
        log.error("webhooks_not_signed", error=str(exc))


def eyes_of(settings: Settings) -> Eyes:
    """How polls look at repositories: as workers fetch them, with the same rules and variables."""
    folder = settings.data / "looks"
    shutil.rmtree(folder, ignore_errors=True)  # what a server left that was killed while it looked
    watcher = GitWatcher(folder, source_policy_of(settings))
    return Eyes(watcher.heads, watcher.news)


def source_policy_of(settings: Settings) -> SourcePolicy:
    """How the server itself may look at repositories."""
    return SourcePolicy(allow_local=settings.sources.allow_local, environment=settings.source_environment)


def policy_of(settings: Settings) -> Policy:
    """The limits and choices that use-cases are given."""
    return Policy(
        public_url=settings.public_url,
        anonymous_read=settings.server.anonymous_read,
        allow_local_sources=settings.sources.allow_local,
        queue_limit=settings.limits.queued_jobs,
        lease_seconds=settings.server.lease_seconds,
        unsupported_seconds=settings.server.unsupported_seconds,
        cache_bytes=settings.caches.total_bytes,
        upload_bytes=settings.limits.upload_bytes,
        blob_bytes=settings.limits.blob_bytes,
        low_disk_bytes=settings.limits.free_disk_bytes,
        event_retention_seconds=settings.retention.event_hours * 3600.0,
        tidy_disk_bytes=settings.limits.tidy_disk_bytes,
        retention=_bounds_of(settings),
        retention_grace_seconds=settings.retention.grace_minutes * 60.0,
        blob_grace_seconds=settings.retention.blob_grace_minutes * 60.0,
        delivery_tries=settings.telling.tries,
        delivery_timeout_seconds=settings.telling.timeout_seconds,
    )


def _bounds_of(settings: Settings) -> dict[What, Bounds]:
    kept = settings.retention
    return {
        What.BUILDS: Bounds(kept.build_days, kept.build_count, kept.build_bytes),
        What.LOGS: Bounds(kept.log_days, kept.log_count, kept.log_bytes),
        What.ARTIFACTS: Bounds(kept.artifact_days, kept.artifact_count, kept.artifact_bytes),
        What.CACHES: Bounds(kept.cache_days, kept.cache_count, settings.caches.project_bytes),
    }


async def _open_database(settings: Settings, wakers: Wakers, stack: contextlib.AsyncExitStack) -> Database:
    url = settings.database_url
    database: Database
    if url.startswith(SQLITE):
        path = Path(url.removeprefix(SQLITE))
        database = SqliteDatabase(path, clock=system_clock, fresh_uid=fresh_uid, wake=wakers.wake)
    else:
        from buildyard.store.postgres import PostgresDatabase

        database = PostgresDatabase(url, clock=system_clock, fresh_uid=fresh_uid, wake=wakers.wake)
    await database.open()
    stack.push_async_callback(database.close)
    return database


async def _open_bus(settings: Settings, stack: contextlib.AsyncExitStack) -> EventBus:
    if settings.database_url.startswith(SQLITE):
        return MemoryBus()
    from buildyard.adapters.bus.postgres import PostgresBus

    bus = PostgresBus(settings.database_url)
    await bus.open()
    stack.push_async_callback(bus.close)
    return bus


async def _open_stores(settings: Settings, stack: contextlib.AsyncExitStack) -> tuple[LogStore, BlobStore]:
    """Logs and blobs: both in the data folder, or both in one bucket below the prefix of `blobs.url`."""
    logs: ChunkedLogs
    blobs: LocalBlobStore | ObjectBlobStore
    if settings.blobs.url:
        from buildyard.bootstrap.buckets import open_bucket

        logs, blobs = open_bucket(settings)
    else:
        logs = LocalLogStore(settings.data / "logs")
        blobs = LocalBlobStore(settings.data / "blobs")
    stack.push_async_callback(logs.close)
    await blobs.open()
    return logs, blobs


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def first_steps(engine: Engine, settings: Settings) -> FirstSteps:
    """Make sure of the administrator and of the tokens for the command line and the worker of this machine.

    A password is made, and given back, only when the administrator is made and the settings name none.
    """
    given = settings.server.admin_password.reveal()
    password = given or secrets.token_urlsafe(12)
    made = await engine.run(
        identity.ensure_administrator, SYSTEM, await asyncio.to_thread(identity.hash_password, password)
    )
    return FirstSteps(
        admin_password=password if made and not given else "",
        operator_token=await _own_token(engine, settings.operator_token, "operator", ("*",)),
        worker_token=await _own_token(engine, settings.data / "worker.token", "embedded worker", ("runner",)),
    )


async def _own_token(engine: Engine, path: Path, name: str, scopes: tuple[str, ...]) -> str:
    """The token in a file of the data folder; made anew (mode 0600) if there is none or it no longer counts."""
    token = await asyncio.to_thread(_read, path)
    if token:
        is_valid = await engine.read(identity.is_valid_token, SYSTEM, token)
        if is_valid:
            return token
    made = await engine.run(identity.create_token, SYSTEM, "admin", scopes, name=name)
    await asyncio.to_thread(_write, path, made.secret)
    return made.secret


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


def _write(path: Path, token: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"{token}\n")


def build_server_config(settings: Settings) -> BuildServerConfig:
    """How the Build Server API answers."""
    return BuildServerConfig(
        public_url=settings.public_url,
        open=settings.build_server_open,
        hosts=frozenset(name.lower() for name in (*settings.server.allowed_hosts, settings.server.host) if name),
        script_bytes=settings.limits.script_bytes,
        body_bytes=settings.limits.body_bytes,
        enabled=settings.build_server.enabled,
    )


def graphql_config(settings: Settings) -> GraphqlConfig:
    """How GraphQL queries are answered."""
    return GraphqlConfig(playground=settings.sourcehut.graphql_playground)


def manifest_options(settings: Settings) -> ManifestOptions:
    """How jobs made of manifests are run."""
    sourcehut = settings.sourcehut
    return ManifestOptions(
        images=sourcehut.images,
        timeout_s=60 * sourcehut.timeout_minutes,
        shell_s=60 * sourcehut.shell_minutes,
        failed_s=60 * sourcehut.failed_minutes,
        mail=bool(settings.mail.host),
    )


def _sourcehut_mounts(engine: Engine, gate: PasswordGate, settings: Settings) -> list[Mount]:
    """The builds.sr.ht API: REST, GraphQL, files and pages."""
    config = SourcehutConfig(body_bytes=settings.limits.body_bytes, own_only=settings.sourcehut.show == "own")
    rest, web = sourcehut_app(engine, config), web_app(engine, gate)
    return [
        *(Mount(path, "sourcehut", rest) for path in SOURCEHUT_PATHS),
        *(Mount(path, "sourcehut_web", web) for path in SOURCEHUT_WEB_PATHS),
        Mount("/query", "graphql", graphql_app(engine, graphql_config(settings))),
    ]


def server_app(engine: Engine, settings: Settings, book: YardBook | None = None) -> ASGIApp:
    """The application of the whole server: every API at its own paths. `book` is that of its yard file."""
    registry = CollectorRegistry()
    gate = PasswordGate()
    switchboard = Switchboard()
    yard = book or YardBook()
    health = health_app(engine, registry, yard)
    mounts = [
        Mount("/worker/v1", "worker", worker_app(engine, gate, switchboard)),
        Mount(
            "/-/api/v1", "native", native_app(engine, gate, yard, switchboard, body_bytes=settings.limits.body_bytes)
        ),
        Mount("/-/hooks", "hooks", hooks_app(engine, yard.hooks, body_bytes=settings.limits.body_bytes)),
    ]
    build_server = build_server_app(engine, build_server_config(settings))
    mounts += [Mount(path, "build_server", build_server) for path in ("/api", *BUILD_SERVER_PATHS)]
    if settings.sourcehut.enabled:
        mounts += _sourcehut_mounts(engine, gate, settings)
    mounts += [Mount(path, "health", health) for path in ("/health", "/ready", "/live", "/metrics")]
    return Observer(Dispatcher(mounts, fallback=start_app()), registry)
