"""Random locks, groups, approvals and starts under claims, losses, cancels, time: nothing exceeded, nothing stuck."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from buildyard.domain.access import SYSTEM
from buildyard.domain.errors import Conflict
from buildyard.domain.ids import SECOND, Moment
from buildyard.domain.specs import (
    SHARED,
    Approval,
    Concurrency,
    JobSpec,
    LockScope,
    LockSpec,
    PipelineSpec,
    Requirement,
)
from buildyard.domain.states import Result
from buildyard.engine import approvals, builds, clockwork, pipelines
from buildyard.engine.builds import Submission
from buildyard.store.builds import BuildView
from invariants import check_invariants
from machine import Machine, Opener, run_on_postgres, run_on_sqlite
from world import QUEUE_LIMIT, Hand, job, once

pytestmark = pytest.mark.covers("blockers.machine", "blockers.locks.many", "blockers.two_servers")

ENDS = (Result.SUCCESS, Result.SUCCESS, Result.FAILURE, Result.ERROR, Result.CANCELLED)
LOCKS = (
    LockSpec(name="x"),
    LockSpec(name="y"),
    LockSpec(name="x", most=2),
    LockSpec(name="z", most=SHARED),
    LockSpec(name="z"),
    LockSpec(name="x", scope=LockScope.SERVER, most=2),
)
GROUPS = (
    None,
    None,
    Concurrency(group="g"),
    Concurrency(group="g", limit=2),
    Concurrency(group="g", cancel_older=True),
    Concurrency(group="h", cancel_older=True),
)
ON_WORKER = ((), (), (("port", 1),), (("gpu", 2),), (("port", 1), ("gpu", 1)))

a_job = st.fixed_dictionaries(
    {
        "needs": st.lists(st.integers(0, 3), max_size=2, unique=True),
        "locks": st.lists(st.sampled_from(LOCKS), max_size=3, unique_by=lambda lock: (lock.name, lock.scope)),
        "on_worker": st.sampled_from(ON_WORKER),
        "approval": st.sampled_from((None, None, None, 30, 0)),
        "tries": st.integers(0, 1),
        "lost": st.integers(0, 1),
        "allowed": st.booleans(),
    }
)
a_build = st.tuples(
    st.lists(a_job, min_size=1, max_size=4),
    st.sampled_from(GROUPS),
    st.sampled_from((None, None, 10)),
    st.sampled_from((None, None, None, 20)),
)
which = st.integers(0, 30)


def spec_of(n: int, drawn: dict[str, Any]) -> JobSpec:
    """A job as it was drawn."""
    made = job(
        f"j{n}",
        *(f"j{need}" for need in drawn["needs"] if need < n),
        locks=tuple(drawn["locks"]),
        approval=None if drawn["approval"] is None else approval_of(drawn["approval"]),
        retry=once(Result.FAILURE, Result.ERROR, count=drawn["tries"], lost_count=drawn["lost"]),
        allow_failure=drawn["allowed"],
    )
    fields = {name: getattr(made, name) for name in made.__dataclass_fields__}
    return JobSpec(**{**fields, "require": Requirement(locks=drawn["on_worker"])})


def approval_of(seconds: int) -> Approval:
    """An approval that bob may give, for so long; 0: for ever."""
    return Approval(users=("bob",), expires_s=seconds or None)


class Yard(Machine):
    """A server under all that may happen to work that is held up; `drain` at the end shows that nothing is stuck."""

    def __init__(self, open_database: Opener) -> None:
        super().__init__(open_database)
        self.names = iter(range(1_000_000))
        self.hands = [self.do(self.world.hand(name)) for name in ("one", "two", "three")]

    async def _submit(self, drawn: Any) -> BuildView:
        jobs, group, delay, approval = drawn
        spec = PipelineSpec(jobs=tuple(spec_of(n, one) for n, one in enumerate(jobs)), concurrency=group)
        run, world = self.world.engine.run, self.world
        name = f"p{next(self.names)}"
        pipeline = await run(pipelines.create_pipeline, world.owner, world.project.uid, name, spec, defined_by="test")
        submission = Submission(
            start_at=None if delay is None else Moment(self.clock.now + delay * SECOND),
            approval=None if approval is None else approval_of(approval),
        )
        return await run(
            builds.submit_build, world.owner, world.project.uid, pipeline.uid, submission, queue_limit=QUEUE_LIMIT
        )

    @initialize(drawn=a_build)
    def first(self, drawn: Any) -> None:
        self.submit(drawn)

    @rule(drawn=a_build)
    def submit(self, drawn: Any) -> None:
        self.views.append(self.do(self._submit(drawn)))

    @rule(drawn=st.lists(a_build, min_size=2, max_size=3), n=which)
    def submit_cancel_and_claim_at_once(self, drawn: list[Any], n: int) -> None:
        async def act() -> None:
            made = await asyncio.gather(
                *(self._submit(one) for one in drawn),
                self.world.cancel(self.views[n % len(self.views)]),
                self.hands[n % 3].claim(2),
                clockwork.pass_what_is_due(self.world.engine),
            )
            self.views += [one for one in made[: len(drawn)] if isinstance(one, BuildView)]

        self.do(act())

    @rule(n=which, free=st.integers(1, 4))
    def claim(self, n: int, free: int) -> None:
        self.do(self.hands[n % 3].claim(free))

    @precondition(lambda self: any(hand.held for hand in self.hands))
    @rule(n=which, end=st.sampled_from(ENDS))
    def finish(self, n: int, end: Result) -> None:
        held = [(hand, grant) for hand in self.hands for grant in hand.held.values()]
        hand, grant = held[n % len(held)]
        self.do(hand.report(hand.started(grant), hand.finished(grant, end)))
        hand.held.pop(grant.attempt)

    @rule(end=st.sampled_from(ENDS))
    def finish_all_at_once(self, end: Result) -> None:
        self.do(self._finish_all(end))

    async def _finish_all(self, end: Result) -> None:
        await asyncio.gather(*(self._finish_of(hand, end) for hand in self.hands))

    async def _finish_of(self, hand: Hand, end: Result) -> None:
        for grant in list(hand.held.values()):
            await hand.report(hand.started(grant), hand.finished(grant, end))
            hand.held.pop(grant.attempt)

    @rule(n=which, granted=st.booleans(), name=st.sampled_from(("", "j0", "j1")))
    def answer(self, n: int, name: str, *, granted: bool) -> None:
        with suppress(Conflict):
            self.do(
                self.world.engine.run(
                    approvals.answer_approval,
                    self.world.owner,
                    self.views[n % len(self.views)].build.uid,
                    job=name,
                    granted=granted,
                )
            )

    @rule(seconds=st.sampled_from((1, 11, 31)))
    def let_time_pass(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.do(self.world.expire())
        self.do(clockwork.pass_what_is_due(self.world.engine))

    @rule(n=which)
    def restart_a_worker(self, n: int) -> None:
        self.do(self.hands[n % 3].restart())

    @rule(n=which)
    def cancel(self, n: int) -> None:
        self.do(self.world.cancel(self.views[n % len(self.views)]))

    @rule(n=which)
    def rebuild(self, n: int) -> None:
        old = self.views[n % len(self.views)].build.uid
        run = self.world.engine.run(builds.rebuild_build, self.world.owner, old, reason="", queue_limit=QUEUE_LIMIT)
        self.views.append(self.do(run))

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        self.do(self.world.engine.read(check_invariants, SYSTEM))

    def drain(self) -> None:
        """Approve all, let time pass and workers work: every build then ends."""
        for hand in self.hands:
            self.do(hand.restart())
        worked = True
        while worked:
            self.clock.advance(40)
            self.do(self.world.expire())
            worked = bool(self.do(clockwork.pass_what_is_due(self.world.engine)))
            for view in self.views:
                with suppress(Conflict):
                    answer = self.world.engine.run(
                        approvals.answer_approval, self.world.owner, view.build.uid, granted=True
                    )
                    self.do(answer)
                    worked = True
            worked = bool(sum(len(self.do(hand.run_all())) for hand in self.hands)) or worked


def test_on_sqlite(sqlite_template: Path) -> None:
    run_on_sqlite(Yard, sqlite_template)


def test_on_postgres(postgres_tables: str, empty_statements: str) -> None:
    run_on_postgres(Yard, postgres_tables, empty_statements)
