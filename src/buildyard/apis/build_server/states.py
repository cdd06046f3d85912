"""Build Server's words for our states."""

from typing import Final

from buildyard.apis.states import StateTable
from buildyard.domain.builds import State
from buildyard.domain.states import Phase, Result

BUILD: Final = StateTable(
    phases={
        Phase.WAITING: "PENDING",
        Phase.QUEUED: "PENDING",
        Phase.LEASED: "RUNNING",
        Phase.RUNNING: "RUNNING",
    },
    results={
        Result.SKIPPED: "FAILED",
        Result.SUCCESS: "SUCCESS",
        Result.WARNINGS: "SUCCESS",
        Result.DEPENDENCY_FAILED: "FAILED",
        Result.FAILURE: "FAILED",
        Result.LOG_LIMIT: "FAILED",
        Result.OUTPUT_LIMIT: "FAILED",
        Result.TIMEOUT: "FAILED",
        Result.ERROR: "FAILED",
        Result.CANCELLED: "FAILED",
    },
    lost="PENDING",
)
"""`status` of a build."""

STEP: Final = StateTable(
    phases=BUILD.phases,
    results={**BUILD.results, Result.SKIPPED: "SUCCESS"},
    lost=BUILD.lost,
)
"""`stepStatus`: a skipped step lets those that depend on it run, so it is no failure."""


def reason(state: State) -> str | None:
    """Our own, finer word for how finished work ended."""
    return None if state.result is None else state.result.word
