"""What a use-case works through: the statements of one transaction, its time, and what follows its commit."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from buildyard.domain.builds import Build
from buildyard.domain.errors import Conflict
from buildyard.domain.ids import Moment
from buildyard.store.statements import Row, Statement, Value


class Moved(Conflict):
    """A row is not as the body read it; the body may be run again."""


class Connection(Protocol):
    """A database connection inside a transaction: SQLite's never yields, PostgreSQL's awaits."""

    async def execute(self, statement: Statement, values: Mapping[str, Value]) -> int:
        """Run a statement and say how many rows it changed."""
        ...

    async def execute_many(self, statement: Statement, rows: Iterable[Mapping[str, Value]]) -> None:
        """Run a statement once for each of `rows`."""
        ...

    async def fetch(self, statement: Statement, values: Mapping[str, Value]) -> list[Row]:
        """Run a statement and give all its rows."""
        ...

    async def fetch_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> list[Row]:
        """Run a statement once for each of `rows`, in their order, and give the rows of all: one trip to the server."""
        ...

    async def allocate(self, table: str, count: int) -> list[int]:
        """Take `count` fresh ids of `table`, ascending."""
        ...


class Transaction:
    """One transaction. A use-case may be run again after a conflict, so it acts only through this.

    `now` is the same throughout, and the only clock. `fresh_uid` makes UUIDv7s. Events, counters,
    queue lengths and what is to be told are noted here and written at the end (`store.pending`), in one order for
    all, so that rows that many transactions touch are locked briefly and never crosswise.
    """

    __slots__ = (
        "_changes",
        "_connection",
        "callbacks",
        "fresh_uid",
        "now",
        "pending_counts",
        "pending_events",
        "pending_lanes",
        "pending_news",
        "pending_updates",
        "pending_usage",
        "topics",
    )

    def __init__(self, connection: Connection, now: Moment, fresh_uid: Callable[[], str]) -> None:
        self._connection = connection
        self.now = now
        self.fresh_uid = fresh_uid
        self.topics: set[str] = set()
        self.callbacks: list[Callable[[], None]] = []
        self.pending_events: list[Mapping[str, Value]] = []
        self.pending_counts: Counter[tuple[str, int, str]] = Counter()
        self.pending_lanes: Counter[int] = Counter()
        self.pending_usage: Counter[tuple[int, str]] = Counter()
        self.pending_news: dict[tuple[int, str], Build] = {}
        self.pending_updates: dict[int, str] = {}
        self._changes: dict[Statement, list[tuple[str, Mapping[str, Value]]]] = {}

    async def execute(self, statement: Statement, **values: Value) -> int:
        """Run a statement and say how many rows it changed."""
        await self.write_changes()
        return await self._connection.execute(statement, values)

    async def execute_many(self, statement: Statement, rows: Iterable[Mapping[str, Value]]) -> None:
        """Run a statement once for each of `rows`."""
        await self.write_changes()
        await self._connection.execute_many(statement, rows)

    async def fetch(self, statement: Statement, **values: Value) -> list[Row]:
        """All rows."""
        await self.write_changes()
        return await self._connection.fetch(statement, values)

    async def fetch_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> list[Row]:
        """Run a statement once for each of `rows`, in their order, and give the rows of all: one trip to the server."""
        await self.write_changes()
        return await self._connection.fetch_many(statement, rows) if rows else []

    async def fetch_one(self, statement: Statement, **values: Value) -> Row | None:
        """The first row, if any."""
        rows = await self.fetch(statement, **values)
        return rows[0] if rows else None

    async def allocate(self, table: str, count: int = 1) -> list[int]:
        """Take `count` fresh ids of `table`, ascending; they are spent even if the transaction fails."""
        return await self._connection.allocate(table, count)

    async def change(self, statement: Statement, what: str, **values: Value) -> None:
        """Note a guarded write that returns the row it changes: exactly one must, else Moved, saying `what`.

        It is written before the next statement, or at the end, together with others of its kind.
        """
        self._changes.setdefault(statement, []).append((what, values))

    async def write_changes(self) -> None:
        """Write the guarded writes noted so far."""
        while self._changes:
            statement, noted = next(iter(self._changes.items()))
            del self._changes[statement]
            changed = await self._connection.fetch_many(statement, [values for _, values in noted])
            if len(changed) != len(noted):
                raise Moved(f"{', '.join(dict.fromkeys(what for what, _ in noted))}: changed by someone else")

    def wake(self, *topics: str) -> None:
        """Wake whoever waits for these topics, once the transaction is committed."""
        self.topics.update(topics)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the transaction is committed; it must neither block nor raise."""
        self.callbacks.append(callback)
