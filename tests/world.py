"""A small world to tell stories in: people, a project, workers that do as they are told, and a clock."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from buildyard.domain.access import SYSTEM, Actor, ActorKind, Permission, Visibility
from buildyard.domain.ids import SECOND, Moment
from buildyard.domain.specs import JobSpec, PipelineSpec, Requirement, Retry, Source, StepSpec
from buildyard.domain.states import Cause, Phase, Result, Stream
from buildyard.engine import builds, claiming, identity, loops, pipelines, progress, projects
from buildyard.engine.builds import JobView, Submission
from buildyard.engine.engine import Engine
from buildyard.ports import EventBus
from buildyard.protocol import (
    VERSION,
    Ack,
    Answer,
    Beat,
    Claim,
    Claimed,
    Finished,
    Heartbeat,
    Held,
    Hello,
    Item,
    JobGrant,
    Output,
    OutputChunk,
    Report,
    Started,
    StepFinished,
    StepStarted,
    Welcome,
)
from buildyard.store.builds import BuildView
from buildyard.store.pipelines import Pipeline
from buildyard.store.projects import Project

WORKER = Actor(kind=ActorKind.WORKER, name="worker", administrator=True, allowed=frozenset({Permission.REPORT}))
"""Who reports: what a token with the scope `runner` of a trusted worker makes."""

QUEUE_LIMIT = 1_000_000


async def one_piece(data: bytes) -> AsyncIterator[bytes]:
    """A stream of these bytes."""
    yield data


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = Moment(1_800_000_000 * SECOND)

    def __call__(self) -> Moment:
        """The time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now = Moment(self.now + int(seconds * SECOND))


