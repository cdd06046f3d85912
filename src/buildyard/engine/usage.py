"""How much of its share each tenant used over the last 24 hours, kept in memory for the claims."""

import time
from collections import defaultdict
from collections.abc import Iterable

from buildyard.domain.access import Actor
from buildyard.domain.fairness import GUESSED_JOB_SECONDS, NO_USAGE, WINDOW_HOURS, Lane, Usage
from buildyard.domain.ids import SECOND, AccountId, PipelineId, ProjectId
from buildyard.store import attempts
from buildyard.store.pending import HOUR
from buildyard.store.transactions import Transaction

FRESH_SECONDS = 2.0
"""For how long a usage once computed serves the claims; fairness is over hours, so seconds do not matter."""


class UsageBook:
    """The latest known usage. Servers of one installation each keep their own; they agree within seconds."""

    def __init__(self) -> None:
        self._usage = NO_USAGE
        self._read_at = float("-inf")

    @property
    def stale(self) -> bool:
        """Whether it is time to compute it anew."""
        return time.monotonic() - self._read_at > FRESH_SECONDS

    @property
    def usage(self) -> Usage:
        """What is known."""
        return self._usage

    def put(self, usage: Usage) -> None:
        """Replace what is known."""
        self._usage = usage
        self._read_at = time.monotonic()

    def charge(self, taken: Iterable[Lane]) -> None:
        """Count jobs just leased, one for each lane named, until they are found in the database: at their mean time.

        Without this, whoever has used least would be given all that is claimed until the next look.
        """
        accounts, projects = dict(self._usage.accounts), dict(self._usage.projects)
        pipelines = dict(self._usage.pipelines)
        for lane in taken:
            cost = self._usage.mean.get(lane.pipeline, GUESSED_JOB_SECONDS)
            accounts[lane.account] = accounts.get(lane.account, 0.0) + cost
            projects[lane.project] = projects.get(lane.project, 0.0) + cost
            pipelines[lane.pipeline] = pipelines.get(lane.pipeline, 0.0) + cost
        self._usage = Usage(accounts, projects, pipelines, self._usage.mean)


async def compute_usage(tx: Transaction, _actor: Actor) -> Usage:
    """Job seconds of the last 24 hours by account, project and pipeline.

    A running job counts as long as its pipeline's jobs take in the mean, or as it has taken if that is longer.
    """
    accounts: dict[AccountId, float] = defaultdict(float)
    projects: dict[ProjectId, float] = defaultdict(float)
    pipelines: dict[PipelineId, float] = defaultdict(float)
    finished: dict[PipelineId, tuple[float, int]] = {}

    def charge(pipeline: PipelineId, project: ProjectId, account: AccountId, seconds: float) -> None:
        pipelines[pipeline] += seconds
        projects[project] += seconds
        accounts[account] += seconds

    oldest = tx.now // HOUR - WINDOW_HOURS
    for pipeline, project, account, micros, jobs in await attempts.usage_since(tx, oldest):
        charge(pipeline, project, account, micros / SECOND)
        seconds, count = finished.get(pipeline, (0.0, 0))
        finished[pipeline] = (seconds + micros / SECOND, count + jobs)
    mean = {pipeline: seconds / count for pipeline, (seconds, count) in finished.items() if count}
    for pipeline, project, account, leased_at in await attempts.running_now(tx):
        expected = mean.get(pipeline, GUESSED_JOB_SECONDS)
        charge(pipeline, project, account, max(expected, (tx.now - leased_at) / SECOND))
    return Usage(accounts, projects, pipelines, mean)
