"""An attempt in a worker's hands: what it is, what it still has to tell, and how it is stopped."""

import asyncio
from dataclasses import dataclass

from buildyard.domain.states import Cause, Result
from buildyard.protocol import Finished, Held, JobGrant, MetricValue, OutputFile, ReportedTests, SavedCache
from buildyard.worker.masking import Mask
from buildyard.worker.reel import Reel


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ends: `detail` is for people; outputs and caches have been stored."""

    result: Result
    cause: Cause = Cause.NONE
    detail: str = ""
    outputs: tuple[OutputFile, ...] = ()
    caches: tuple[SavedCache, ...] = ()


CANCELLED = Ending(result=Result.CANCELLED, detail="cancelled on the server")
INTERRUPTED = Ending(result=Result.CANCELLED, cause=Cause.INTERRUPTED, detail="the worker was stopped")
DROPPED = Ending(result=Result.ERROR, cause=Cause.LOST, detail="the server gave the job to another worker")


class HeldAttempt:
    """From the grant until the server has taken the attempt's end, or said that it is not this worker's any more.

    The first wish to stop wins; it cancels the attempt's task, which kills what runs and reports the wished ending.
    """

    def __init__(self, grant: JobGrant, reel: Reel) -> None:
        self.grant = grant
        self.reel = reel
        self.task: asyncio.Task[None] | None = None
        self.stopped: Ending | None = None
        self.log_left = grant.spec.limits.log_bytes
        self.tests: list[ReportedTests] = []
        self.metrics: list[MetricValue] = []
        self.mask = Mask(secret.value for secret in grant.secrets) if grant.secrets else None
        self._ended = False
        reel.failed = self._fail

    @property
    def held(self) -> Held:
        """What heartbeats say of it."""
        return Held(attempt=self.grant.attempt, token=self.reel.token)

    @property
    def is_ended(self) -> bool:
        """Whether the end was told."""
        return self._ended

    def stop(self, ending: Ending) -> None:
        """Wish the attempt to end so; too late once its end was told."""
        if self.stopped is None and not self._ended:
            self.stopped = ending
            if self.task is not None:
                self.task.cancel()

    def drop(self) -> None:
        """Kill the attempt and tell nothing more about it."""
        self.reel.close()
        self.stop(DROPPED)

    def masked(self, text: str) -> str:
        """A text without the values of the attempt's secrets."""
        return self.mask.text(text) if self.mask else text

    def finish(self, ending: Ending, *, kept_s: int = 0) -> None:
        """Tell the end, and for how long the workspace stays."""
        self._ended = True
        self.reel.add(
            Finished(
                attempt=self.grant.attempt,
                token="",
                result=ending.result,
                cause=ending.cause,
                detail=self.masked(ending.detail),
                outputs=list(ending.outputs),
                caches=list(ending.caches),
                tests=self.tests,
                metrics=self.metrics,
                kept_s=kept_s,
            )
        )

    def _fail(self, detail: str) -> None:
        self.stop(Ending(result=Result.ERROR, cause=Cause.STORAGE, detail=detail))
