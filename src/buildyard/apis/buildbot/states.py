"""Buildbot's flags and result codes for our states.

Our build is a build request there, each attempt of its first-leased job a build, our evaluation a
build set. What never ran has no build and no step; that is None here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from buildyard.apis.states import StateTable
from buildyard.domain.builds import State
from buildyard.domain.states import Cause, Phase, Result

SUCCESS: Final = 0
WARNINGS: Final = 1
FAILURE: Final = 2
SKIPPED: Final = 3
EXCEPTION: Final = 4
RETRY: Final = 5
CANCELLED: Final = 6
UNFINISHED: Final = -1
"""`results` of a build request or build set that is not complete."""


@dataclass(frozen=True, slots=True)
class Request:
    """The state of a build request."""

    claimed: bool
    complete: bool
    results: int


@dataclass(frozen=True, slots=True)
class Run:
    """The state of a build or a step that was begun; `results` is None until it is complete."""

    complete: bool
    results: int | None


RESULTS: Final = {
    Result.SKIPPED: SKIPPED,
    Result.SUCCESS: SUCCESS,
    Result.WARNINGS: WARNINGS,
    Result.DEPENDENCY_FAILED: FAILURE,
    Result.FAILURE: FAILURE,
    Result.LOG_LIMIT: FAILURE,
    Result.OUTPUT_LIMIT: FAILURE,
    Result.TIMEOUT: FAILURE,
    Result.ERROR: EXCEPTION,
    Result.CANCELLED: CANCELLED,
}
"""Result codes. A dependency's failure is not SKIPPED, which Buildbot ranks above success."""

UNCLAIMED: Final = Request(claimed=False, complete=False, results=UNFINISHED)
CLAIMED: Final = Request(claimed=True, complete=False, results=UNFINISHED)

REQUEST: Final = StateTable(
    phases={
        Phase.WAITING: UNCLAIMED,
        Phase.QUEUED: UNCLAIMED,
        Phase.LEASED: CLAIMED,
        Phase.RUNNING: CLAIMED,
    },
    results={result: Request(claimed=True, complete=True, results=code) for result, code in RESULTS.items()},
    lost=UNCLAIMED,
)
"""A build request, from the state of our build."""

GOING: Final = Run(complete=False, results=None)
ENDED: Final[dict[Result, Run | None]] = {result: Run(complete=True, results=code) for result, code in RESULTS.items()}

STEP: Final[StateTable[Run | None]] = StateTable(
    phases={Phase.WAITING: None, Phase.QUEUED: None, Phase.LEASED: GOING, Phase.RUNNING: GOING},
    results={**ENDED, Result.DEPENDENCY_FAILED: None},
    refined={
        (Result.FAILURE, Cause.CACHED): None,
        (Result.ERROR, Cause.UNSUPPORTED): None,
    },
    lost=Run(complete=True, results=RETRY),
)
"""A step, from the state of our step; leased is its step 0, `worker_preparation`."""

BUILD: Final[StateTable[Run | None]] = StateTable(
    phases=STEP.phases,
    results={**STEP.results, Result.SKIPPED: None},
    refined=STEP.refined,
    lost=STEP.lost,
)
"""A build, from the state of our attempt."""

UNSTARTED_STEP: Final[StateTable[Run | None]] = StateTable(
    phases=STEP.phases,
    results={**STEP.results, Result.CANCELLED: None},
    refined=STEP.refined,
    lost=STEP.lost,
)
UNSTARTED_BUILD: Final[StateTable[Run | None]] = StateTable(
    phases=BUILD.phases,
    results={**BUILD.results, Result.CANCELLED: None},
    refined=BUILD.refined,
    lost=BUILD.lost,
)

STEPS: Final = {True: STEP, False: UNSTARTED_STEP}
BUILDS: Final = {True: BUILD, False: UNSTARTED_BUILD}


def step(state: State, *, started: bool) -> Run | None:
    """The state of a step, or None if it is not listed; `started` says whether it ever began."""
    return STEPS[started].of(state)


def build(state: State, *, started: bool) -> Run | None:
    """The state of a build, or None if there is none; `started` says whether a worker ever held it."""
    return BUILDS[started].of(state)


ENDING: Final = StateTable(
    phases={Phase.WAITING: "", Phase.QUEUED: "", Phase.LEASED: "", Phase.RUNNING: ""},
    results={
        Result.SKIPPED: " (skipped)",
        Result.SUCCESS: "",
        Result.WARNINGS: " (warnings)",
        Result.DEPENDENCY_FAILED: " (failure)",
        Result.FAILURE: " (failure)",
        Result.LOG_LIMIT: " (failure)",
        Result.OUTPUT_LIMIT: " (failure)",
        Result.TIMEOUT: " (failure) (timed out)",
        Result.ERROR: " (exception)",
        Result.CANCELLED: " (cancelled)",
    },
    lost=" (retry)",
)
"""What `state_string` ends with."""


def buildset_results(results: Iterable[Result], *, complete: bool) -> int:
    """`results` of a build set: the worst of its requests, where skipped counts as success."""
    return RESULTS[max([Result.SUCCESS, *results])] if complete else UNFINISHED
