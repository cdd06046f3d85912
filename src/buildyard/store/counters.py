"""Totals that are kept, so that they never have to be counted."""

from collections.abc import Mapping

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert

from buildyard.store.statements import Statement, given
from buildyard.store.tables import counters
from buildyard.store.transactions import Transaction

_ROW = insert(counters).values({name: bindparam(name) for name in ("kind", "owner", "name", "value")})
BUMP = Statement(
    _ROW.on_conflict_do_update(
        index_elements=["kind", "owner", "name"], set_={"value": counters.c.value + _ROW.excluded.value}
    )
)
VALUE = Statement(
    select(counters.c.value).where(
        counters.c.kind == given("of_kind"), counters.c.owner == given("of_owner"), counters.c.name == given("called")
    )
)
ALL_OF = Statement(
    select(counters.c.name, counters.c.value).where(
        counters.c.kind == given("of_kind"), counters.c.owner == given("of_owner")
    )
)


def bump(tx: Transaction, kind: str, owner: int, by: Mapping[str, int]) -> None:
    """Add to the counters `by` names of the `kind` (`project`, `pipeline`, `server`) with id `owner`."""
    for name, value in by.items():
        tx.pending_counts[kind, owner, name] += value


async def value(tx: Transaction, kind: str, owner: int, name: str) -> int:
    """What a counter stands at; 0 if it was never bumped."""
    row = await tx.fetch_one(VALUE, of_kind=kind, of_owner=owner, called=name)
    return int(row[0]) if row else 0


async def all_of(tx: Transaction, kind: str, owner: int) -> dict[str, int]:
    """Every counter of one owner."""
    return {name: int(count) for name, count in await tx.fetch(ALL_OF, of_kind=kind, of_owner=owner)}
