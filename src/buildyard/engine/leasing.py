"""Handing jobs to workers: hello, claim, heartbeat, and the loss of what they held."""

import hashlib
import hmac
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from buildyard.domain import transitions
from buildyard.domain.access import Actor, require_worker, serves
from buildyard.domain.blocking import Held as HeldLock
from buildyard.domain.blocking import lanes_with_room, pick_with_locks
from buildyard.domain.builds import Attempt, Job
from buildyard.domain.errors import Conflict, Fault, Forbidden, Incompatible, Invalid, NotFound
from buildyard.domain.fairness import Lane, Usage
from buildyard.domain.ids import SECOND, AttemptId, LaneId, LogId, Moment, PipelineId, WorkerId
from buildyard.domain.labels import Offer, fits, requirement_of
from buildyard.domain.specs import FolderSource, GitSource, JobSpec
from buildyard.domain.states import Phase
from buildyard.domain.trust import is_trusted
from buildyard.engine.attempt_tokens import with_tokens
from buildyard.engine.granting import with_secrets
from buildyard.engine.keyring import Keyring
from buildyard.engine.lease_facts import with_facts, with_pins
from buildyard.engine.planning import with_variables
from buildyard.engine.settling import locked_build, settle
from buildyard.engine.terminals import wishes_of
from buildyard.protocol import SERVED, VERSION, Beat, Held, Hello, InputFile, JobGrant, StepGrant, TerminalWish
from buildyard.store import attempts, builds, jobs, kept, locks, pipelines, workers
from buildyard.store.transactions import Transaction
from buildyard.store.workers import Introduction, Worker

_NAME = re.compile(r"[^\s/\x00-\x1f\x7f]{1,100}")
REMOVED = "this worker was removed from the server; start it anew to have it back"

requirement = lru_cache(maxsize=4096)(requirement_of)
"""The requirement of a key; keys are few and asked for at every claim."""


def fencing_digest(token: str) -> bytes:
    """What is stored of a fencing token."""
    return hashlib.sha256(token.encode()).digest()


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a hello came to: the worker, what it must drop, and attempts whose logs must be sealed."""

    worker: Worker
    drop: tuple[AttemptId, ...]
    lost: tuple[AttemptId, ...]


async def greet_worker(
    tx: Transaction, actor: Actor, hello: Hello, *, address: str, lease: float, labels: tuple[str, ...] = ()
) -> Greeting:
    """A worker (re)connects. What an earlier process of the same worker held is lost now.

    `labels` are fixed by its token, if it fixes any.
    """
    require_worker(actor)
    _check_names(hello)
    _require_served(hello.protocol)
    worker = await workers.find_or_add(tx, hello.name)
    is_new = worker.session != hello.session
    if worker.removed_at is not None and not is_new:
        raise Forbidden(REMOVED)
    is_known = worker.slots > 0 and worker.removed_at is None
    if is_known and actor.only_project not in (None, worker.project):
        raise Conflict(
            f"{hello.name} is a worker that works for more than this token's project: give this one another name"
        )
    if is_new and worker.state_id != hello.state_id and await _is_alive(tx, worker, lease):
        raise Conflict(f"another worker named {hello.name} is connected: give this one another name")
    await workers.introduce(
        tx,
        worker,
        Introduction(
            session=hello.session,
            state_id=hello.state_id,
            offer=Offer(frozenset(labels or hello.labels), frozenset(hello.executors), hello.system),
            slots=hello.slots,
            version=hello.version,
            protocol=hello.protocol,
            host=hello.host,
            address=address,
            project=actor.only_project,
        ),
    )
    held = {held.attempt: fencing_digest(held.token) for held in hello.held}
    kept_attempts: set[int] = set()
    lost: list[AttemptId] = []
    for attempt in await attempts.open_of_worker(tx, worker.id):
        if held.get(attempt.id) == attempt.token_hash:
            kept_attempts.add(attempt.id)
        elif is_new:
            lost.append(attempt.id)
    await lose_attempts(tx, actor, lost, "its worker was restarted")
    drop = tuple(AttemptId(key) for key in held if key not in kept_attempts)
    return Greeting(await workers.get(tx, worker.id), drop, tuple(lost))


async def _is_alive(tx: Transaction, worker: Worker, lease: float) -> bool:
    return worker.connected and worker.seen_at + lease * SECOND > tx.now


def _check_names(hello: Hello) -> None:
    if not _NAME.fullmatch(hello.name):
        message = "a worker's name has at most 100 characters, none of them a space, a slash or a control character"
        raise Invalid(message, (Fault("name", message, "pattern"),))
    if not hello.session:
        raise Invalid("a worker has a session", (Fault("session", "is empty", "required"),))


def _require_served(protocol: int) -> None:
    """Raise Incompatible for a version that this server does not serve: a sentence for whoever runs the worker."""
    if protocol in SERVED:
        return
    remedy = "upgrade the server" if protocol > VERSION else "upgrade the worker"
    served = " and ".join(str(version) for version in SERVED)
    raise Incompatible(
        f"this server serves the worker protocol's versions {served}, the worker speaks {protocol}: {remedy}"
    )


async def _session(tx: Transaction, actor: Actor, session: str) -> Worker:
    """The worker with this session. One whose version is no longer served may finish what it holds."""
    require_worker(actor)
    worker = await workers.find_by_session(tx, session) if session else None
    if worker is None or actor.only_project not in (None, worker.project):
        raise NotFound("unknown session: say hello first")
    if worker.removed_at is not None:
        raise Forbidden(REMOVED)
    return worker


async def has_work(tx: Transaction, actor: Actor, session: str, free: int, have: Sequence[int]) -> bool:
    """Whether a claim would give anything now: jobs, cancel wishes, or grants that got lost on the way."""
    worker = await _session(tx, actor, session)
    _require_served(worker.protocol)
    if await _undelivered(tx, actor, worker, have):
        return True
    return free > 0 and worker.takes_jobs and bool((await _lanes(tx, actor, worker)).lanes)


async def _undelivered(tx: Transaction, actor: Actor, worker: Worker, have: Sequence[int]) -> list[Attempt]:
    """Attempts that a worker was given but has not got."""
    known = set(have)
    return [
        attempt
        for attempt in await attempts.open_of_worker(tx, worker.id)
        if attempt.id not in known
        and attempt.started_at is None
        and (actor.only_project is None or serves(actor, (await attempts.grant_facts(tx, attempt.job)).project))
    ]


async def _lanes(tx: Transaction, actor: Actor, worker: Worker) -> "Queues":
    """The queues that a worker may be given jobs of: those that it fits, of its token's project if that names one."""
    busy = [
        one
        for one in await jobs.busy_lanes(tx)
        if serves(actor, one.lane.project) and fits(worker.offer, requirement(one.requirement_key))
    ]
    return await queues_with_room(tx, worker.id, busy)


