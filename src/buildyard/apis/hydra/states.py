"""Hydra's numbers for our states."""

from dataclasses import dataclass
from typing import Final

from buildyard.apis.states import StateTable
from buildyard.domain.states import Cause, Phase, Result

BUILD_STATUS: Final = {
    Result.SKIPPED: 4,
    Result.SUCCESS: 0,
    Result.WARNINGS: 0,
    Result.DEPENDENCY_FAILED: 2,
    Result.FAILURE: 1,
    Result.LOG_LIMIT: 10,
    Result.OUTPUT_LIMIT: 11,
    Result.TIMEOUT: 7,
    Result.ERROR: 3,
    Result.CANCELLED: 4,
}
"""`buildstatus` of a finished build; skipped is 4, for 3 would make its badge red."""


@dataclass(frozen=True, slots=True)
class BuildState:
    """`finished` (0 or 1) and `buildstatus` (None until finished) of a build."""

    finished: int
    buildstatus: int | None


@dataclass(frozen=True, slots=True)
class StepState:
    """`busy` (1: building, 2: preparing, 0: over) and `status` (None while busy) of a build step."""

    busy: int
    status: int | None


UNFINISHED: Final = BuildState(finished=0, buildstatus=None)

BUILD: Final = StateTable(
    phases={
        Phase.WAITING: UNFINISHED,
        Phase.QUEUED: UNFINISHED,
        Phase.LEASED: UNFINISHED,
        Phase.RUNNING: UNFINISHED,
    },
    results={result: BuildState(finished=1, buildstatus=status) for result, status in BUILD_STATUS.items()},
    refined={
        (Result.FAILURE, Cause.WITH_OUTPUT): BuildState(finished=1, buildstatus=6),
        (Result.FAILURE, Cause.NONDETERMINISTIC): BuildState(finished=1, buildstatus=12),
        (Result.ERROR, Cause.UNSUPPORTED): BuildState(finished=1, buildstatus=9),
    },
    lost=UNFINISHED,
)
"""A build, from the state of our build."""


def _over(status: int) -> StepState:
    return StepState(busy=0, status=status)


OVER: Final[dict[Result, StepState | None]] = {result: _over(status) for result, status in BUILD_STATUS.items()}

STEP: Final[StateTable[StepState | None]] = StateTable(
    phases={
        Phase.WAITING: None,
        Phase.QUEUED: None,
        Phase.LEASED: StepState(busy=2, status=None),
        Phase.RUNNING: StepState(busy=1, status=None),
    },
    results={**OVER, Result.DEPENDENCY_FAILED: None, Result.SKIPPED: None},
    refined={
        (Result.FAILURE, Cause.WITH_OUTPUT): _over(0),
        (Result.FAILURE, Cause.CACHED): _over(8),
        (Result.FAILURE, Cause.NONDETERMINISTIC): _over(12),
        (Result.ERROR, Cause.UNSUPPORTED): _over(9),
    },
    lost=_over(3),
)
"""A build step, from the state of one of our attempts or steps; None if it is not listed."""
