"""Random workflows, workers, results, losses, cancels and lies: what must hold does, at every step."""

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
from sqlalchemy import select

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.states import Phase, Result
from buildyard.engine import builds
from buildyard.engine.usage import compute_usage
from buildyard.protocol import Answer, Item, JobGrant
from buildyard.store.statements import Statement
from buildyard.store.tables import jobs, lanes, requirements
from buildyard.store.transactions import Transaction
from invariants import check_invariants
from machine import Machine, Opener, run_on_postgres, run_on_sqlite
from world import QUEUE_LIMIT, Hand, job, once

pytestmark = pytest.mark.covers("proof.state_machine", "engine.states.machine", "engine.states.result")

LABELS = ("", "gpu")
ENDS = (Result.SUCCESS, Result.SUCCESS, Result.WARNINGS, Result.FAILURE, Result.ERROR, Result.TIMEOUT, Result.CANCELLED)
QUEUE = Statement(
    select(jobs.c.id, requirements.c.key)
    .select_from(
        jobs.join(lanes, lanes.c.id == jobs.c.lane).join(requirements, requirements.c.id == lanes.c.requirement)
    )
    .where(jobs.c.phase == int(Phase.QUEUED))
)
RESULTS = Statement(select(jobs.c.id, jobs.c.result).where(jobs.c.phase == int(Phase.FINISHED)))

a_job = st.tuples(
    st.lists(st.integers(0, 5), max_size=3, unique=True),
    st.sampled_from(LABELS),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 2),
)
which = st.integers(0, 30)


async def queue(tx: Transaction, _actor: Actor) -> list[str]:
    """The labels that each queued job asks for."""
    return [row[1].partition("\n")[0] for row in await tx.fetch(QUEUE)]


async def results(tx: Transaction, _actor: Actor) -> dict[int, int]:
    """How each finished job ended."""
    return {row[0]: row[1] for row in await tx.fetch(RESULTS)}


class Yard(Machine):
    """A server under everything that may happen to it; `drain` at the end shows that nothing is stuck."""

    def __init__(self, open_database: Opener) -> None:
        super().__init__(open_database)
        self.past: list[tuple[Hand, list[Item]]] = []
        self.known: dict[int, int] = {}
        self.hands = [
            self.do(self.world.hand("plain")),
            self.do(self.world.hand("gpu", labels=["gpu"])),
            self.do(self.world.hand("more", labels=["gpu", "big"])),
        ]

    def grant(self, n: int) -> tuple[Hand, JobGrant]:
        held = [(hand, grant) for hand in self.hands for grant in hand.held.values()]
        return held[n % len(held)]

    def any_held(self) -> bool:
        return any(hand.held for hand in self.hands)

    def report(self, hand: Hand, *items: Item) -> set[Answer]:
        self.past.append((hand, list(items)))
        return {ack.answer for ack in self.do(hand.report(*items))}

    @initialize(specs=st.lists(a_job, min_size=1, max_size=6))
    def first(self, specs: list[Any]) -> None:
        self.submit(specs)

    @rule(specs=st.lists(a_job, min_size=1, max_size=6))
    def submit(self, specs: list[Any]) -> None:
        made = [
            job(
                f"j{n}",
                *(f"j{need}" for need in needs if need < n),
                labels=[label] if label else [],
                allow_failure=allowed,
                retry=once(Result.FAILURE, Result.ERROR, count=tries, lost_count=lost),
            )
            for n, (needs, label, tries, allowed, lost) in enumerate(specs)
        ]
        self.views.append(self.do(self.world.submit(*made)))

    @rule(n=which, free=st.integers(1, 4))
    def claim(self, n: int, free: int) -> None:
        hand = self.hands[n % len(self.hands)]
        fitting = [
            label for label in self.do(self.world.engine.read(queue, SYSTEM)) if not label or label in hand.labels
        ]
        self.do(self._fresh_usage())
        jobs_given = self.do(hand.claim(free))
        assert len(jobs_given) == min(free, len(fitting)), "a fitting job was left though a worker was free"

    async def _fresh_usage(self) -> None:
        self.world.engine.usage.put(await self.world.engine.read(compute_usage, SYSTEM))

    @rule(n=which)
    def lose_the_answer_of_a_claim(self, n: int) -> None:
        hand = self.hands[n % len(self.hands)]
        lost = self.do(hand.claim(2))
        for grant in lost:
            hand.held.pop(grant.attempt)
        again = self.do(hand.claim(len(lost))) if lost else []
        given = [(grant.attempt, grant.token) for grant in lost]
        assert [(grant.attempt, grant.token) for grant in again] == given

    @precondition(any_held)
    @rule(n=which, data=st.binary(max_size=20))
    def run_a_step(self, n: int, data: bytes) -> None:
        hand, grant = self.grant(n)
        answers = self.report(
            hand,
            hand.started(grant),
            hand.step_finished(grant, 0),
            hand.step_started(grant, 1),
            hand.output(grant, 1, data),
        )
        assert answers in ({Answer.DONE}, {Answer.STALE})

    @precondition(any_held)
    @rule(n=which, end=st.sampled_from(ENDS), tell_start=st.booleans())
    def finish(self, n: int, end: Result, *, tell_start: bool) -> None:
        hand, grant = self.grant(n)
        start = [hand.started(grant), hand.step_started(grant, 1), hand.step_finished(grant, 1, end)]
        answers = self.report(hand, *(start if tell_start else []), hand.finished(grant, end))
        assert answers in ({Answer.DONE}, {Answer.STALE})
        hand.held.pop(grant.attempt)

    @precondition(lambda self: self.past)
    @rule(n=which)
    def repeat_an_old_report(self, n: int) -> None:
        hand, items = self.past[n % len(self.past)]
        assert self.report(hand, *items) <= {Answer.DONE, Answer.STALE, Answer.RETRY}

    @rule(n=which)
    def heartbeat(self, n: int) -> None:
        hand = self.hands[n % len(self.hands)]
        for attempt in self.do(hand.beat()).drop:
            hand.held.pop(attempt)

    @rule(n=which, keep=st.booleans())
    def restart_a_worker(self, n: int, *, keep: bool) -> None:
        hand = self.hands[n % len(self.hands)]
        if keep:
            self.do(hand.hello())
        else:
            self.do(hand.restart())

    @rule(seconds=st.sampled_from((1, 20, 31)))
    def let_time_pass(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.do(self.world.expire())

    @rule(n=which)
    def cancel(self, n: int) -> None:
        self.do(self.world.cancel(self.views[n % len(self.views)]))

    @rule(n=which)
    def rebuild(self, n: int) -> None:
        old = self.views[n % len(self.views)].build.uid
        self.views.append(
            self.do(
                self.world.engine.run(builds.rebuild_build, self.world.owner, old, reason="", queue_limit=QUEUE_LIMIT)
            )
        )

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        self.do(self.world.engine.read(check_invariants, SYSTEM))
        now = self.do(self.world.engine.read(results, SYSTEM))
        assert now.items() >= self.known.items(), "a recorded result changed"
        self.known = now

    def drain(self) -> None:
        """Let the workers finish all there is: every build then ends."""
        self.clock.advance(31)
        self.do(self.world.expire())
        for hand in self.hands:
            self.do(hand.restart())
        while sum(len(self.do(hand.run_all())) for hand in self.hands):
            pass


def test_on_sqlite(sqlite_template: Path) -> None:
    run_on_sqlite(Yard, sqlite_template)


def test_on_postgres(postgres_tables: str, empty_statements: str) -> None:
    run_on_postgres(Yard, postgres_tables, empty_statements)
