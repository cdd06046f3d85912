"""Terminals that were wished for and that their worker has not opened yet."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select

from buildyard.domain.ids import AttemptId, Moment, WorkerId
from buildyard.store.statements import Row, Statement, given
from buildyard.store.tables import terminals
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class WishedTerminal:
    """A terminal in an attempt's workspace; who knows the `key` may open it."""

    key: str
    attempt: AttemptId
    worker: WorkerId
    rows: int
    columns: int
    term: str
    created_at: Moment


_TERMINAL = (
    terminals.c.key,
    terminals.c.attempt,
    terminals.c.worker,
    terminals.c.rows,
    terminals.c.columns,
    terminals.c.term,
    terminals.c.created_at,
)
ADD = Statement(insert(terminals).values({column.name: given(column.name) for column in terminals.columns}))
BY_KEY = Statement(select(*_TERMINAL).where(terminals.c.key == given("of_key")))
OF_WORKER = Statement(
    select(*_TERMINAL)
    .where(terminals.c.worker == given("of"), terminals.c.created_at >= given("since"))
    .order_by(terminals.c.created_at)
)
REMOVE = Statement(delete(terminals).where(terminals.c.key == given("of_key")))
DROP_BEFORE = Statement(
    delete(terminals).where(terminals.c.worker == given("of"), terminals.c.created_at < given("before"))
)


def _terminal(row: Row) -> WishedTerminal:
    key, attempt, worker, rows, columns, term, created_at = row
    return WishedTerminal(
        key=key, attempt=attempt, worker=worker, rows=rows, columns=columns, term=term, created_at=created_at
    )


async def add(tx: Transaction, wished: WishedTerminal, *, outdated: Moment) -> None:
    """Wish for a terminal; wishes to the same worker from before `outdated`, which nobody waits for, are forgotten."""
    await tx.execute(DROP_BEFORE, of=wished.worker, before=outdated)
    await tx.execute(
        ADD,
        key=wished.key,
        attempt=wished.attempt,
        worker=wished.worker,
        rows=wished.rows,
        columns=wished.columns,
        term=wished.term,
        created_at=wished.created_at,
    )


async def find(tx: Transaction, key: str) -> WishedTerminal | None:
    """The wish with this key."""
    row = await tx.fetch_one(BY_KEY, of_key=key)
    return _terminal(row) if row else None


async def of_worker(tx: Transaction, worker: WorkerId, *, since: Moment) -> list[WishedTerminal]:
    """What a worker is wished to open, oldest first."""
    return [_terminal(row) for row in await tx.fetch(OF_WORKER, of=worker, since=since)]


async def remove(tx: Transaction, key: str) -> bool:
    """Forget a wish; False if there is none."""
    return await tx.execute(REMOVE, of_key=key) == 1
