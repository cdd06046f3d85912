"""The errors that callers of the engine may see.

EngineError
├── NotFound         no such thing, or the actor may not know of it
│   └── Gone             it was there, and was deleted by rule
├── Forbidden        known, but not allowed
│   └── Unauthenticated  who is asking is not known
├── Conflict         it exists already, or moved meanwhile
│   └── Stale        a report with a fencing token that no longer counts
├── Invalid          the request is wrong; `faults` lists every fault found
├── Incompatible     the peer speaks a version of a protocol that this server does not
├── TooLarge         over a limit, which the message names
├── LimitReached     the queue, the disk or a quota is full; try later
└── Unavailable      the database or a store did not answer; nothing was changed
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: where (`steps[2].dependsOn[0]`), what, and a stable code."""

    path: str
    message: str
    code: str


class EngineError(Exception):
    """The root of what a use-case may raise on purpose."""


class NotFound(EngineError):
    """There is no such thing, or the actor may not know that there is."""


class Gone(NotFound):
    """It was there, and was deleted by rule; the message says when."""


class Forbidden(EngineError):
    """The actor may see the thing but not do this to it."""


class Unauthenticated(Forbidden):
    """The act needs a known actor, and none was given or it did not hold."""


class Conflict(EngineError):
    """It exists already, or it moved since it was read."""


class Stale(Conflict):
    """The fencing token is not the one that holds the attempt now."""


class Invalid(EngineError):
    """The request cannot be carried out as it is."""

    def __init__(self, message: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


class Incompatible(EngineError):
    """The peer speaks a version of a protocol that this server does not; the message says which it does."""


class TooLarge(EngineError):
    """Something is over a limit; the message names the limit."""


class LimitReached(EngineError):
    """The queue, a quota or the disk is full; `retry_after` is in how many seconds to try again, 0 if not known."""

    def __init__(self, message: str, *, retry_after: int = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(EngineError):
    """The database, the log store or the blob store did not do its part; nothing was acknowledged."""
