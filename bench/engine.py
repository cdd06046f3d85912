"""The engine alone, in one process: submits, claims with finishes, and reads, on SQLite or PostgreSQL.

`python -m bench.engine sqlite|postgres [--jobs N] [--batch N] [--workers N] [--profile]`; nothing is written down.
"""

import argparse
import asyncio
import contextlib
import cProfile
import pstats
import secrets
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.rows_claims import postgres
from buildyard.adapters.blobs.local import LocalBlobStore
from buildyard.adapters.bus.memory import MemoryBus
from buildyard.adapters.logs.local import LocalLogStore
from buildyard.domain.access import SYSTEM, Actor, ActorKind, Permission
from buildyard.domain.ids import BuildId
from buildyard.domain.specs import JobSpec, PipelineSpec, StepSpec
from buildyard.domain.states import Result
from buildyard.engine import builds, claiming, identity, pipelines, progress, projects
from buildyard.engine.engine import Engine, Policy, fresh_uid, system_clock
from buildyard.engine.usage import UsageBook
from buildyard.protocol import (
    VERSION,
    Claim,
    Finished,
    Hello,
    Item,
    JobGrant,
    Report,
    Started,
    StepFinished,
    StepStarted,
)
from buildyard.store import schema
from buildyard.store.pipelines import Pipeline
from buildyard.store.postgres import PostgresDatabase
from buildyard.store.projects import Project
from buildyard.store.sqlite import SqliteDatabase

WORKER = Actor(kind=ActorKind.WORKER, name="worker", administrator=True, allowed=frozenset({Permission.REPORT}))
JOBS_OF_BUILD = 10
QUEUE_LIMIT = 10_000_000


@contextlib.asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[Engine]:
    """An engine on a database that is brought up to date first."""
    await schema.upgrade(url)
    database: SqliteDatabase | PostgresDatabase
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        database = SqliteDatabase(path, clock=system_clock, fresh_uid=fresh_uid, wake=lambda _topics: None)
    else:
        database = PostgresDatabase(url, clock=system_clock, fresh_uid=fresh_uid, wake=lambda _topics: None)
    await database.open()
    logs = LocalLogStore(folder / "logs")
    yield Engine(
        database=database,
        logs=logs,
        blobs=LocalBlobStore(folder / "blobs"),
        bus=MemoryBus(),
        policy=Policy(public_url=""),
        usage=UsageBook(),
    )
    await logs.close()
    await database.close()


async def prepare(engine: Engine, *, jobs: int) -> tuple[Actor, Project, Pipeline]:
    """An administrator, a project and a pipeline of so many one-step jobs."""
    await engine.run(identity.ensure_administrator, SYSTEM, "not a hash")
    actor = await engine.read(identity.actor_of_user, SYSTEM, "admin")
    project = await engine.run(projects.create_project, actor, "admin", "bench")
    spec = PipelineSpec(
        jobs=tuple(JobSpec(name=f"j{n}", steps=(StepSpec(name="run", run="true"),)) for n in range(jobs))
    )
    return (
        actor,
        project,
        await engine.run(pipelines.create_pipeline, actor, project.uid, "main", spec, defined_by="bench"),
    )


async def submit(engine: Engine, count: int, at_once: int) -> float:
    """Builds submitted a second."""
    actor, project, pipeline = await prepare(engine, jobs=JOBS_OF_BUILD)
    return await submit_some(engine, actor, project, pipeline, count, at_once)


async def submit_some(
    engine: Engine, actor: Actor, project: Project, pipeline: Pipeline, count: int, at_once: int
) -> float:
    """The same of a pipeline that there is."""
    left = count

    async def one() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await engine.run(
                builds.submit_build, actor, project.uid, pipeline.uid, builds.Submission(), queue_limit=QUEUE_LIMIT
            )

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(at_once)))
    return count / (time.perf_counter() - begun)


