"""What the server must remember of itself."""

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.store.statements import Statement, given
from buildyard.store.tables import settings
from buildyard.store.transactions import Transaction

BY_NAME = Statement(select(settings.c.value).where(settings.c.name == given("called")))
LOCKED = Statement(select(settings.c.value).where(settings.c.name == given("called")).with_for_update())
BY_NAME_SHARED = Statement(
    select(settings.c.value).where(settings.c.name == given("called")).with_for_update(read=True)
)
CHANGE = Statement(
    update(settings)
    .where(settings.c.name == given("called"), settings.c.value == given("seen"))
    .values(value=given("new"))
)
ADD = Statement(insert(settings).values(name=given("name"), value=given("value")).on_conflict_do_nothing())

_VALUE = insert(settings).values(name=given("name"), value=given("value"))
PUT = Statement(_VALUE.on_conflict_do_update(index_elements=["name"], set_={"value": _VALUE.excluded.value}))


async def find(tx: Transaction, name: str, *, hold: bool = False) -> str | None:
    """What is remembered under a name; `hold` keeps it from being changed until the end of the transaction."""
    row = await tx.fetch_one(BY_NAME_SHARED if hold else BY_NAME, called=name)
    return row[0] if row else None


async def find_or_add(tx: Transaction, name: str, value: str) -> str:
    """What is remembered under a name: `value` if nothing was; safe against a second maker."""
    await tx.execute(ADD, name=name, value=value)
    found = await find(tx, name)
    assert found is not None
    return found


async def put(tx: Transaction, name: str, value: str) -> None:
    """Remember a value in place of the one before."""
    await tx.execute(PUT, name=name, value=value)


async def lock(tx: Transaction, name: str) -> None:
    """Let transactions that lock this name come one after the other."""
    await tx.execute(ADD, name=name, value="")
    await tx.fetch(LOCKED, called=name)


async def change(tx: Transaction, name: str, *, seen: str, value: str) -> bool:
    """Remember something else; False if it is no longer what was seen."""
    return bool(await tx.execute(CHANGE, called=name, seen=seen, new=value))
