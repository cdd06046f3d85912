"""Triggers: what they are, which pipelines they start, and where each stands."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import BigInteger, Integer, bindparam, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.errors import NotFound
from buildyard.domain.ids import BuildId, Moment, PipelineId, ProjectId, TriggerId
from buildyard.domain.notifications import Event
from buildyard.domain.specs import GitSource
from buildyard.domain.triggers import SPECS, Spec, TriggerKind, kind_of
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import (
    ended_upstreams,
    pipelines,
    projects,
    trigger_pipelines,
    trigger_states,
    trigger_upstreams,
    triggers,
)
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """Why builds of its pipelines start; `defined_by` is the API or file that may change it."""

    id: TriggerId
    project: ProjectId
    kind: TriggerKind
    name: str
    enabled: bool
    spec: Spec
    defined_by: str
    created_at: Moment
    updated_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerState:
    """Where a trigger stands: `revision` is what it saw last, `error` why it could not do its work, since `error_at`.

    Whoever works on a due trigger takes it until `leased_until`.
    """

    trigger: TriggerId
    checked_at: Moment | None
    next_at: Moment | None
    requested_at: Moment | None
    revision: str
    error: str
    error_at: Moment | None
    leased_until: Moment | None


@dataclass(frozen=True, slots=True)
class Watched:
    """A pipeline with a source, and the project that it belongs to."""

    pipeline: PipelineId
    source: GitSource
    project: str


_TRIGGER = (
    triggers.c.id,
    triggers.c.project,
    triggers.c.kind,
    triggers.c.name,
    triggers.c.enabled,
    triggers.c.spec,
    triggers.c.defined_by,
    triggers.c.created_at,
    triggers.c.updated_at,
)
_STATE = tuple(column for column in trigger_states.columns if column.name != "kind")

BY_ID = Statement(select(*_TRIGGER).where(triggers.c.id == given("key")))
BY_ID_LOCKED = Statement(select(*_TRIGGER).where(triggers.c.id == given("key")).with_for_update(key_share=True))
BY_NAME = Statement(select(*_TRIGGER).where(triggers.c.name == given("called")))
OF_KIND = Statement(select(*_TRIGGER).where(triggers.c.kind == given("of_kind")).order_by(triggers.c.id))
OF_PROJECT = Statement(select(*_TRIGGER).where(triggers.c.project == given("within")).order_by(triggers.c.id))
DEFINED_BY = Statement(select(*_TRIGGER).where(triggers.c.defined_by == given("file")).order_by(triggers.c.id))
OF_PIPELINE = Statement(
    select(*_TRIGGER)
    .select_from(triggers.join(trigger_pipelines, trigger_pipelines.c.trigger == triggers.c.id))
    .where(trigger_pipelines.c.pipeline == given("of"))
    .order_by(trigger_pipelines.c.trigger)
)
_WATCHED = (
    select(trigger_pipelines.c.trigger, pipelines.c.id, pipelines.c.source, projects.c.slug)
    .select_from(
        triggers.join(trigger_pipelines, trigger_pipelines.c.trigger == triggers.c.id)
        .join(pipelines, pipelines.c.id == trigger_pipelines.c.pipeline)
        .join(projects, projects.c.id == pipelines.c.project)
    )
    .where(triggers.c.enabled == 1, pipelines.c.source != "", pipelines.c.disabled_at.is_(None))
    .order_by(triggers.c.id, trigger_pipelines.c.pipeline)
)
WATCHED_BY_KIND = Statement(_WATCHED.where(triggers.c.kind == given("of_kind")))
WATCHED_BY_ONE = Statement(_WATCHED.where(triggers.c.id == given("key")))
DUE_POLLS = Statement(
    select(triggers.c.id)
    .select_from(triggers.join(trigger_states, trigger_states.c.trigger == triggers.c.id))
    .where(
        triggers.c.kind == "poll",
        triggers.c.enabled == 1,
        or_(trigger_states.c.next_at.is_(None), trigger_states.c.next_at <= given("at")),
        or_(trigger_states.c.leased_until.is_(None), trigger_states.c.leased_until <= given("at")),
    )
    .order_by(triggers.c.id)
    .limit(given("most"))
)
ADD = insertion(triggers)
CHANGE = Statement(
    update(triggers)
    .where(triggers.c.id == given("key"))
    .values(
        project=given("project"),
        kind=given("kind"),
        enabled=given("enabled"),
        spec=given("spec"),
        updated_at=given("at"),
    )
)
PIPELINES = Statement(
    select(trigger_pipelines.c.pipeline)
    .where(trigger_pipelines.c.trigger == given("of"))
    .order_by(trigger_pipelines.c.pipeline)
)
LOCK_PIPELINE = Statement(
    select(trigger_pipelines.c.trigger)
    .where(trigger_pipelines.c.pipeline == given("of"))
    .order_by(trigger_pipelines.c.trigger)
    .with_for_update()
)
DROP_PIPELINES = Statement(delete(trigger_pipelines).where(trigger_pipelines.c.trigger == given("of")))
ADD_PIPELINE = insertion(trigger_pipelines)
UPSTREAMS = Statement(select(trigger_upstreams.c.pipeline).where(trigger_upstreams.c.trigger == given("of")))
DROP_UPSTREAMS = Statement(delete(trigger_upstreams).where(trigger_upstreams.c.trigger == given("of")))
ADD_UPSTREAM = insertion(trigger_upstreams)
ADD_STATE = Statement(
    insert(trigger_states)
    .values({column.name: given(column.name) for column in trigger_states.columns})
    .on_conflict_do_nothing()
)
STATE = Statement(select(*_STATE).where(trigger_states.c.trigger == given("of")))
SAVE_STATE = Statement(
    update(trigger_states)
    .where(trigger_states.c.trigger == given("of"))
    .values(
        {column.name: given(column.name) for column in trigger_states.columns if column.name not in ("trigger", "kind")}
    )
)
SET_KIND = Statement(update(trigger_states).where(trigger_states.c.trigger == given("of")).values(kind=given("kind")))
DUE = Statement(
    select(trigger_states.c.trigger, trigger_states.c.next_at)
    .where(
        trigger_states.c.kind == given("of_kind"),
        trigger_states.c.next_at <= given("now"),
        or_(trigger_states.c.leased_until.is_(None), trigger_states.c.leased_until <= given("now")),
    )
    .order_by(trigger_states.c.next_at)
    .limit(given("most"))
)
NEXT_DUE = Statement(
    select(trigger_states.c.next_at)
    .where(trigger_states.c.kind == given("of_kind"), trigger_states.c.next_at > given("now"))
    .order_by(trigger_states.c.next_at)
    .limit(1)
)
NOTE_END = Statement(
    insert(ended_upstreams)
    .from_select(
        ["build", "trigger", "created_at", "next_at"],
        select(
            bindparam("build", type_=Integer),
            trigger_upstreams.c.trigger,
            bindparam("at", type_=BigInteger),
            bindparam("at", type_=BigInteger),
        ).where(trigger_upstreams.c.pipeline == given("of")),
    )
    .on_conflict_do_nothing()
    .returning(ended_upstreams.c.build)
)
DUE_ENDS = Statement(
    select(ended_upstreams.c.build, ended_upstreams.c.trigger)
    .where(ended_upstreams.c.next_at <= given("now"))
    .order_by(ended_upstreams.c.next_at)
    .limit(given("most"))
)
TAKE_END = Statement(
    delete(ended_upstreams).where(ended_upstreams.c.build == given("build"), ended_upstreams.c.trigger == given("of"))
)
DELAY_END = Statement(
    update(ended_upstreams)
    .where(ended_upstreams.c.build == given("build"), ended_upstreams.c.trigger == given("of"))
    .values(next_at=given("later"))
)

_encode = msgspec.json.Encoder(order="deterministic").encode
_source = msgspec.json.Decoder(GitSource).decode


def spec_text(spec: Spec) -> str:
    """A specification as it is stored: equal ones have equal texts."""
    return _encode(spec).decode()


def _trigger(row: Row) -> Trigger:
    key, project, word, name, enabled, spec, defined_by, created_at, updated_at = row
    kind = TriggerKind(word)
    return Trigger(
        id=key,
        project=project,
        kind=kind,
        name=name,
        enabled=bool(enabled),
        spec=msgspec.json.decode(spec, type=SPECS[kind]),
        defined_by=defined_by,
        created_at=created_at,
        updated_at=updated_at,
    )


def _state(row: Row) -> TriggerState:
    trigger, checked_at, next_at, requested_at, revision, error, error_at, leased_until = row
    return TriggerState(
        trigger=trigger,
        checked_at=checked_at,
        next_at=next_at,
        requested_at=requested_at,
        revision=revision,
        error=error,
        error_at=error_at,
        leased_until=leased_until,
    )


async def get(tx: Transaction, key: TriggerId, *, lock: bool = False) -> Trigger:
    """The trigger with this id; `lock` keeps other transactions from firing or changing it."""
    row = await tx.fetch_one(BY_ID_LOCKED if lock else BY_ID, key=key)
    if row is None:
        raise NotFound("trigger not found")
    return _trigger(row)


async def find_by_name(tx: Transaction, name: str) -> Trigger | None:
    """The trigger of this name."""
    row = await tx.fetch_one(BY_NAME, called=name)
    return _trigger(row) if row else None


async def of_kind(tx: Transaction, kind: TriggerKind) -> list[Trigger]:
    """All triggers of a kind, disabled ones too."""
    return [_trigger(row) for row in await tx.fetch(OF_KIND, of_kind=kind)]


async def of_project(tx: Transaction, project: ProjectId) -> list[Trigger]:
    """A project's triggers."""
    return [_trigger(row) for row in await tx.fetch(OF_PROJECT, within=project)]