@dataclass(frozen=True, slots=True)
class Queues:
    """Lanes that a worker may be given jobs of, the locks of the worker that these need, and who holds them."""

    lanes: list[Lane]
    locks: dict[LaneId, tuple[tuple[str, int], ...]]
    held: dict[str, HeldLock]

    def pick(self, usage: Usage, slots: int) -> Counter[LaneId]:
        """How many jobs to give of which lane, to a worker with so many free places."""
        return pick_with_locks(self.lanes, self.locks, self.held, usage, slots)


async def queues_with_room(tx: Transaction, worker: WorkerId, busy: Sequence[jobs.BusyLane]) -> Queues:
    """Those of these lanes whose jobs a worker could begin: a lock of the worker that is taken holds them up there."""
    lanes = [one.lane for one in busy]
    wanted = {one.lane.id: found for one in busy if (found := requirement(one.requirement_key).locks)}
    held = await locks.held_on_worker(tx, worker) if wanted else {}
    return Queues(lanes_with_room(lanes, wanted, held), wanted, held)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a worker shall do besides jobs: stop attempts; take no jobs; leave when it has none; open terminals."""

    cancel: tuple[AttemptId, ...]
    paused: bool
    draining: bool
    terminals: tuple[TerminalWish, ...]


async def wishes(tx: Transaction, actor: Actor, session: str) -> Wishes:
    """What a session's worker shall do."""
    worker = await _session(tx, actor, session)
    cancel = tuple(await attempts.cancels_of_worker(tx, worker.id))
    return Wishes(cancel, worker.paused, worker.draining, await wishes_of(tx, worker))


async def leave(tx: Transaction, actor: Actor, session: str, have: Sequence[int]) -> list[AttemptId]:
    """A worker says that it ends. What it was given and has not got is lost now, and given.

    What it still holds, its next process loses or its lease does.
    """
    worker = await _session(tx, actor, session)
    lost = [attempt.id for attempt in await _undelivered(tx, actor, worker, have)]
    await lose_attempts(tx, actor, lost, "its worker ended before it heard of it")
    await workers.leave(tx, worker)
    return lost


async def claim_jobs(
    tx: Transaction,
    actor: Actor,
    session: str,
    free: int,
    have: Sequence[int],
    *,
    usage: Usage,
    lease: float,
    charge: Callable[[Iterable[Lane]], None] = lambda _taken: None,
    keys: Keyring | None = None,
    public_url: str = "",
) -> list[JobGrant]:
    """Lease up to `free` jobs to a worker, with the secrets that they name, and give again what it has not got.

    `charge` is told the lanes that they left.
    """
    grants = await _claim(tx, actor, session, free, have, usage=usage, lease=lease, charge=charge)
    grants = await with_pins(tx, actor, grants)
    grants = await with_secrets(tx, actor, keys or Keyring(), grants)
    grants = await with_tokens(tx, actor, grants)
    return await with_facts(tx, actor, grants, public_url=public_url)


