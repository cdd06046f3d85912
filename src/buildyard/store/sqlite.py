"""SQLite: one writing connection whose transactions share commits, and readers of committed data.

Use-case bodies run one at a time, each in a savepoint of the open batch, without ever yielding to
the event loop; a batch is committed durably when nobody queues, after 64 bodies, or after 2 ms.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from buildyard.domain.errors import Conflict, Unavailable
from buildyard.domain.ids import Moment
from buildyard.store.pending import flush
from buildyard.store.statements import Row, Statement, Value
from buildyard.store.transactions import Transaction

T = TypeVar("T")
Body = Callable[[Transaction], Coroutine[Any, Any, T]]

BATCH_BODIES = 64
BATCH_SECONDS = 0.002
INLINE_READ_SECONDS = 0.005
SLOW_READERS = 2
BUSY_SECONDS = 5.0
"""How long a write waits while another process holds the file's write lock (a shell, a backup)."""
BUSY_POLL_SECONDS = 0.02
OURS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
"""Errors of SQLite that tell of a fault in a statement or its values, not of the file."""


class _Slow(Exception):
    """An inline read took too long and goes to a thread."""


class SqliteConnection:
    """One `sqlite3` connection; its coroutines never suspend."""

    __slots__ = ("_next_ids", "raw")

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self._next_ids: dict[str, int] = {}

    async def execute(self, statement: Statement, values: Mapping[str, Value]) -> int:
        """See Transaction.execute."""
        return self.raw.execute(statement.sqlite, values).rowcount

    async def execute_many(self, statement: Statement, rows: Iterable[Mapping[str, Value]]) -> None:
        """See Transaction.execute_many."""
        self.raw.executemany(statement.sqlite, rows)

    async def fetch(self, statement: Statement, values: Mapping[str, Value]) -> list[Row]:
        """See Transaction.fetch."""
        return self.raw.execute(statement.sqlite, values).fetchall()

    async def fetch_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> list[Row]:
        """See Transaction.fetch_many."""
        text, execute = statement.sqlite, self.raw.execute
        return [row for values in rows for row in execute(text, values)]

    async def allocate(self, table: str, count: int) -> list[int]:
        """Ids come from memory: this process is the only writer, and AUTOINCREMENT remembers the highest used."""
        first = self._next_ids.get(table)
        if first is None:
            row = self.raw.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
            first = (row[0] if row else 0) + 1
        self._next_ids[table] = first + count
        return list(range(first, first + count))


@dataclass(slots=True)
class _Batch:
    """Bodies that will be committed together."""

    opened: float
    done: asyncio.Future[None]
    bodies: int = 0
    topics: set[str] = field(default_factory=set)
    callbacks: list[Callable[[], None]] = field(default_factory=list)