async def defined_by(tx: Transaction, file: str) -> list[Trigger]:
    """The triggers that a file or API defined, disabled ones too."""
    return [_trigger(row) for row in await tx.fetch(DEFINED_BY, file=file)]


async def of_pipeline(tx: Transaction, pipeline: PipelineId) -> list[Trigger]:
    """The triggers that start a pipeline."""
    return [_trigger(row) for row in await tx.fetch(OF_PIPELINE, of=pipeline)]


async def watched_by_kind(tx: Transaction, kind: TriggerKind) -> dict[TriggerId, list[Watched]]:
    """The pipelines with sources that the enabled triggers of a kind start."""
    found: dict[TriggerId, list[Watched]] = {}
    for trigger, pipeline, source, project in await tx.fetch(WATCHED_BY_KIND, of_kind=kind):
        found.setdefault(trigger, []).append(Watched(pipeline, _source(source), project))
    return found


async def watched_by(tx: Transaction, trigger: TriggerId) -> list[Watched]:
    """The pipelines with sources that a trigger starts if it is enabled."""
    rows = await tx.fetch(WATCHED_BY_ONE, key=trigger)
    return [Watched(pipeline, _source(source), project) for _, pipeline, source, project in rows]


async def due_polls(tx: Transaction, now: Moment, limit: int) -> list[TriggerId]:
    """The enabled polls that are due and that nobody has under a lease."""
    return [TriggerId(row[0]) for row in await tx.fetch(DUE_POLLS, at=now, most=limit)]


