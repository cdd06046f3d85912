"""PostgreSQL: a pool of connections, READ COMMITTED, conflicts retried."""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg

from buildyard.domain.errors import Conflict, Unavailable
from buildyard.domain.ids import Moment
from buildyard.store.pending import flush
from buildyard.store.statements import Row, Statement, Value
from buildyard.store.transactions import Moved, Transaction

T = TypeVar("T")
Body = Callable[[Transaction], Coroutine[Any, Any, T]]

TRIES = 4
CONFLICTS = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.UniqueViolationError, Moved)
"""After these a body is run again; it then sees what it clashed with."""
GONE = (
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""The connection broke. Before COMMIT was sent nothing can have happened, so the body may be run again."""
CACHED_STATEMENTS = 1000


class _Cut(Exception):
    """The connection broke before COMMIT was sent."""


LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.CannotConnectNowError,
)


class PostgresConnection:
    """One connection of the pool, inside a transaction."""

    __slots__ = ("raw",)

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    async def execute(self, statement: Statement, values: Mapping[str, Value]) -> int:
        """See Transaction.execute; the count is the last word of the status (`UPDATE 1`)."""
        status: str = await self.raw.execute(statement.postgres[0], *statement.arguments(values))
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def execute_many(self, statement: Statement, rows: Iterable[Mapping[str, Value]]) -> None:
        """See Transaction.execute_many."""
        await self.raw.executemany(statement.postgres[0], [statement.arguments(row) for row in rows])

    async def fetch(self, statement: Statement, values: Mapping[str, Value]) -> list[Row]:
        """See Transaction.fetch."""
        rows: list[Row] = await self.raw.fetch(statement.postgres[0], *statement.arguments(values))
        return rows

    async def fetch_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> list[Row]:
        """See Transaction.fetch_many."""
        if len(rows) == 1:
            return await self.fetch(statement, rows[0])
        found: list[Row] = await self.raw.fetchmany(statement.postgres[0], [statement.arguments(row) for row in rows])
        return found

    async def allocate(self, table: str, count: int) -> list[int]:
        """Ids come from the table's sequence."""
        rows = await self.raw.fetch(
            "SELECT nextval(pg_get_serial_sequence($1, 'id')) FROM generate_series(1, $2)", table, count
        )
        return sorted(row[0] for row in rows)


class PostgresDatabase:
    """A PostgreSQL database, shared by any number of servers."""

    def __init__(
        self, dsn: str, *, clock: Callable[[], Moment], fresh_uid: Callable[[], str], wake: Callable[[set[str]], None]
    ) -> None:
        self._dsn = dsn
        self._clock = clock
        self._fresh_uid = fresh_uid
        self._wake = wake
        self._pool: Any = None

    async def open(self) -> None:
        """Connect; raises Unavailable with the server's words if that fails."""
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=2,
                max_size=16,
                command_timeout=60,
                statement_cache_size=CACHED_STATEMENTS,
                max_cached_statement_lifetime=0,
                reset=_keep_as_it_is,
                server_settings={"application_name": "buildyard"},
            )
        except (*LOST, asyncpg.PostgresError) as exc:
            raise Unavailable(f"PostgreSQL cannot be reached: {exc}") from exc

    async def close(self) -> None:
        """Let all connections end."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def run(self, body: Body[T]) -> T:
        """Run `body` in a transaction, again after a conflict or a cut; returns when it is committed."""
        for attempt in range(TRIES):
            try:
                tx, result = await self._once(body)
            except (*CONFLICTS, _Cut) as exc:
                if attempt == TRIES - 1:
                    raise _given_up(exc) from exc
                continue
            for callback in tx.callbacks:
                callback()
            if tx.topics:
                self._wake(tx.topics)
            return result
        raise AssertionError("unreachable")

    async def _once(self, body: Body[T]) -> tuple[Transaction, T]:
        sent = False
        try:
            async with self._acquire() as raw, raw.transaction():
                tx = Transaction(PostgresConnection(raw), self._clock(), self._fresh_uid)
                result = await body(tx)
                await flush(tx)
                sent = True
        except asyncpg.DataError:
            raise
        except LOST as exc:
            if isinstance(exc, GONE) and not sent:
                raise _Cut from exc
            raise Unavailable(f"the database failed: {exc}") from exc
        return tx, result

    def _acquire(self) -> Any:
        if self._pool is None:
            raise Unavailable("the database is closed")
        return self._pool.acquire()

    async def read(self, body: Body[T]) -> T:
        """Run a reading `body`; each statement sees what was committed when it began."""
        for attempt in range(TRIES):
            try:
                async with self._acquire() as raw:
                    return await body(Transaction(PostgresConnection(raw), self._clock(), self._fresh_uid))
            except asyncpg.DataError:
                raise
            except LOST as exc:
                if attempt == TRIES - 1 or not isinstance(exc, GONE):
                    raise Unavailable(f"the database failed: {exc}") from exc
        raise AssertionError("unreachable")


async def _keep_as_it_is(_connection: Any) -> None:
    """What is done to a connection that goes back to the pool: nothing, for bodies change nothing of its session."""


def _given_up(exc: Exception) -> Exception:
    if isinstance(exc, Moved):
        return exc
    if isinstance(exc, asyncpg.UniqueViolationError):
        return Conflict("the same thing was made at the same moment")
    if isinstance(exc, _Cut):
        return Unavailable(f"the database failed: {exc.__cause__}")
    return Unavailable("the database was too busy; try again")
