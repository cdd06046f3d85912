"""What the machine did: one row for every change of a state, written in the transaction that changed it."""

from sqlalchemy import delete, select

from buildyard.domain.builds import State
from buildyard.domain.ids import Moment
from buildyard.domain.states import Phase, Result
from buildyard.store.statements import Statement, given, insertion
from buildyard.store.tables import events
from buildyard.store.transactions import Transaction

ADD = insertion(events, "seq")
DROP = Statement(
    delete(events).where(
        events.c.seq.in_(
            select(events.c.seq).where(events.c.at < given("before")).order_by(events.c.at).limit(given("most"))
        )
    )
)


def add(
    tx: Transaction, kind: str, entity: str, entity_id: int, *, project: int | None, build: int | None, data: str = ""
) -> None:
    """Note an event (`finished` of `build` 7); it is written with the transaction."""
    tx.pending_events.append(
        {
            "at": tx.now,
            "kind": kind,
            "entity": entity,
            "entity_id": entity_id,
            "project": project,
            "build": build,
            "data": data,
        }
    )
    if build is not None:
        tx.wake(f"build:{build}")


def add_move(
    tx: Transaction, entity: str, entity_id: int, before: State, after: State, *, project: int, build: int
) -> None:
    """Note that work moved to another phase; work that ran and ended between two reports did both."""
    if after.phase is before.phase:
        return
    if after.phase is Phase.FINISHED and before.phase in (Phase.QUEUED, Phase.LEASED) and _has_run(after):
        add(tx, "running", entity, entity_id, project=project, build=build)
    kind = "lost" if after.lost else after.phase.name.lower()
    add(tx, kind, entity, entity_id, project=project, build=build)


def _has_run(state: State) -> bool:
    return state.result not in (None, Result.CANCELLED, Result.SKIPPED, Result.DEPENDENCY_FAILED)


async def drop_before(tx: Transaction, before: Moment, count: int) -> int:
    """Delete at most `count` events older than `before`."""
    return await tx.execute(DROP, before=before, most=count)
