"""The words of builds.sr.ht for our states; GraphQL has the same ones in capitals."""

from typing import Final

from buildyard.apis.states import StateTable
from buildyard.domain.builds import State
from buildyard.domain.states import Phase, Result

JOB: Final = StateTable(
    phases={
        Phase.WAITING: "pending",
        Phase.QUEUED: "queued",
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
        Result.TIMEOUT: "timeout",
        Result.ERROR: "failed",
        Result.CANCELLED: "cancelled",
    },
    lost="queued",
)
"""`status` of a job, which is one of our builds."""

STARTED_TASK: Final = StateTable(
    phases={
        Phase.WAITING: "pending",
        Phase.QUEUED: "pending",
        Phase.LEASED: "pending",
        Phase.RUNNING: "running",
    },
    results={
        Result.SKIPPED: "skipped",
        Result.SUCCESS: "success",
        Result.WARNINGS: "success",
        Result.DEPENDENCY_FAILED: "pending",
        Result.FAILURE: "failed",
        Result.LOG_LIMIT: "failed",
        Result.OUTPUT_LIMIT: "failed",
        Result.TIMEOUT: "failed",
        Result.ERROR: "failed",
        Result.CANCELLED: "failed",
    },
    lost="pending",
)
"""`status` of a task that began; a task is one of our steps, or one of our jobs if the build has several."""

UNSTARTED_TASK: Final = StateTable(
    phases=STARTED_TASK.phases,
    results={**STARTED_TASK.results, Result.CANCELLED: "pending"},
    lost=STARTED_TASK.lost,
)
"""`status` of a task that never began: what comes after a failed or cancelled one stays pending."""

TASK: Final = {True: STARTED_TASK, False: UNSTARTED_TASK}


def task(state: State, *, started: bool) -> str:
    """The word for a task; `started` says whether it ever began."""
    return TASK[started].of(state)