async def add(tx: Transaction, *, project: ProjectId, name: str, spec: Spec, defined_by: str) -> Trigger:
    """Make a trigger that starts nothing yet, with an empty state. Its name must be free."""
    (key,) = await tx.allocate("triggers")
    await tx.execute(
        ADD,
        id=key,
        project=project,
        kind=kind_of(spec),
        name=name,
        enabled=1,
        spec=spec_text(spec),
        defined_by=defined_by,
        created_at=tx.now,
        updated_at=tx.now,
    )
    await tx.execute(
        ADD_STATE,
        trigger=key,
        kind=kind_of(spec),
        checked_at=None,
        next_at=None,
        requested_at=None,
        revision="",
        error="",
        error_at=None,
        leased_until=None,
    )
    return await get(tx, TriggerId(key))


async def change(tx: Transaction, trigger: TriggerId, *, project: ProjectId, spec: Spec, enabled: bool) -> None:
    """Make a trigger be this from now on."""
    await tx.execute(
        CHANGE,
        key=trigger,
        project=project,
        kind=kind_of(spec),
        enabled=int(enabled),
        spec=spec_text(spec),
        at=tx.now,
    )
    await tx.execute(SET_KIND, of=trigger, kind=kind_of(spec))


async def pipelines_of(tx: Transaction, trigger: TriggerId) -> list[PipelineId]:
    """The pipelines that a trigger starts, by id."""
    return [PipelineId(row[0]) for row in await tx.fetch(PIPELINES, of=trigger)]