class SqliteDatabase:
    """The database file of one server; a second server on the same file is refused."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], Moment],
        fresh_uid: Callable[[], str],
        wake: Callable[[set[str]], None],
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._clock = clock
        self._fresh_uid = fresh_uid
        self._wake = wake
        self._turn = asyncio.Lock()
        self._queued = 0
        self._closing = False
        self._batch: _Batch | None = None
        self._committing: asyncio.Future[None] | None = None
        self._committer = ThreadPoolExecutor(1, "sqlite-commit")
        self._slow = ThreadPoolExecutor(SLOW_READERS, "sqlite-read")
        self._slow_free: list[SqliteConnection] = []
        self._lock_file: int | None = None
        self._writer: SqliteConnection | None = None
        self._reader: SqliteConnection | None = None

    async def open(self) -> None:
        """Take the file for this process; raises Unavailable if another server has it or it cannot be opened."""
        handle = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._writer = self._connect()
            self._reader = self._connect(query_only=True)
            self._slow_free = [self._connect(query_only=True) for _ in range(SLOW_READERS)]
        except BlockingIOError as exc:
            os.close(handle)
            raise Unavailable(f"another server uses the database {self._path}") from exc
        except sqlite3.Error as exc:
            os.close(handle)
            raise Unavailable(f"the database {self._path} cannot be opened: {exc}") from exc
        self._lock_file = handle

    def _connect(self, *, query_only: bool = False) -> SqliteConnection:
        raw = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=10
        )
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("PRAGMA foreign_keys = ON")
        raw.execute("PRAGMA temp_store = MEMORY")
        raw.execute("PRAGMA cache_size = -16000")
        if query_only:
            raw.execute("PRAGMA query_only = ON")
            raw.execute("PRAGMA busy_timeout = 200")
        else:
            raw.execute("PRAGMA wal_autocheckpoint = 4000")
            raw.execute("PRAGMA busy_timeout = 0")
        return SqliteConnection(raw)

    async def close(self) -> None:
        """Finish what is committing and let go of the file; later calls of `run` and `read` are refused."""
        self._closing = True
        await self._turn.acquire()
        while self._batch is not None:
            await self._commit(self._batch)
            await self._turn.acquire()
        writer, reader = self._writer, self._reader
        self._writer = self._reader = None
        self._turn.release()
        await asyncio.to_thread(self._slow.shutdown)
        self._committer.shutdown()
        for connection in (writer, reader, *self._slow_free):
            if connection is not None:
                connection.raw.close()
        self._slow_free = []
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    async def run(self, body: Body[T]) -> T:
        """Run `body` in a transaction; returns or raises only after what it saw or did is durable."""
        if self._closing or self._writer is None:
            raise Unavailable("the database is closed")
        give_up = time.monotonic() + self._busy_seconds
        await self._take_turn()
        failure: Exception | None = None
        try:
            batch = self._batch or await self._begin(give_up)
            try:
                result = self._run_body(batch, body)
            except Exception as exc:  # noqa: BLE001 - raised again once the batch it saw is durable
                failure = exc
        except BaseException:
            self._turn.release()
            raise
        if self._batch is batch and self._is_due(batch):
            self._committing = asyncio.ensure_future(self._commit(batch))
        else:
            self._turn.release()
        await asyncio.shield(batch.done)
        if failure is not None:
            raise failure
        return result

    async def _take_turn(self) -> None:
        self._queued += 1
        try:
            await self._turn.acquire()
        except BaseException:
            self._queued -= 1
            self._committing = asyncio.ensure_future(self._commit_left())
            raise
        self._queued -= 1

    async def _commit_left(self) -> None:
        """Commit the open batch, if the one whose turn would have done it went away."""
        await self._turn.acquire()
        if self._batch is not None:
            await self._commit(self._batch)
        else:
            self._turn.release()

    def _is_due(self, batch: _Batch) -> bool:
        return self._queued == 0 or batch.bodies >= BATCH_BODIES or time.monotonic() - batch.opened >= BATCH_SECONDS

    async def _begin(self, give_up: float) -> _Batch:
        """Open a batch; waits for the file's lock without blocking the event loop, at most until `give_up`."""
        while not self._try_begin(last=time.monotonic() >= give_up):  # noqa: ASYNC110 - other processes tell nothing
            await asyncio.sleep(BUSY_POLL_SECONDS)
        self._batch = _Batch(opened=time.monotonic(), done=asyncio.get_running_loop().create_future())
        return self._batch

    def _try_begin(self, *, last: bool) -> bool:
        if self._writer is None:
            raise Unavailable("the database is closed")
        try:
            self._writer.raw.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as exc:
            if exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY and not last:
                return False
            raise Unavailable(f"the database cannot be written: {exc}") from exc
        return True

    def _run_body(self, batch: _Batch, body: Body[T]) -> T:
        assert self._writer is not None
        raw = self._writer.raw
        tx = Transaction(self._writer, self._clock(), self._fresh_uid)
        batch.bodies += 1
        try:
            raw.execute("SAVEPOINT body")
            result = drive(body(tx))
            drive(flush(tx))
            raw.execute("RELEASE body")
        except BaseException as exc:
            self._undo_body(batch)
            if isinstance(exc, sqlite3.Error):
                raise _translated(exc) from exc
            raise
        batch.topics |= tx.topics
        batch.callbacks += tx.callbacks
        return result

    def _undo_body(self, batch: _Batch) -> None:
        """Roll back one body; if SQLite has already dropped the whole transaction, the batch has failed."""
        assert self._writer is not None
        try:
            self._writer.raw.execute("ROLLBACK TO body")
            self._writer.raw.execute("RELEASE body")
        except sqlite3.Error as exc:
            self._fail(batch, exc)

    def _fail(self, batch: _Batch, exc: Exception) -> None:
        assert self._writer is not None
        self._batch = None
        if self._writer.raw.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._writer.raw.execute("ROLLBACK")
        if not batch.done.done():
            batch.done.set_exception(Unavailable(f"the database could not commit: {exc}"))
            batch.done.exception()

    async def _commit(self, batch: _Batch) -> None:
        """Commit in a thread while holding the turn, then let the next body in and answer all of the batch."""
        assert self._writer is not None
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._committer, self._writer.raw.execute, "COMMIT")
        except sqlite3.Error as exc:
            self._fail(batch, exc)
            return
        finally:
            self._batch = None
            self._turn.release()
        batch.done.set_result(None)
        for callback in batch.callbacks:
            callback()
        if batch.topics:
            self._wake(batch.topics)

    async def read(self, body: Body[T]) -> T:
        """Run a reading `body` on committed data; a slow one is repeated in a thread."""
        if self._reader is None:
            raise Unavailable("the database is closed")
        deadline = time.monotonic() + INLINE_READ_SECONDS
        try:
            return self._read_on(self._reader, body, deadline)
        except _Slow:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._slow, self._read_slowly, body)

    def _read_slowly(self, body: Body[T]) -> T:
        connection = self._slow_free.pop()
        try:
            return self._read_on(connection, body, None)
        finally:
            self._slow_free.append(connection)

    def _read_on(self, connection: SqliteConnection, body: Body[T], deadline: float | None) -> T:
        raw = connection.raw
        if deadline is not None:
            limit = deadline
            raw.set_progress_handler(lambda: time.monotonic() > limit, 2000)
        try:
            raw.execute("BEGIN")
            return drive(body(Transaction(connection, self._clock(), self._fresh_uid)))
        except sqlite3.Error as exc:
            if deadline is not None and exc.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise _Slow from None
            raise _translated(exc) from exc
        finally:
            raw.set_progress_handler(None, 0)
            if raw.in_transaction:
                raw.execute("COMMIT")


def _translated(exc: sqlite3.Error) -> Exception:
    """What a caller may see of an error: a clash of unique values, or that the file failed; else the fault itself."""
    if exc.sqlite_errorcode in (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY):
        return Conflict("the same thing was made at the same moment")
    return exc if isinstance(exc, OURS) else Unavailable(f"the database failed: {exc}")


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends; one that does broke the rule of transactions, which is an error."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    raise RuntimeError("a use-case awaited something other than its transaction")
