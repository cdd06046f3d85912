"""Which queues to serve next: those of the tenants that used least of their share over the last 24 hours."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buildyard.domain.ids import AccountId, LaneId, PipelineId, ProjectId, RequirementId

WINDOW_HOURS = 24
GUESSED_JOB_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A queue of jobs alike in requirement, global priority and pipeline, with the shares of its owners."""

    id: LaneId
    requirement: RequirementId
    pipeline: PipelineId
    project: ProjectId
    account: AccountId
    global_priority: int
    queued: int
    pipeline_shares: int = 1
    project_shares: int = 1
    account_shares: int = 1


@dataclass(frozen=True, slots=True)
class Usage:
    """Job seconds used in the window, finished and running, and the mean seconds of a pipeline's jobs."""

    accounts: Mapping[AccountId, float]
    projects: Mapping[ProjectId, float]
    pipelines: Mapping[PipelineId, float]
    mean: Mapping[PipelineId, float]


NO_USAGE = Usage({}, {}, {}, {})


def pick(lanes: Sequence[Lane], usage: Usage, slots: int) -> list[tuple[LaneId, int]]:
    """Which lanes give how many jobs to `slots` free places, in order of choice.

    Global priority comes first, then the least used weighted share of the account, the project
    and the pipeline. Each pick is charged with the pipeline's mean job time before the next.
    Costs O((lanes + slots) log lanes), whatever the lanes' lengths.
    """
    accounts = {lane.account: usage.accounts.get(lane.account, 0.0) / lane.account_shares for lane in lanes}
    projects = {lane.project: usage.projects.get(lane.project, 0.0) / lane.project_shares for lane in lanes}
    pipelines = {lane.pipeline: usage.pipelines.get(lane.pipeline, 0.0) / lane.pipeline_shares for lane in lanes}

    def rank(lane: Lane) -> tuple[int, float, float, float, int]:
        return (
            -lane.global_priority,
            accounts[lane.account],
            projects[lane.project],
            pipelines[lane.pipeline],
            lane.id,
        )

    heap = [(rank(lane), i) for i, lane in enumerate(lanes)]
    heapq.heapify(heap)
    left = [lane.queued for lane in lanes]
    picks: list[tuple[LaneId, int]] = []
    while heap and slots > 0:
        seen, i = heap[0]
        lane = lanes[i]
        if left[i] <= 0:
            heapq.heappop(heap)
            continue
        now = rank(lane)
        if now != seen:
            heapq.heapreplace(heap, (now, i))
            continue
        cost = usage.mean.get(lane.pipeline, GUESSED_JOB_SECONDS)
        accounts[lane.account] += cost / lane.account_shares
        projects[lane.project] += cost / lane.project_shares
        pipelines[lane.pipeline] += cost / lane.pipeline_shares
        left[i] -= 1
        slots -= 1
        if picks and picks[-1][0] == lane.id:
            picks[-1] = (lane.id, picks[-1][1] + 1)
        else:
            picks.append((lane.id, 1))
    return picks