async def set_pipelines(tx: Transaction, trigger: TriggerId, pipelines: Sequence[PipelineId]) -> None:
    """Make a trigger start these pipelines."""
    if await pipelines_of(tx, trigger) != sorted(pipelines):
        await tx.execute(DROP_PIPELINES, of=trigger)
        await tx.execute_many(ADD_PIPELINE, [{"trigger": trigger, "pipeline": one} for one in sorted(pipelines)])


async def lock_pipeline(tx: Transaction, pipeline: PipelineId) -> None:
    """Let the triggers of a pipeline fire one after the other, so that each sees the builds of those before."""
    await tx.fetch(LOCK_PIPELINE, of=pipeline)


async def upstreams_of(tx: Transaction, trigger: TriggerId) -> list[PipelineId]:
    """The pipelines after whose builds a trigger fires."""
    return sorted(PipelineId(row[0]) for row in await tx.fetch(UPSTREAMS, of=trigger))


async def set_upstreams(tx: Transaction, trigger: TriggerId, pipelines: Sequence[PipelineId]) -> None:
    """Make a trigger fire after builds of these pipelines."""
    if await upstreams_of(tx, trigger) != sorted(pipelines):
        await tx.execute(DROP_UPSTREAMS, of=trigger)
        await tx.execute_many(ADD_UPSTREAM, [{"trigger": trigger, "pipeline": one} for one in sorted(pipelines)])


async def state_of(tx: Transaction, trigger: TriggerId) -> TriggerState:
    """Where a trigger stands."""
    row = await tx.fetch_one(STATE, of=trigger)
    assert row is not None
    return _state(row)


async def save_state(tx: Transaction, state: TriggerState) -> None:
    """Write where a trigger stands. To be called with the trigger locked."""
    await tx.execute(
        SAVE_STATE,
        of=state.trigger,
        checked_at=state.checked_at,
        next_at=state.next_at,
        requested_at=state.requested_at,
        revision=state.revision,
        error=state.error,
        error_at=state.error_at,
        leased_until=state.leased_until,
    )


async def due(tx: Transaction, kind: TriggerKind, count: int) -> list[tuple[TriggerId, Moment]]:
    """Triggers of a kind that are due and that nobody works on, those due longest first, and since when."""
    return [(TriggerId(row[0]), row[1]) for row in await tx.fetch(DUE, now=tx.now, of_kind=kind, most=count)]


async def next_due(tx: Transaction, kind: TriggerKind) -> Moment | None:
    """When the next trigger of a kind is due."""
    row = await tx.fetch_one(NEXT_DUE, now=tx.now, of_kind=kind)
    return row[0] if row else None


async def note_ends(tx: Transaction) -> None:
    """Remember the builds that have ended in this transaction for each trigger that follows their pipelines."""
    ended = [build for (_, event), build in sorted(tx.pending_news.items()) if event == Event.FINISHED]
    rows = await tx.fetch_many(NOTE_END, [{"build": one.id, "of": one.pipeline, "at": tx.now} for one in ended])
    if rows:
        tx.wake("triggers")


async def due_ends(tx: Transaction, count: int) -> list[tuple[BuildId, TriggerId]]:
    """Ended builds that have followers to start, oldest first."""
    return [(BuildId(row[0]), TriggerId(row[1])) for row in await tx.fetch(DUE_ENDS, now=tx.now, most=count)]


async def take_end(tx: Transaction, build: BuildId, trigger: TriggerId) -> bool:
    """Forget that a trigger is to follow a build; False if somebody did so before."""
    return await tx.execute(TAKE_END, build=build, of=trigger) == 1


async def delay_end(tx: Transaction, build: BuildId, trigger: TriggerId, later: Moment) -> None:
    """Try to follow a build later."""
    await tx.execute(DELAY_END, build=build, of=trigger, later=later)