async def _claim(
    tx: Transaction,
    actor: Actor,
    session: str,
    free: int,
    have: Sequence[int],
    *,
    usage: Usage,
    lease: float,
    charge: Callable[[Iterable[Lane]], None],
) -> list[JobGrant]:
    worker = await workers.seen(tx, await _session(tx, actor, session))
    _require_served(worker.protocol)
    until = Moment(tx.now + int(lease * SECOND))
    grants = [await _grant_again(tx, attempt, until) for attempt in await _undelivered(tx, actor, worker, have)]
    free -= len(grants)
    if free <= 0 or not worker.takes_jobs:
        return grants
    queues = await _lanes(tx, actor, worker)
    wanted = queues.pick(usage, free)
    chosen = [job for lane, count in wanted.items() for job in await jobs.first_of_lane(tx, lane, count)]
    lanes = {lane.id: lane for lane in queues.lanes}
    tx.after_commit(lambda: charge([lanes[job.lane] for job in chosen]))
    return grants + await lease_jobs(tx, worker.id, session, chosen, until=until, secret=session)


async def lease_jobs(
    tx: Transaction, worker: WorkerId, session: str, chosen: Sequence[Job], *, until: Moment, secret: str = ""
) -> list[JobGrant]:
    """Make attempts of queued jobs for a worker.

    With the `secret` of a worker's process their tokens can be told again; without one they are random.
    Builds are locked by id, then pipelines by id, whatever the order of the jobs.
    """
    if not chosen:
        return []
    facts = await attempts.grant_facts_of(tx, [job.id for job in chosen])
    locked = await builds.get_many(tx, sorted({job.build for job in chosen}), lock=True)
    new: list[_Lease] = []
    for job in chosen:
        leased = transitions.lease_job(job)
        token = _token_of(secret, leased) if secret else secrets.token_urlsafe(24)
        is_first = locked[job.build].first_job in (None, job.id)
        new.append(_Lease(leased, facts[job.id], pipelines.decode_spec(facts[job.id].spec), token, is_first))
        locked[job.build] = await settle(tx, locked[job.build], job, leased)
    numbers = await pipelines.next_attempt_numbers(tx, Counter(one.facts.pipeline for one in new if one.is_first))
    made = await attempts.add_all(
        tx, [one.attempt(numbers) for one in new], worker=worker, session=session, leased_until=until
    )
    taken = [
        (one.job.build, one.job.id, locks.WorkerLock(worker, name, most))
        for one in new
        for name, most in one.spec.require.locks
    ]
    if taken:
        await locks.give_on_worker(tx, taken)
    return [
        await _grant(
            tx,
            of.attempt,
            one.token,
            one.job,
            one.facts,
            one.spec,
            [StepGrant(step=step.id, number=step.number, name=step.name, log=log) for step, log in of.steps],
            trusted=is_trusted(locked[one.job.build]),
        )
        for one, of in zip(new, made, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Lease:
    """A job just leased. The first job of a build gives its attempts numbers in the pipeline."""

    job: Job
    facts: attempts.GrantFacts
    spec: JobSpec
    token: str
    is_first: bool

    def attempt(self, numbers: dict[PipelineId, Iterator[int]]) -> attempts.NewAttempt:
        return attempts.NewAttempt(
            job=self.job,
            token_hash=fencing_digest(self.token),
            pipeline_number=next(numbers[self.facts.pipeline]) if self.is_first else None,
            pipeline=self.facts.pipeline,
            project=self.facts.project,
            step_names=[
                "setup",
                *(step.name for step in self.spec.steps),
                *(f"service {service.name}" for service in self.spec.services),
            ],
        )


def _token_of(session: str, job: Job) -> str:
    """The fencing token of a job's newest attempt for a worker's process, whose session only it and the server know.

    It follows from the session, so that a claim that a network repeats is answered alike.
    """
    return hmac.digest(session.encode(), f"{job.uid}/{job.attempts}".encode(), "sha256").hex()


async def _grant_again(tx: Transaction, attempt: Attempt, until: Moment) -> JobGrant:
    """A grant that did not arrive, or not yet: the same attempt with the same token."""
    job = await jobs.get(tx, attempt.job)
    token = _token_of(attempt.session, job)
    facts = await attempts.grant_facts(tx, job.id)
    renewed = replace(attempt, leased_until=until)
    await attempts.save(tx, attempt, renewed, project=facts.project, build=facts.build)
    logs = {log.step: log.id for log in await attempts.logs_of(tx, attempt.id)}
    steps = [
        StepGrant(step=step.id, number=step.number, name=step.name, log=logs[step.id])
        for step in await attempts.steps_of(tx, attempt.id)
    ]
    trusted = is_trusted(await builds.get(tx, job.build))
    return await _grant(tx, renewed, token, job, facts, pipelines.decode_spec(facts.spec), steps, trusted=trusted)


def _git_source(facts: attempts.GrantFacts) -> GitSource:
    return GitSource(
        url=facts.repository,
        branch=facts.branch,
        commit=facts.commit,
        shallow=facts.shallow,
        submodules=facts.submodules,
    )


async def _grant(
    tx: Transaction,
    attempt: Attempt,
    token: str,
    job: Job,
    facts: attempts.GrantFacts,
    spec: JobSpec,
    steps: list[StepGrant],
    *,
    trusted: bool,
) -> JobGrant:
    folder = FolderSource(sha256=facts.source_blob, size=facts.source_size) if facts.source_blob else None
    git = _git_source(facts) if facts.repository and not (spec.sources or spec.at_home) else None
    inputs = {artifact.path: artifact for artifact in await kept.inputs_of(tx, job.id)} if spec.needs else {}
    return JobGrant(
        attempt=attempt.id,
        token=token,
        number=attempt.number,
        job=job.id,
        job_uid=job.uid,
        build=facts.build,
        build_uid=facts.build_uid,
        build_number=facts.build_number,
        project=facts.project_slug,
        pipeline=facts.pipeline_name,
        spec=with_variables(spec, facts.environment),
        steps=steps,
        git=git,
        folder=folder,
        trusted=trusted,
        inputs=[
            InputFile(path=one.path, sha256=one.sha256, size=one.size, mode=one.mode, link=one.link)
            for one in inputs.values()
        ],
        image_url=await attempts.image_url(tx, spec.image) if spec.image else "",
        service_images={one.name: await attempts.image_url(tx, one.image) for one in spec.services},
    )


async def renew_leases(tx: Transaction, actor: Actor, session: str, held: Sequence[Held], *, lease: float) -> Beat:
    """A heartbeat: hold on to all of these, and hear which shall stop and which are no longer held."""
    worker = await workers.seen(tx, await _session(tx, actor, session))
    until = Moment(tx.now + int(lease * SECOND))
    drop = [
        one.attempt
        for one in sorted(held, key=lambda one: one.attempt)
        if not await attempts.renew(tx, AttemptId(one.attempt), fencing_digest(one.token), until)
    ]
    cancel = [int(key) for key in await attempts.cancels_of_worker(tx, worker.id)]
    return Beat(cancel=cancel, drop=drop, paused=worker.paused, draining=worker.draining, now=tx.now)


async def lose_attempts(tx: Transaction, _actor: Actor, keys: Sequence[AttemptId], why: str) -> None:
    """End open attempts as lost; each job is queued again as far as its retry rule allows."""
    places = sorted(await attempts.places(tx, keys), key=lambda place: (place.build, place.job, place.attempt))
    for place in places:
        key = place.attempt
        build = await locked_build(tx, place.build)
        job = await jobs.get(tx, place.job, lock=True)
        attempt = await attempts.get(tx, key, lock=True)
        if attempt.state.phase is Phase.FINISHED:
            continue
        end = replace(transitions.LOST, detail=why)
        for step in await attempts.steps_of(tx, key):
            if step.state.phase is Phase.RUNNING:
                ended = transitions.finish_step(step, end, at=tx.now)
                await attempts.save_step(tx, step, ended, project=build.project, build=build.id)
        lost = transitions.finish_attempt(attempt, end, at=tx.now)
        await attempts.save(tx, attempt, lost, project=build.project, build=build.id)
        attempts.add_usage(tx, build.pipeline, tx.now - attempt.leased_at)
        spec = await pipelines.job_spec(tx, job.spec)
        await settle(tx, build, job, transitions.after_attempt(job, end, spec.retry, at=tx.now))


async def expired_attempts(tx: Transaction, _actor: Actor, count: int) -> list[AttemptId]:
    """Attempts whose lease has run out."""
    return await attempts.expired(tx, count)


async def lose_expired(tx: Transaction, actor: Actor, keys: Sequence[AttemptId]) -> list[AttemptId]:
    """End those of these attempts whose lease is still expired; gives them."""
    late = [key for key in keys if (await attempts.get(tx, key)).leased_until < tx.now]
    await lose_attempts(tx, actor, late, "its worker was not heard of for the length of the lease")
    return late


async def open_logs(tx: Transaction, _actor: Actor, attempt: AttemptId) -> list[LogId]:
    """The logs of an attempt that are not sealed."""
    return [log.id for log in await attempts.logs_of(tx, attempt) if log.sealed_at is None]