class Wakes:
    """Takes the wake-ups of a database, passes them to the bus and remembers them."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._tasks: set[asyncio.Task[None]] = set()
        self.topics: list[str] = []

    def __call__(self, topics: set[str]) -> None:
        """Publish these."""
        self.topics += sorted(topics)
        task = asyncio.ensure_future(self._bus.publish(sorted(topics)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def job(name: str, *needs: str, steps: int = 1, labels: Iterable[str] = (), **more: object) -> JobSpec:
    """A job of the definition, with `steps` steps of `true`."""
    return JobSpec(
        name=name,
        needs=needs,
        steps=tuple(StepSpec(name=f"step{n}", run="true") for n in range(1, steps + 1)),
        require=Requirement(labels=tuple(labels)),
        **more,  # type: ignore[arg-type]  # fields of JobSpec
    )


def once(*on: Result, count: int = 1, lost_count: int = 3) -> Retry:
    """A rule to try again `count` times after any of `on`."""
    return Retry(count=count, on=on, lost_count=lost_count)


@dataclass
class Hand:
    """A worker as a test drives it: it holds what it got until it reports its end."""

    world: "World"
    name: str
    labels: tuple[str, ...] = ()
    slots: int = 1000
    session: str = field(default_factory=lambda: uuid4().hex)
    state_id: str = field(default_factory=lambda: uuid4().hex)
    held: dict[int, JobGrant] = field(default_factory=dict)
    actor: Actor = WORKER
    written: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))

    async def hello(self, *, held: Sequence[JobGrant] | None = None) -> Welcome:
        """Introduce itself, with all it holds."""
        grants = list(self.held.values()) if held is None else held
        message = Hello(
            protocol=VERSION,
            name=self.name,
            session=self.session,
            state_id=self.state_id,
            version="0",
            labels=list(self.labels),
            executors=["process"],
            system="x86_64-linux",
            slots=self.slots,
            held=[Held(attempt=grant.attempt, token=grant.token) for grant in grants],
        )
        return await claiming.hello(self.world.engine, self.actor, message, address="", now=self.world.clock.now)

    async def restart(self) -> Welcome:
        """Be a new process of the same worker, which holds nothing."""
        self.session = uuid4().hex
        self.held.clear()
        return await self.hello()

    async def poll(self, free: int = 1, *, wait: float = 0.0, have: Sequence[int] | None = None) -> Claimed:
        """Claim; what comes is held."""
        known = list(self.held) if have is None else list(have)
        claimed = await claiming.claim(
            self.world.engine, self.actor, Claim(session=self.session, free=free, have=known, wait_s=wait)
        )
        self.held |= {grant.attempt: grant for grant in claimed.jobs}
        return claimed

    async def claim(self, free: int = 1) -> list[JobGrant]:
        """The jobs that a claim gives at once."""
        return (await self.poll(free)).jobs

    async def take(self) -> JobGrant:
        """The one job that a claim gives."""
        (grant,) = await self.claim(1)
        return grant

    async def beat(self) -> Beat:
        """A heartbeat for all it holds."""
        held = [Held(attempt=grant.attempt, token=grant.token) for grant in self.held.values()]
        return await claiming.heartbeat(self.world.engine, self.actor, Heartbeat(session=self.session, held=held))

    async def leave(self) -> None:
        """Say that the process ends."""
        await claiming.claim(
            self.world.engine, self.actor, Claim(session=self.session, free=0, have=list(self.held), leaving=True)
        )

    async def report(self, *items: Item) -> list[Ack]:
        """Send items and give their answers."""
        return (
            await progress.report(self.world.engine, self.actor, Report(session=self.session, items=list(items)))
        ).acks

    def started(self, grant: JobGrant) -> Started:
        """The item that says that the attempt begins."""
        return Started(attempt=grant.attempt, token=grant.token)

    def step_started(self, grant: JobGrant, number: int) -> StepStarted:
        """The item that says that a step runs."""
        return StepStarted(attempt=grant.attempt, token=grant.token, step=grant.steps[number].step)

    def output(self, grant: JobGrant, number: int, data: bytes, *, offset: int | None = None) -> Output:
        """Bytes of a step's log, after those written before."""
        log = grant.steps[number].log
        at = self.written[log] if offset is None else offset
        self.written[log] = at + len(data)
        chunk = OutputChunk(Stream.OUTPUT, self.world.clock.now, data)
        return Output(attempt=grant.attempt, token=grant.token, log=log, offset=at, chunks=[chunk])

    def step_finished(
        self, grant: JobGrant, number: int, result: Result = Result.SUCCESS, exit_status: int | None = 0
    ) -> StepFinished:
        """The item that says how a step ended."""
        step = grant.steps[number]
        return StepFinished(
            attempt=grant.attempt,
            token=grant.token,
            step=step.step,
            log=step.log,
            log_size=self.written[step.log],
            result=result,
            exit_status=exit_status,
        )

    def finished(self, grant: JobGrant, result: Result = Result.SUCCESS, cause: Cause = Cause.NONE) -> Finished:
        """The item that says how the attempt ended."""
        return Finished(attempt=grant.attempt, token=grant.token, result=result, cause=cause)

    async def finish(self, grant: JobGrant, result: Result = Result.SUCCESS, cause: Cause = Cause.NONE) -> None:
        """Report that the attempt began and ended so, its last step with it."""
        last = len(grant.steps) - 1
        passed = [self.step_finished(grant, number) for number in range(last)]
        acks = await self.report(
            self.started(grant),
            *passed,
            self.step_started(grant, last),
            self.step_finished(grant, last, result, exit_status=None),
            self.finished(grant, result, cause),
        )
        assert [ack.answer for ack in acks] == [Answer.DONE] * len(acks), acks
        self.held.pop(grant.attempt, None)

    async def run_all(self, results: dict[str, Result] | None = None) -> list[str]:
        """Take and finish jobs until there are none, each with its result in `results` (else success); their names."""
        names: list[str] = []
        while grants := await self.claim(50):
            for grant in grants:
                await self.finish(grant, (results or {}).get(grant.spec.name, Result.SUCCESS))
            names += [grant.spec.name for grant in grants]
        return names


