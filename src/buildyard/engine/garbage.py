"""Collecting garbage on demand and by the clock: retention, caches, bytes of removed logs, unused and unknown blobs."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from buildyard.domain.access import SYSTEM, Actor, Permission, require_global
from buildyard.domain.errors import Invalid
from buildyard.engine import collecting, retention
from buildyard.engine.collecting import Taken
from buildyard.engine.engine import DiskLevel, Engine
from buildyard.store import audit
from buildyard.store.transactions import Transaction

STEP_S = 1.0
"""How long one call of `collect_garbage` may go on."""

MOST_ROUNDS = 1000


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where collecting stands: `rules` with a position of the sweep, then one stage after the other."""

    stage: str = "rules"
    sweep: retention.Position = retention.Position()


@dataclass(slots=True)
class Progress:
    """What was, or would be, taken away so far, by kind: how many, of how many bytes. `cursor` is empty at the end."""

    counts: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    cursor: str = ""

    def add(self, what: str, count: int, size: int) -> None:
        """Count something in."""
        if count:
            self.counts[what] = self.counts.get(what, 0) + count
            self.sizes[what] = self.sizes.get(what, 0) + size


async def _no_more(_engine: Engine, _dry: bool) -> Taken:
    return Taken()


async def _caches(engine: Engine, dry: bool) -> Taken:
    return await collecting.evict_caches(engine, dry=dry)


async def _log_bytes(engine: Engine, dry: bool) -> Taken:
    return Taken() if dry else await collecting.remove_log_bytes(engine)


async def _blobs(engine: Engine, dry: bool) -> Taken:
    if dry:
        return await engine.read(collecting.count_unreferenced, SYSTEM, grace=engine.policy.blob_grace_seconds)
    return await collecting.collect_blobs(engine)


async def _orphans(engine: Engine, dry: bool) -> Taken:
    return Taken() if dry else await collecting.remove_orphans(engine)


STAGES: dict[str, tuple[str, Callable[[Engine, bool], Awaitable[Taken]]]] = {
    "caches": ("caches", _caches),
    "log_bytes": ("", _log_bytes),
    "blobs": ("blobs", _blobs),
    "orphans": ("blobs", _orphans),
    "end": ("", _no_more),
}
"""What follows the rules, each until it has no more, and as what it is counted."""


async def collect_garbage(engine: Engine, actor: Actor, cursor: str = "", *, dry: bool = False) -> Progress:
    """Go on collecting for about a second; repeat with the cursor of the answer until that is empty."""
    await engine.run(note_collecting, actor, is_first=not cursor, dry=dry)
    place = _decoded(cursor) if cursor else Place()
    progress = Progress()
    deadline = time.monotonic() + STEP_S
    while place.stage != "end" and time.monotonic() < deadline:
        place = await _advance(engine, place, progress, dry=dry)
    progress.cursor = "" if place.stage == "end" else msgspec.json.encode(place).decode()
    return progress


def _decoded(cursor: str) -> Place:
    try:
        place = msgspec.json.decode(cursor, type=Place)
    except (msgspec.DecodeError, ValueError) as exc:
        raise Invalid(f"the cursor is not one that was given: {exc}") from exc
    if place.stage not in ("rules", *STAGES) or not 0 <= place.sweep.stage < len(retention.SWEPT):
        raise Invalid("the cursor is not one that was given")
    return place


async def note_collecting(tx: Transaction, actor: Actor, *, is_first: bool, dry: bool) -> None:
    """Raise unless the actor may collect garbage; note that it has begun."""
    require_global(actor, Permission.MANAGE_SERVER, "collect garbage")
    if is_first and not dry:
        await audit.add(tx, actor, "server.gc", "", project=None)


async def _advance(engine: Engine, place: Place, progress: Progress, *, dry: bool) -> Place:
    """Do one step and say what is next."""
    if place.stage == "rules":
        if not dry:
            await retention.finish_removals(engine)
        step = await retention.sweep(engine, place.sweep, dry=dry)
        progress.add(step.what, step.count, step.size)
        return Place(sweep=step.next) if step.next else Place(stage="caches")
    what, act = STAGES[place.stage]
    taken = await act(engine, dry)
    progress.add(what, taken.count if what else 0, taken.size)
    stages = list(STAGES)
    return place if taken.more else Place(stage=stages[stages.index(place.stage) + 1])


async def carry_out_rules(engine: Engine) -> None:
    """One whole sweep, then the bytes that it left; what the clockwork does now and then."""
    await retention.finish_removals(engine)
    position: retention.Position | None = retention.Position()
    while position is not None:
        position = (await retention.sweep(engine, position)).next
    await remove_bytes(engine)


async def remove_bytes(engine: Engine) -> None:
    """Delete bytes that the books have let go, as far as there are any."""
    for act in (collecting.remove_log_bytes, collecting.collect_blobs):
        for _ in range(MOST_ROUNDS):
            if not (await act(engine)).more:
                break


class Tidier:
    """Looks after a disk that runs low: what may go goes now, instead of when its turn comes.

    A sweep of the rules that takes long is followed by a rest of ten times as long.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rests_until = 0.0

    async def look(self) -> None:
        """Make room if the disk is low now."""
        if self._engine.disk_level() is DiskLevel.OK:
            return
        await collecting.evict_caches(self._engine)
        begun = time.monotonic()
        if begun < self._rests_until:
            await remove_bytes(self._engine)
            return
        await carry_out_rules(self._engine)
        ended = time.monotonic()
        self._rests_until = ended + 10 * (ended - begun)
