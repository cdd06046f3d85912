"""The yard file of this server: read, taken into force, looked at; a bad one changes nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from buildyard.domain.access import Actor, Permission, require_global
from buildyard.domain.errors import EngineError, Fault, Invalid, NotFound
from buildyard.domain.hooks import Hook
from buildyard.domain.ids import Moment
from buildyard.domain.yard import Change, Yard
from buildyard.engine.engine import Engine, system_clock
from buildyard.engine.yard import Looked, apply_yard

log = structlog.get_logger()


@dataclass
class YardBook:
    """What this process knows of its yard file.

    `load` reads and checks it (it blocks; raises EngineError); `current` is the one in force, with the secrets that
    are not in the database, since `taken_at`. `problem` and `faults` say why the newest text is not in force.
    """

    path: str = ""
    load: Callable[[], Yard] | None = None
    current: Yard | None = None
    taken_at: Moment | None = None
    problem: str = ""
    faults: tuple[Fault, ...] = ()

    @property
    def word(self) -> str:
        """For people: `none`, `in force`, or `refused` if the newest text is not in force."""
        if self.load is None:
            return "none"
        return "refused" if self.problem else "in force"

    def hooks(self) -> dict[str, Hook]:
        """The hooks in force by name."""
        return {hook.name: hook for hook in self.current.hooks} if self.current else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class YardStatus:
    """Where a server's yard file stands, and what taking it into force now would change."""

    path: str
    taken_at: Moment | None
    problem: str
    faults: tuple[Fault, ...]
    changes: tuple[Change, ...]


async def take_yard(engine: Engine, actor: Actor, book: YardBook) -> tuple[Change, ...]:
    """Read the file and take it into force, all of it; if anything is wrong, what was in force stays."""
    require_global(actor, Permission.MANAGE_SERVER, "take a yard file into force")
    try:
        yard = await asyncio.to_thread(_loader(book))
        changes = await engine.run(apply_yard, actor, yard)
    except EngineError as exc:
        book.problem, book.faults = str(exc), exc.faults if isinstance(exc, Invalid) else ()
        told = [f"{fault.path}: {fault.message}" for fault in book.faults]
        log.error("yard_file_refused", file=book.path, problem=str(exc), faults=told[:20])
        raise
    book.current, book.taken_at, book.problem, book.faults = yard, system_clock(), "", ()
    log.info("yard_file_taken", file=book.path, changes=len(changes))
    return changes


async def look_at_yard(engine: Engine, actor: Actor, book: YardBook) -> YardStatus:
    """What taking the file into force now would change, or what is wrong with it; nothing is changed."""
    require_global(actor, Permission.MANAGE_SERVER, "see the yard file")
    problem = ""
    faults: tuple[Fault, ...] = ()
    changes: tuple[Change, ...] = ()
    load = _loader(book)
    try:
        await engine.run(apply_yard, actor, await asyncio.to_thread(load), only_look=True)
    except Looked as looked:
        changes = looked.changes
    except EngineError as exc:
        problem, faults = str(exc), exc.faults if isinstance(exc, Invalid) else ()
    return YardStatus(path=book.path, taken_at=book.taken_at, problem=problem, faults=faults, changes=changes)


def _loader(book: YardBook) -> Callable[[], Yard]:
    if book.load is None:
        raise NotFound("this server has no yard file: set BUILDYARD_YARD")
    return book.load
