"""Where work stands (Phase), how it ended (Result), and what refines that (Cause)."""

from enum import IntEnum, StrEnum


class Phase(IntEnum):
    """Where a build, job, attempt or step stands; the order is the order of life."""

    WAITING = 0
    QUEUED = 1
    LEASED = 2
    RUNNING = 3
    FINISHED = 4


class Result(IntEnum):
    """How finished work ended, best first, so that the larger of two is the worse."""

    SKIPPED = 0
    SUCCESS = 1
    WARNINGS = 2
    DEPENDENCY_FAILED = 3
    FAILURE = 4
    LOG_LIMIT = 5
    OUTPUT_LIMIT = 6
    TIMEOUT = 7
    ERROR = 8
    CANCELLED = 9

    @property
    def word(self) -> str:
        """The name that users read and write: `dependency_failed`."""
        return self.name.lower()


PASSED = frozenset({Result.SUCCESS, Result.WARNINGS, Result.SKIPPED})
"""Results after which dependants may run."""


class Cause(StrEnum):
    """What refines a Result; a closed set."""

    NONE = ""
    WITH_OUTPUT = "with_output"
    CACHED = "cached"
    NONDETERMINISTIC = "nondeterministic"
    MEMORY_LIMIT = "memory_limit"
    PIDS_LIMIT = "pids_limit"
    CPU_LIMIT = "cpu_limit"
    WALL = "wall"
    SILENT = "silent"
    UNSUPPORTED = "unsupported"
    SOURCE = "source"
    CONFIGURATION = "configuration"
    INPUTS = "inputs"
    OUTPUTS = "outputs"
    STORAGE = "storage"
    EXECUTOR = "executor"
    LOST = "lost"
    INTERRUPTED = "interrupted"
    COLLAPSED = "collapsed"
    SUPERSEDED = "superseded"


ALLOWED_CAUSES: dict[Result, frozenset[Cause]] = {
    Result.SKIPPED: frozenset({Cause.COLLAPSED, Cause.SUPERSEDED}),
    Result.SUCCESS: frozenset(),
    Result.WARNINGS: frozenset(),
    Result.DEPENDENCY_FAILED: frozenset(),
    Result.FAILURE: frozenset(
        {
            Cause.WITH_OUTPUT,
            Cause.CACHED,
            Cause.NONDETERMINISTIC,
            Cause.MEMORY_LIMIT,
            Cause.PIDS_LIMIT,
            Cause.CPU_LIMIT,
            Cause.OUTPUTS,
        }
    ),
    Result.LOG_LIMIT: frozenset(),
    Result.OUTPUT_LIMIT: frozenset(),
    Result.TIMEOUT: frozenset({Cause.WALL, Cause.SILENT}),
    Result.ERROR: frozenset(
        {
            Cause.UNSUPPORTED,
            Cause.SOURCE,
            Cause.CONFIGURATION,
            Cause.INPUTS,
            Cause.STORAGE,
            Cause.EXECUTOR,
            Cause.LOST,
            Cause.INTERRUPTED,
        }
    ),
    Result.CANCELLED: frozenset({Cause.SUPERSEDED, Cause.INTERRUPTED}),
}
"""The causes each result may carry, besides none."""


class JobKind(IntEnum):
    """What a job does: run steps, plan builds, realise a derivation, build an image."""

    RUN = 0
    EVALUATE = 1
    NIX = 2
    IMAGE = 3


class Stream(StrEnum):
    """Where a log's bytes came from: the program's output, its error output, or Buildyard itself."""

    OUTPUT = "o"
    ERROR = "e"
    HEADER = "h"


def goes_with(cause: Cause, result: Result) -> bool:
    """Whether a result may carry this cause."""
    return not cause or cause in ALLOWED_CAUSES[result]
