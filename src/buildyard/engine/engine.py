"""The engine: runs use-cases in transactions, and holds the stores beside the database."""

import os
import shutil
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from buildyard.domain.access import Actor
from buildyard.domain.errors import LimitReached
from buildyard.domain.ids import Moment
from buildyard.domain.notifications import Action
from buildyard.domain.retention import NO_BOUNDS, Bounds, What
from buildyard.engine.keyring import Keyring
from buildyard.engine.manifest_plans import ManifestOptions
from buildyard.engine.signing import SigningKey
from buildyard.engine.usage import UsageBook
from buildyard.ports import BlobStore, Document, EventBus, Letter, LogStore, Notifier
from buildyard.store.transactions import Transaction

if TYPE_CHECKING:
    from buildyard.store.deliveries import Delivery
    from buildyard.store.postgres import PostgresDatabase
    from buildyard.store.sqlite import SqliteDatabase

T = TypeVar("T")
P = ParamSpec("P")
UseCase = Callable[Concatenate[Transaction, Actor, P], Coroutine[Any, Any, T]]
Writer: TypeAlias = "Callable[[Engine, Delivery], Coroutine[Any, Any, Letter | Document]]"
"""Words a message; raises NotFound or Unavailable where it cannot."""

Database: TypeAlias = "SqliteDatabase | PostgresDatabase"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits and choices of this server that use-cases are given."""

    public_url: str
    anonymous_read: bool = True
    allow_local_sources: bool = False
    queue_limit: int = 200_000
    cache_bytes: int = 20 * 1024**3
    lease_seconds: float = 30.0
    heartbeat_seconds: float = 5.0
    blob_grace_seconds: float = 3600.0
    event_retention_seconds: float = 6 * 3600.0
    upload_bytes: int = 2 * 1024**3
    blob_bytes: int = 4 * 1024**3
    low_disk_bytes: int = 200 * 1024**2
    delivery_tries: int = 12
    delivery_timeout_seconds: float = 20.0
    unsupported_seconds: float = 0.0
    tidy_disk_bytes: int = 0
    retention: Mapping[What, Bounds] = field(default_factory=dict)
    retention_grace_seconds: float = 600.0

    def bounds(self, what: What) -> Bounds:
        """The server's own rule; projects and pipelines may have others."""
        return self.retention.get(what, NO_BOUNDS)


class DiskLevel(IntEnum):
    """How full the data folder's disk is: `low`: tidied at once; `critical`: no new work is taken."""

    OK = 0
    LOW = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """All that functions around use-cases need.

    `stored_in` is the folder whose disk must not fill up; `blobs_on_disk`: removing blobs makes room there.
    `credentials` are the files of the credentials that the settings name. `writers` word the messages of targets with
    a dialect.
    `manifests` says how jobs made of manifests are run.
    """

    database: Database
    logs: LogStore
    blobs: BlobStore
    bus: EventBus
    policy: Policy
    usage: UsageBook
    stored_in: str = ""
    blobs_on_disk: bool = True
    notifiers: Mapping[Action, Notifier] = field(default_factory=dict)
    credentials: Mapping[str, Path] = field(default_factory=dict)
    keys: Keyring = field(default_factory=Keyring)
    signing: SigningKey = field(default_factory=SigningKey)
    writers: "Mapping[str, Writer]" = field(default_factory=dict)
    manifests: ManifestOptions = field(default_factory=ManifestOptions)

    def free_bytes(self) -> int | None:
        """How much room the data folder's disk has; None if nobody looks after it."""
        return shutil.disk_usage(self.stored_in).free if self.stored_in else None

    def disk_level(self) -> DiskLevel:
        """How full it is now."""
        free = self.free_bytes()
        if free is None or free >= max(self.policy.tidy_disk_bytes, self.policy.low_disk_bytes):
            return DiskLevel.OK
        return DiskLevel.CRITICAL if free < self.policy.low_disk_bytes else DiskLevel.LOW

    def require_space(self) -> None:
        """Raise LimitReached if the disk is too full to take new work."""
        if self.disk_level() is DiskLevel.CRITICAL:
            raise LimitReached("the server's disk is nearly full: no new work is taken until there is room")

    async def run(self, use_case: UseCase[P, T], actor: Actor, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a use-case in a transaction; it may be run again after a conflict. Durable when this returns."""
        return await self.database.run(lambda tx: use_case(tx, actor, *args, **kwargs))

    async def read(self, use_case: UseCase[P, T], actor: Actor, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a use-case that only reads, on committed data."""
        return await self.database.read(lambda tx: use_case(tx, actor, *args, **kwargs))


def system_clock() -> Moment:
    """The machine's clock."""
    return Moment(time.time_ns() // 1000)


def fresh_uid() -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, 74 random bits."""
    random = int.from_bytes(os.urandom(10)) & ((1 << 74) - 1)
    value = (
        (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
