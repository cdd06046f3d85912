"""The logs of a build as the parts that people name: its setup, and each of its tasks.

A build of one job has its steps as tasks, another one its jobs. Each log is one run of bytes that only ever grows:
what a lost attempt wrote stays, and what the next one writes follows after a line that says so.
"""

from dataclasses import replace

from buildyard.domain.access import Actor
from buildyard.domain.builds import Build
from buildyard.domain.errors import Gone, NotFound
from buildyard.domain.ids import BuildId, iso
from buildyard.engine.builds import get_build_by_id
from buildyard.engine.engine import Engine
from buildyard.engine.log_reading import JobLog, get_job_log, measure, read_sections
from buildyard.store import jobs, pipelines
from buildyard.store.transactions import Transaction

SETUP = 0
"""The number of the step that lays in sources, inputs and caches."""


async def get_setup_log(tx: Transaction, actor: Actor, build: BuildId) -> JobLog | None:
    """What was written before the first task: by a build of several jobs in the job that a worker had first.

    None: no worker has had a job of it yet.
    """
    found = (await get_build_by_id(tx, actor, build)).build
    if found.first_job is None:
        return None
    whole = await get_job_log(tx, actor, (await jobs.get(tx, found.first_job)).uid)
    return _kept(replace(whole, parts=tuple(part for part in whole.parts if part.step == SETUP)))


async def get_task_log(tx: Transaction, actor: Actor, build: BuildId, task: str) -> JobLog:
    """What the task with this name wrote, in all its attempts; it is there before it runs, with nothing in it."""
    found = (await get_build_by_id(tx, actor, build)).build
    if found.jobs_total > 1:
        return await _log_of_job(tx, actor, found, task)
    (job,) = await jobs.of_build(tx, build)
    whole = await get_job_log(tx, actor, job.uid)
    parts = tuple(part for part in whole.parts if part.step != SETUP and part.name == task)
    if not parts and task not in {step.name for step in (await pipelines.job_spec(tx, job.spec)).steps}:
        raise NotFound("log not found")
    return _kept(replace(whole, parts=parts))


async def _log_of_job(tx: Transaction, actor: Actor, build: Build, name: str) -> JobLog:
    for job in await jobs.of_build(tx, build.id):
        if job.name == name:
            return _kept(await get_job_log(tx, actor, job.uid))
    raise NotFound("log not found")


def _kept(log: JobLog) -> JobLog:
    """The log, unless retention took all of it."""
    begun = [part for part in log.parts if part.begun]
    removed = [part.removed_at for part in begun if part.removed_at is not None]
    if begun and len(removed) == len(begun):
        raise Gone(f"the log was deleted by retention on {iso(max(removed))}")
    return log


async def last_bytes(engine: Engine, log: JobLog | None, count: int) -> bytes:
    """The newest `count` bytes of a log."""
    sections = await measure(engine, log) if log is not None else []
    size = sections[-1].stop if sections else 0
    return b"".join([piece async for piece in read_sections(engine, sections, max(0, size - count), size)])
