"""Deliveries of forges that were taken, so that a repeated one changes nothing."""

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.ids import Moment
from buildyard.store.statements import Statement, given
from buildyard.store.tables import hook_deliveries
from buildyard.store.transactions import Transaction

_ONE = (hook_deliveries.c.hook == given("of_hook"), hook_deliveries.c.key == given("of_key"))
BEGIN = Statement(
    insert(hook_deliveries)
    .values({column.name: given(column.name) for column in hook_deliveries.columns})
    .on_conflict_do_nothing()
)
ANSWER = Statement(select(hook_deliveries.c.answer).where(*_ONE))
FINISH = Statement(update(hook_deliveries).where(*_ONE).values(answer=given("text")))
OLD = Statement(
    select(hook_deliveries.c.hook, hook_deliveries.c.key)
    .where(hook_deliveries.c.received_at < given("before"))
    .order_by(hook_deliveries.c.received_at)
    .limit(given("most"))
)
DROP = Statement(delete(hook_deliveries).where(*_ONE))


async def begin(tx: Transaction, hook: str, key: str, *, event: str) -> bool:
    """Take a delivery; False if it was taken before. Who takes the same one meanwhile waits for our commit."""
    return bool(await tx.execute(BEGIN, hook=hook, key=key, event=event, received_at=tx.now, answer=""))


async def answer_of(tx: Transaction, hook: str, key: str) -> str:
    """What was answered to a delivery."""
    row = await tx.fetch_one(ANSWER, of_hook=hook, of_key=key)
    return row[0] if row else ""


async def finish(tx: Transaction, hook: str, key: str, *, answer: str) -> None:
    """Note the answer to a delivery that this transaction took."""
    await tx.execute(FINISH, of_hook=hook, of_key=key, text=answer)


async def drop_before(tx: Transaction, moment: Moment, most: int) -> int:
    """Forget the oldest deliveries from before a moment."""
    old = await tx.fetch(OLD, before=moment, most=most)
    await tx.execute_many(DROP, [{"of_hook": hook, "of_key": key} for hook, key in old])
    return len(old)
