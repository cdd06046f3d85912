"""Random builds whose every act is heard: what is planned, and what must have come of it whatever died meanwhile."""

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from buildyard.client.messages import Build, Job, Submission, Tree
from buildyard.client.native import NativeClient
from buildyard.domain.errors import LimitReached, Unavailable
from buildyard.domain.specs import Retry
from buildyard.domain.states import Cause
from e2e.running import Oracle, finished, log_of

LINES = 100
NO_ROOM = 28
"""The exit status of a step that could not write its file."""


@dataclass
class Planned:
    """What one submission asks for, and what must come of it: the result of each job, and how many steps run."""

    key: str
    jobs: dict[str, dict[str, object]] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    @property
    def result(self) -> str:
        """The worst of the jobs."""
        return "failure" if "failure" in self.results.values() else "success"


def planned(chance: random.Random, oracle: Oracle, key: str) -> Planned:
    """One to five jobs of one to three steps, each of which needs some of the earlier ones; a few fail."""
    plan = Planned(key)
    for number in range(chance.randint(1, 5)):
        name = f"j{number}"
        needs = [other for other in plan.jobs if chance.random() < 0.4]
        steps = [_step(chance, oracle, key, step) for step in range(1, chance.randint(1, 3) + 1)]
        fails = chance.random() < 0.15
        if fails:
            steps[-1]["run"] = f"{steps[-1]['run']}\nexit 3"
        plan.jobs[name] = {"needs": needs, "steps": steps, "outputs": ["out"]}
        is_blocked = any(plan.results[need] != "success" for need in needs)
        plan.results[name] = "dependency_failed" if is_blocked else "failure" if fails else "success"
        plan.steps[name] = 0 if is_blocked else len(steps)
    return plan


def _step(chance: random.Random, oracle: Oracle, key: str, number: int) -> dict[str, str]:
    lines = [
        oracle.say(f"{key} $BUILDYARD_JOB $BUILDYARD_ATTEMPT {number}"),
        f"for i in $(seq 1 {LINES}); do echo line $i; done",
        f"sleep {chance.uniform(0, 0.4):.2f}",
        f'echo "$BUILDYARD_JOB" >> out || exit {NO_ROOM}; for i in $(seq 1 {LINES}); do echo line $i; done',
    ]
    return {"name": f"s{number}", "run": "\n".join(lines)}


@dataclass
class Book:
    """What was submitted, and what the server said to it."""

    client: NativeClient
    oracle: Oracle
    chance: random.Random
    tried: dict[str, Planned] = field(default_factory=dict)
    acknowledged: dict[str, Build] = field(default_factory=dict)
    unanswered: int = 0

    async def submit(self) -> None:
        """Submit something; the server may be gone, or refuse for want of room."""
        plan = planned(self.chance, self.oracle, f"k{len(self.tried) + 1}")
        self.tried[plan.key] = plan
        wanted = Submission(workflow=_text(plan.jobs), project="rounds", note=plan.key)
        try:
            self.acknowledged[plan.key] = await self.client.submit(wanted)
        except (Unavailable, LimitReached):
            self.unanswered += 1

    async def check(self, *, excused: frozenset[Cause] = frozenset()) -> Counter[str]:
        """Wait until all is over, and see that nothing is lost, doubled or false; gives how the builds ended.

        A job that ended as error with a cause in `excused` may have done so, and what needs it did not run; with
        STORAGE among them, a step may have found no room for its own file.
        """
        trees = await all_finished(self.client)
        assert self.acknowledged.keys() <= trees.keys() <= self.tried.keys()
        ran, ends = Counter(self.oracle.heard), Counter[str]()
        for key, tree in trees.items():
            plan = self.tried[key]
            if not given_up(tree) and not was_excused(tree, excused):
                assert {job.name: job.result for job in tree.jobs} == plan.results, (key, tree)
                assert tree.build.result == plan.result, (key, tree)
            for job in tree.jobs:
                try:
                    check_attempts(job, ran, plan)
                except AssertionError as exc:
                    raise AssertionError(await _logs(self.client, job)) from exc
                await check_logs(self.client, job)
            ends[str(tree.build.result)] += 1
        assert not ran, f"what ran belongs to no visible attempt: {ran}"
        return ends


def _text(jobs: Mapping[str, object]) -> str:
    return json.dumps({"name": "rounds", "jobs": jobs})


def check_attempts(job: Job, ran: Counter[str], plan: Planned) -> None:
    """All attempts but the last were lost; each step ran at most once in each; all that ran are visible."""
    assert [attempt.number for attempt in job.attempts] == list(range(1, len(job.attempts) + 1))
    assert [attempt.lost for attempt in job.attempts][:-1] == [True] * (len(job.attempts) - 1)
    for attempt in job.attempts:
        for step in attempt.steps[1:]:
            times = ran.pop(f"{plan.key} {job.name} {attempt.number} {step.number}", 0)
            assert times <= 1, (
                f"{plan.key} {job.name}: step {step.number} of attempt {attempt.number} ran {times} times"
            )
            if attempt.result in ("success", "failure") and all(one.exit_status != NO_ROOM for one in attempt.steps):
                assert times == (step.number <= plan.steps[job.name]), (plan.key, job.name, attempt)


def given_up(tree: Tree) -> bool:
    """Whether a job lost its worker so often that its retry rule gave it up: rare, but chance decides who dies."""
    lost = [job for job in tree.jobs if job.cause == Cause.LOST]
    for job in lost:
        assert (job.result, [attempt.lost for attempt in job.attempts]) == ("error", [True] * (1 + Retry().lost_count))
    return bool(lost)


async def _logs(client: NativeClient, job: Job) -> list[bytes]:
    """What all steps printed."""
    steps = [step for attempt in job.attempts for step in attempt.steps if step.log_bytes]
    return [await log_of(client, step.log) for step in steps]


async def check_logs(client: NativeClient, job: Job) -> None:
    """Logs of steps that ran to their end are whole; others are cut off somewhere, and hold nothing else."""
    whole = b"".join(b"line %d\n" % number for number in range(1, LINES + 1)) * 2
    for attempt in job.attempts:
        for step in attempt.steps[1:]:
            if not step.log_bytes:
                continue
            text = await log_of(client, step.log)
            if attempt.lost:  # its end, of which only the words arrived, may stand below all that was printed
                assert whole.startswith(text) or text.startswith(whole), (job.name, attempt, step, text[-300:])
            elif step.result in ("success", "failure") and step.exit_status != NO_ROOM:
                assert text.startswith(whole), (job.name, attempt, step, len(text), text[:300], text[-300:])


def was_excused(tree: Tree, excused: frozenset[Cause]) -> bool:
    """Whether a job could not do its work for one of these causes, and said so."""
    ended = [job for job in tree.jobs if job.result == "error" and job.cause in excused]
    assert all(job.detail or any(attempt.detail for attempt in job.attempts) for job in ended)
    said = [step for job in tree.jobs for attempt in job.attempts for step in attempt.steps]
    return bool(ended) or (Cause.STORAGE in excused and any(step.exit_status == NO_ROOM for step in said))


async def all_finished(client: NativeClient) -> dict[str, Tree]:
    """Every build that the server knows, once it is over."""
    there: dict[str, Tree] = {}
    while page := await client.builds(limit=100, offset=len(there)):
        for build in page:
            assert build.note not in there, "one submission made two builds"
            there[build.note] = await finished(client, build)
    return there
