"""Containr's words for our states."""

from typing import Final

from buildyard.apis.states import StateTable
from buildyard.domain.builds import State
from buildyard.domain.states import Phase, Result

BUILD: Final = StateTable(
    phases={
        Phase.WAITING: "pending",
        Phase.QUEUED: "pending",
        Phase.LEASED: "running",
        Phase.RUNNING: "running",
    },
    results={
        Result.SKIPPED: "cancelled",
        Result.SUCCESS: "success",
        Result.WARNINGS: "success",
        Result.DEPENDENCY_FAILED: "failed",
        Result.FAILURE: "failed",
        Result.LOG_LIMIT: "failed",
        Result.OUTPUT_LIMIT: "failed",
        Result.TIMEOUT: "failed",
        Result.ERROR: "failed",
        Result.CANCELLED: "cancelled",
    },
    lost="pending",
)
"""`status` of a build."""

BEGUN: Final = 10
DONE: Final = 100

PROGRESS: Final = StateTable(
    phases={Phase.WAITING: 0, Phase.QUEUED: 0, Phase.LEASED: 5, Phase.RUNNING: BEGUN},
    results=dict.fromkeys(Result, DONE),
    lost=0,
)
"""`progress` of a build in percent, before any of its steps has ended."""


def progress(state: State, *, steps_done: int, steps_total: int) -> int:
    """`progress` in percent: while the build runs, from 10 towards 99 by the share of its steps that ended."""
    share = (DONE - 1 - BEGUN) * steps_done // max(steps_total, 1)
    return PROGRESS.of(state) + (share if state.phase is Phase.RUNNING else 0)
