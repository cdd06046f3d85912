"""Fifty rounds of kill -9, at moments that chance chooses, against one growing history."""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from buildyard.client.messages import Build, Job, Submission, Tree
from buildyard.client.native import NativeClient
from buildyard.domain.access import SYSTEM
from buildyard.domain.errors import Unavailable
from buildyard.domain.specs import Retry
from buildyard.domain.states import Cause
from buildyard.engine.engine import fresh_uid, system_clock
from buildyard.store.sqlite import SqliteDatabase
from e2e.running import PROGRAM, Oracle, Program, Yard, finished, log_of, nothing_left, served
from invariants import check_invariants

ROUNDS = 25
"""For each of the two executors."""

LINES = 100


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
        f'echo "$BUILDYARD_JOB" >> out; for i in $(seq 1 {LINES}); do echo line $i; done',
    ]
    return {"name": f"s{number}", "run": "\n".join(lines)}


@dataclass
class Story:
    """What was submitted, and what the server said to it."""

    yard: Yard
    client: NativeClient
    oracle: Oracle
    chance: random.Random
    tried: dict[str, Planned] = field(default_factory=dict)
    acknowledged: dict[str, Build] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    keys: "count[int]" = field(default_factory=lambda: count(1))

    async def submit(self) -> None:
        """Submit something, after a while; the server may be gone then."""
        await asyncio.sleep(self.chance.uniform(0, 0.8))
        plan = planned(self.chance, self.oracle, f"k{next(self.keys)}")
        self.tried[plan.key] = plan
        wanted = Submission(workflow=_text(plan.jobs), project="rounds", note=plan.key)
        try:
            self.acknowledged[plan.key] = await self.client.submit(wanted)
        except Unavailable:
            self.killed["submissions"] += 1

    async def round(self) -> None:
        """Work for the yard, and a death at some moment of it."""
        submissions = [asyncio.create_task(self.submit()) for _ in range(3)]
        await asyncio.sleep(self.chance.uniform(0, 1.2))
        victim = self.chance.choice(["server", "worker", "both", "starting server"])
        self.killed[victim] += 1
        if victim in ("worker", "both"):
            await self._kill_worker()
        if victim != "worker":
            await self.yard.server.kill()
        await asyncio.gather(*submissions)
        if victim == "starting server":
            await self._kill_while_starting()
        if victim != "worker":
            await self.yard.start()

    async def _kill_worker(self) -> None:
        """The worker, or nobody if there is none at this moment."""
        try:
            async with asyncio.timeout(0.5):
                await self.yard.kill_worker()
        except TimeoutError:
            self.killed["nobody"] += 1

    async def _kill_while_starting(self) -> None:
        variables = {**self.yard.variables, "BUILDYARD_DATA": str(self.yard.data), "BUILDYARD_PORT": "0"}
        starting = await Program.start([*PROGRAM, "serve"], variables, self.yard.log)
        await asyncio.sleep(self.chance.uniform(0, 2))
        await starting.kill()


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
            if not attempt.lost:
                assert times == (step.number <= plan.steps[job.name])


def given_up(tree: Tree) -> bool:
    """Whether a job lost its worker so often that its retry rule gave it up: rare, but chance decides who dies."""
    lost = [job for job in tree.jobs if job.cause == Cause.LOST]
    for job in lost:
        assert (job.result, [attempt.lost for attempt in job.attempts]) == ("error", [True] * (1 + Retry().lost_count))
    return bool(lost)


async def check_logs(client: NativeClient, job: Job) -> None:
    """Logs of steps that ended are whole; those of lost ones are cut off somewhere."""
    whole = b"".join(b"line %d\n" % number for number in range(1, LINES + 1)) * 2
    for attempt in job.attempts:
        for step in attempt.steps[1:]:
            if step.log_bytes:
                text = await log_of(client, step.log)
                assert whole.startswith(text) if attempt.lost else text.startswith(whole), (job.name, attempt.number)


@pytest.mark.covers(
    "proof.crashes", "engine.recovery.server", "engine.recovery.worker", "engine.recovery.once", "logs.durable"
)
async def test_whatever_dies_whenever_each_job_ends_once_with_the_right_result(
    executor: str, oracle: Oracle, tmp_path: Path
) -> None:
    seed = int(os.environ.get("BUILDYARD_SEED") or random.randrange(2**32))
    print(f"BUILDYARD_SEED={seed}")
    settings = {
        "BUILDYARD_EXECUTOR": executor,
        "BUILDYARD_WORKERS": "4",
        "BUILDYARD_SANDBOX_READ_ONLY_PATHS": str(oracle.folder),
    }
    async with served(tmp_path / "data", **settings) as yard:
        story = Story(yard, yard.client(), oracle, random.Random(seed))
        for _ in range(ROUNDS):
            await story.round()
        trees = await _all_finished(story)
        print(
            dict(story.killed), len(story.tried), "tried", len(story.acknowledged), "acknowledged", len(trees), "there"
        )
        print(Counter(len(job.attempts) for tree in trees.values() for job in tree.jobs), "attempts")

        assert story.acknowledged.keys() <= trees.keys() <= story.tried.keys()
        ran = Counter(oracle.heard)
        for key, tree in trees.items():
            plan = story.tried[key]
            if not given_up(tree):
                assert {job.name: job.result for job in tree.jobs} == plan.results
                assert tree.build.result == plan.result
            for job in tree.jobs:
                check_attempts(job, ran, plan)
                await check_logs(story.client, job)
        assert not ran, f"what ran belongs to no visible attempt: {ran}"
        await nothing_left(yard.data / "worker")
        assert await yard.stop() == 0
        await nothing_left(yard.data / "worker")
        await _check_database(yard.data / "buildyard.sqlite")


async def _all_finished(story: Story) -> dict[str, Tree]:
    """Every build that the server knows, once it is over."""
    there: dict[str, Tree] = {}
    while page := await story.client.builds(limit=100, offset=len(there)):
        for build in page:
            assert build.note not in there, "one submission made two builds"
            there[build.note] = await finished(story.client, build)
    return there


async def _check_database(path: Path) -> None:
    database = SqliteDatabase(path, clock=system_clock, fresh_uid=fresh_uid, wake=lambda _topics: None)
    await database.open()
    try:
        await database.read(lambda tx: check_invariants(tx, SYSTEM))
    finally:
        await database.close()