async def read(engine: Engine, seconds: float = 3.0) -> None:
    """Print how often one build, and a page of the newest 50, are read a second, one after the other."""
    actor = await engine.read(identity.actor_of_user, SYSTEM, "admin")
    (project,) = await engine.read(projects.list_projects, actor)
    newest, total = await engine.read(builds.list_builds, actor, project.uid, limit=50, offset=0)
    middle = await engine.read(builds.get_build_by_id, actor, BuildId(newest[0].build.id // 2))

    async def page() -> None:
        await engine.read(builds.list_builds, actor, project.uid, limit=50, offset=0)

    async def one() -> None:
        await engine.read(builds.get_build, actor, middle.build.uid)

    for name, act in (("one build", one), ("newest 50", page)):
        begun, count, worst = time.perf_counter(), 0, 0.0
        while (now := time.perf_counter()) - begun < seconds:
            await act()
            worst = max(worst, time.perf_counter() - now)
            count += 1
        print(f"{name} of {total}: {count / seconds:.0f}/s, longest {worst * 1e3:.1f} ms")


def ends(grant: JobGrant, *, whole: bool) -> list[Item]:
    """What a worker reports of a job: all its steps, or its end only."""
    about = {"attempt": grant.attempt, "token": grant.token}
    steps: list[Item] = []
    for step in grant.steps if whole else ():
        steps.append(StepStarted(**about, step=step.step))
        steps.append(StepFinished(**about, step=step.step, log=step.log, log_size=0, result=Result.SUCCESS))
    return (
        [Started(**about), *steps, Finished(**about, result=Result.SUCCESS)]
        if whole
        else [Finished(**about, result=Result.SUCCESS)]
    )


async def work(engine: Engine, workers: int, batch: int, *, whole: bool) -> tuple[int, float]:
    """Claim and finish all there is; how many jobs that were, and the seconds."""
    done = 0

    async def one(number: int) -> None:
        nonlocal done
        session = secrets.token_hex(16)
        hello = Hello(
            protocol=VERSION,
            name=f"w{number}",
            session=session,
            state_id=session,
            version="",
            labels=[],
            executors=["process"],
            system="",
            slots=batch,
        )
        await claiming.hello(engine, WORKER, hello, address="", now=0)
        while True:
            claimed = await claiming.claim(engine, WORKER, Claim(session=session, free=batch, have=[], wait_s=0))
            if not claimed.jobs:
                return
            items = [item for grant in claimed.jobs for item in ends(grant, whole=whole)]
            await progress.report(engine, WORKER, Report(session=session, items=items))
            done += len(claimed.jobs)

    begun, own = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one(n) for n in range(workers)))
    print(f"own CPU: {(time.process_time() - own) / max(1, done) * 1e3:.2f} ms a job")
    return done, time.perf_counter() - begun


async def measure(url: str, options: argparse.Namespace) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        where = url or f"sqlite:///{scratch}/bench.sqlite"
        async with opened(where, Path(scratch)) as engine:
            profile = cProfile.Profile() if options.profile else None
            a_second = await submit(engine, options.jobs // JOBS_OF_BUILD, 16)
            print(f"submit builds of {JOBS_OF_BUILD} jobs: {a_second:.0f}/s, {a_second * JOBS_OF_BUILD:.0f} jobs/s")
            if profile:
                profile.enable()
            done, taken = await work(engine, options.workers, options.batch, whole=options.whole)
            if profile:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)
            print(f"claim + finish: {done / taken:.0f}/s ({options.workers} workers, {options.batch} at once)")


async def measure_reads(url: str) -> None:
    """Print how fast a filled database is read."""
    with tempfile.TemporaryDirectory() as scratch:
        async with opened(url, Path(scratch)) as engine:
            await read(engine)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("database", choices=["sqlite", "postgres"])
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--whole", action="store_true", help="report every step, not only the end")
    parser.add_argument("--stored", metavar="URL", help="only read, in a database that bench.generate filled")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.stored:
        asyncio.run(measure_reads(options.stored))
    elif options.database == "sqlite":
        asyncio.run(measure("", options))
    else:
        with postgres() as address:
            asyncio.run(measure(address, options))


if __name__ == "__main__":
    main()