@dataclass
class World:
    """What stories happen in."""

    engine: Engine
    clock: Clock
    administrator: Actor
    owner: Actor
    project: Project
    hands: dict[str, Hand] = field(default_factory=dict)

    async def hand(self, name: str = "w1", *, labels: Iterable[str] = (), slots: int = 1000) -> Hand:
        """A worker that has said hello."""
        hand = self.hands[name] = Hand(self, name, tuple(labels), slots)
        await hand.hello()
        return hand

    async def user(self, name: str) -> Actor:
        """A new user, signed in."""
        await self.engine.run(identity.create_user, self.administrator, name, password_hash=None)
        return await self.engine.read(identity.actor_of_user, SYSTEM, name)

    async def other_project(self) -> Project:
        """A second private project of the owner."""
        return await self.engine.run(projects.create_project, self.owner, "bob", "other", visibility=Visibility.PRIVATE)

    async def define(self, *jobs: JobSpec, project: Project | None = None, by: Actor | None = None) -> Pipeline:
        """A new pipeline of these jobs."""
        where = project or self.project
        return await self.engine.run(
            pipelines.create_pipeline, by or self.owner, where.uid, "main", PipelineSpec(jobs=jobs), defined_by="test"
        )

    async def submit(
        self, *jobs: JobSpec, pipeline: Pipeline | None = None, source: Source | None = None, priority: int = 0
    ) -> BuildView:
        """A new build of these jobs, or of a pipeline defined before."""
        defined = pipeline or await self.define(*jobs)
        return await self.engine.run(
            builds.submit_build,
            self.administrator,
            await self._project_of(defined),
            defined.uid,
            Submission(source=source, priority=priority),
            queue_limit=QUEUE_LIMIT,
        )

    async def _project_of(self, pipeline: Pipeline) -> str:
        if pipeline.project == self.project.id:
            return self.project.uid
        found = await self.engine.read(projects.list_projects, self.administrator)
        return next(project.uid for project in found if project.id == pipeline.project)

    async def build(self, view: BuildView) -> BuildView:
        """The build as it is now."""
        return await self.engine.read(builds.get_build, self.administrator, view.build.uid)

    async def jobs(self, view: BuildView) -> dict[str, JobView]:
        """The build's jobs by name, as they are now."""
        found = await self.engine.read(builds.list_jobs, self.administrator, view.build.uid)
        return {one.job.name: one for one in found}

    async def states(self, view: BuildView) -> dict[str, Result | Phase]:
        """How each of the build's jobs ended, or else where it stands."""
        return {
            name: one.job.state.phase if one.job.state.result is None else one.job.state.result
            for name, one in (await self.jobs(view)).items()
        }

    async def result(self, view: BuildView) -> Result | None:
        """How the build ended; None if it has not."""
        return (await self.build(view)).build.state.result

    async def cancel(self, view: BuildView, reason: str = "") -> BuildView:
        """Cancel as the owner."""
        return await self.engine.run(builds.cancel_build, self.owner, view.build.uid, reason=reason)

    async def expire(self) -> list[int]:
        """Do what the loop does with leases that ran out."""
        return [int(key) for key in await loops.lose_expired_leases(self.engine)]


async def settle_in(engine: Engine, clock: Clock) -> World:
    """Make the people and the project of a world."""
    await engine.run(identity.ensure_administrator, SYSTEM, "not a hash")
    administrator = await engine.read(identity.actor_of_user, SYSTEM, "admin")
    await engine.run(identity.create_user, administrator, "bob", password_hash=None)
    owner = await engine.read(identity.actor_of_user, SYSTEM, "bob")
    project = await engine.run(projects.create_project, owner, "bob", "hello", visibility=Visibility.PRIVATE)
    return World(engine=engine, clock=clock, administrator=administrator, owner=owner, project=project)
