"""Every use-case, with every kind of actor: who is let in, and that none was forgotten."""

import asyncio
import importlib
import inspect
import pkgutil
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import buildyard.engine
from buildyard.domain.access import ANONYMOUS, SYSTEM, Actor, Role, Visibility
from buildyard.domain.errors import Forbidden, Invalid, NotFound, Unauthenticated
from buildyard.domain.fairness import NO_USAGE
from buildyard.domain.ids import BuildId, GroupId, LogId, SubscriptionId, TokenId, UserId
from buildyard.domain.labels import Offer
from buildyard.domain.notifications import Action, Condition, Event, Rule, WebhookTarget
from buildyard.domain.retention import Bounds, What
from buildyard.domain.secrets import SecretValue
from buildyard.domain.specs import Approval, CacheSpec, GitSource, PipelineSpec
from buildyard.domain.states import Result
from buildyard.domain.transitions import finished
from buildyard.domain.triggers import Manual
from buildyard.domain.yard import Yard
from buildyard.engine import (
    account_builds,
    approvals,
    audit,
    build_groups,
    build_lists,
    builds,
    claiming,
    departing,
    files,
    garbage,
    identity,
    images,
    job_details,
    job_manifests,
    job_sheets,
    job_summaries,
    leasing,
    log_reading,
    manifest_jobs,
    notifications,
    overview,
    own_secrets,
    pipelines,
    profiles,
    progress,
    projects,
    queue,
    receipts,
    receiving,
    reports,
    retention,
    revisions,
    runner_files,
    runner_results,
    runners,
    secret_keys,
    secrets,
    sign_in,
    task_logs,
    telling_secrets,
    terminals,
    triggers,
    uploads,
    user_webhooks,
    watching,
    workers,
    workflows,
    yard,
    yard_book,
)
from buildyard.engine.build_groups import NewGroup
from buildyard.engine.builds import Submission
from buildyard.engine.manifest_jobs import NewManifestJob
from buildyard.engine.triggers import Wish
from buildyard.protocol import (
    VERSION,
    Claim,
    FindCache,
    Heartbeat,
    Hello,
    JobGrant,
    OutputFile,
    PinRevision,
    Report,
    Started,
)
from buildyard.store import identity as people
from buildyard.store import pipelines as stored_pipelines
from buildyard.store import triggers as stored_triggers
from buildyard.store.transactions import Transaction
from world import QUEUE_LIMIT, WORKER, Hand, World, job

ROOT = Path(__file__).resolve().parents[2]
SPEC = PipelineSpec(jobs=(job("a"),))
RULE = Rule(target=WebhookTarget(url="https://example.org/hook"), condition=Condition.ALWAYS)
SIGNED = Rule(target=WebhookTarget(url="https://example.org/hook", secret="TOKEN"))
WEBHOOK = user_webhooks.NewUserWebhook(
    url="https://example.org/hook", events=(Event.CREATED,), query="{ webhook { uuid } }", defined_by="an API"
)
MEANS = notifications.Means(actions=(Action.WEBHOOK,), credentials=(), allow_local=False)
OFFER = Offer(frozenset(), frozenset({"process"}), "x86_64-linux")
HELLO = secrets.Place(project="hello")
SECRET = secrets.NewSecret(name="TOKEN", value=SecretValue(b"a value"))
MANIFEST = NewManifestJob(text="image: debian\ntasks: [{hello: echo hello}]\n", execute=False)
PLANNED = manifest_jobs.plan_job(MANIFEST, manifest_jobs.ManifestOptions(), allow_local=False)
READERS = {"viewer", "developer", "admin", "owner", "token to read", "administrator"}
RUNNERS = {"developer", "admin", "owner", "administrator"}
REPORTERS = RUNNERS | {"worker"}
CONFIGURERS = {"admin", "owner", "administrator"}
WORKERS = {"worker", "administrator"}
SELF = {"owner", "administrator"}
SERVER = {"administrator"}
SIGNED_IN = {"stranger", "viewer", "developer", "admin", "owner", "administrator"}


@dataclass(frozen=True)
class Place:
    """A private project of the owner, a build of it that a worker holds, one that waits, and what lies around."""

    world: World
    actors: dict[str, Actor]
    hand: Hand
    grant: JobGrant
    build: str
    waiting: str
    pipeline: str
    held_up: str
    artifact: str
    token: TokenId
    upload: uploads.Upload
    rule: str
    delivery: str
    manifest: BuildId
    group: GroupId
    webhook: SubscriptionId
    own_secret: str

    @property
    def project(self) -> str:
        """The project's uid."""
        return self.world.project.uid


async def one_piece(data: bytes = b"bytes") -> AsyncIterator[bytes]:
    """A stream."""
    yield data


async def _actors(world: World) -> dict[str, Actor]:
    actors = {"anonymous": ANONYMOUS, "stranger": await world.user("eve"), "worker": WORKER}
    for role in (Role.VIEWER, Role.DEVELOPER, Role.ADMIN):
        name = role.name.lower()
        user = (await world.user(f"the-{name}")).user
        assert user is not None

        async def join(tx: Transaction, _actor: Actor, user: Any = user, role: Role = role) -> None:
            await people.add_member(tx, user, role, project=world.project.id)

        await world.engine.run(join, SYSTEM)
        actors[name] = await world.engine.read(identity.actor_of_user, SYSTEM, f"the-{name}")
    reading = await world.engine.run(identity.create_token, SYSTEM, "bob", ("jobs:read",))
    actors["token to read"] = await world.engine.read(identity.actor_of_token, SYSTEM, reading.secret)
    return {**actors, "owner": world.owner, "administrator": world.administrator}


@pytest.fixture
async def place(sqlite_world: World) -> Place:
    """All of it."""
    world, engine = sqlite_world, sqlite_world.engine
    hand = await world.hand()
    blob = await files.store_blob(engine, SYSTEM, one_piece())
    spec = job("first", caches=(CacheSpec(path=".cache"),), outputs=("out",))
    pipeline = await world.define(spec)
    source = GitSource(url="https://example.org/x.git", branch="main")
    told = await engine.run(notifications.add_notification, world.owner, world.project.uid, RULE, MEANS)
    await world.submit(pipeline=pipeline)
    done = await hand.take()
    end = hand.finished(done)
    output = OutputFile(path="out", sha256=blob.sha256, size=blob.size, mode=0o644)
    await hand.report(hand.started(done), type(end)(attempt=end.attempt, token=end.token, result=Result.SUCCESS,
                                                    outputs=[output]))  # fmt: skip
    hand.held.clear()
    view = await world.submit(pipeline=pipeline, source=source)
    grant = await hand.take()
    await hand.report(hand.started(grant))
    waiting = await world.submit(pipeline=pipeline)
    ((artifact, _),) = await engine.read(builds.list_artifacts, world.owner, (await _first(world)).build.uid)
    await engine.run(_add_trigger, SYSTEM, world, pipeline.uid)
    await engine.run(images.create_image, world.owner, slug="inner", url="example.org/inner:1", public=False)
    held_up = await world.submit(job("a", approval=Approval(roles=("viewer",))))
    in_project = replace(MANIFEST, project="hello")
    made = [await manifest_jobs.submit_manifest(engine, world.owner, in_project) for _ in range(2)]
    collected = NewGroup(builds=(made[1].build.id,))
    group = await engine.run(build_groups.create_group, world.owner, collected, allow_local=False)
    assert await secret_keys.prepare_keys(engine) == ""
    await engine.run(secrets.set_secret, world.owner, HELLO, SECRET, engine.keys)
    own = await engine.run(secrets.set_secret, world.owner, secrets.Place(account="bob"), SECRET, engine.keys)
    return Place(
        world=world,
        actors=await _actors(world),
        hand=hand,
        grant=grant,
        build=view.build.uid,
        waiting=next(iter((await world.jobs(waiting)).values())).job.uid,
        pipeline=pipeline.uid,
        held_up=held_up.build.uid,
        artifact=artifact.uid,
        token=(await engine.run(identity.create_token, SYSTEM, "bob", ("jobs:read",))).token.id,
        upload=await uploads.store_upload(engine, world.owner, one_piece(b"a folder")),
        rule=told.uid,
        delivery=(await engine.read(_deliveries, world.owner, world.project.uid))[0].uid,
        manifest=made[0].build.id,
        group=group.group.id,
        webhook=(await engine.run(user_webhooks.create_user_webhook, world.owner, WEBHOOK, allow_local=False)).id,
        own_secret=own.secret.uid,
    )


_deliveries = partial(notifications.list_deliveries, state=None, below=2**31 - 1, limit=9)


async def _require_secret(tx: Transaction, who: Actor, project: str) -> None:
    await telling_secrets.require_secret(tx, who, SIGNED, await projects.get_project(tx, SYSTEM, project), None)


async def _wish_terminal(tx: Transaction, who: Actor, build: str) -> None:
    await terminals.wish_terminal(tx, who, build, "first", terminals.Window(), key="a key", lease=30.0)


async def _find_terminal(
    tx: Transaction, who: Actor, build: str, find: Callable[[Transaction, Actor, str], Awaitable[object]]
) -> None:
    await _wish_terminal(tx, SYSTEM, build)
    await find(tx, who, "a key")


async def _add_trigger(tx: Transaction, _actor: Actor, world: World, pipeline: str) -> None:
    made = await stored_triggers.add(tx, project=world.project.id, name="by hand", spec=Manual(), defined_by="test")
    found = await stored_pipelines.get_by_uid(tx, pipeline)
    await stored_triggers.set_pipelines(tx, made.id, [found.id])


async def _first(world: World) -> Any:
    found, _ = await world.engine.read(builds.list_builds, world.owner, world.project.uid, limit=1, offset=2)
    return found[0]


def _hello() -> Hello:
    return Hello(
        protocol=VERSION, name="new", session="new", state_id="new", version="0", labels=[], executors=["process"],
        system="x86_64-linux", slots=1,
    )  # fmt: skip


async def _own_jobs(tx: Transaction, who: Actor) -> list[Any]:
    return list((await manifest_jobs.list_jobs_of(tx, who)).views)


async def _own_sheets(tx: Transaction, who: Actor) -> list[Any]:
    return (await job_sheets.show_own_jobs(tx, who, start=2**31 - 1, limit=9, manifests_only=False))[1]


async def _group_of(tx: Transaction, who: Actor, build: BuildId) -> object:
    """A group of a build; its one fault is that the build is not theirs."""
    try:
        return await build_groups.create_group(tx, who, NewGroup(builds=(build,)), allow_local=False)
    except Invalid as exc:
        raise (NotFound if exc.faults[0].code == "unknown_job" else AssertionError)("job not found") from None


Call = Callable[[Transaction, Actor, Place], Awaitable[object]]

LETS_IN: dict[Callable[..., Any], tuple[set[str], Call]] = {
    audit.list_audit: (
        CONFIGURERS,
        lambda tx, who, at: audit.list_audit(tx, who, project_uid=at.project, action=None, limit=1, offset=0),
    ),
    builds.submit_build: (
        RUNNERS,
        lambda tx, who, at: builds.submit_build(
            tx, who, at.project, at.pipeline, Submission(), queue_limit=QUEUE_LIMIT
        ),
    ),
    account_builds.list_account_builds: (
        READERS,
        lambda tx, who, _at: account_builds.list_account_builds(tx, who, "bob", limit=9),
    ),
    approvals.answer_approval: (
        {"viewer", "developer", "admin", "owner"},  # the submitter, an administrator, may not
        lambda tx, who, at: approvals.answer_approval(tx, who, at.held_up, granted=True),
    ),
    manifest_jobs.queue_manifest: (
        SIGNED_IN,  # each into a project of their own
        lambda tx, who, _at: manifest_jobs.queue_manifest(tx, who, PLANNED, queue_limit=QUEUE_LIMIT),
    ),
    manifest_jobs.start_job: (RUNNERS, lambda tx, who, at: manifest_jobs.start_job(tx, who, at.manifest)),
    manifest_jobs.cancel_job: (RUNNERS, lambda tx, who, at: manifest_jobs.cancel_job(tx, who, at.manifest)),
    manifest_jobs.change_visibility: (
        RUNNERS,
        lambda tx, who, at: manifest_jobs.change_visibility(tx, who, at.manifest, Visibility.PUBLIC),
    ),
    job_sheets.show_job: (READERS, lambda tx, who, at: job_sheets.show_job(tx, who, at.manifest)),
    job_sheets.show_manifest: (READERS, lambda tx, who, at: job_sheets.show_manifest(tx, who, at.manifest)),
    job_sheets.show_artifacts: (READERS, lambda tx, who, at: job_sheets.show_artifacts(tx, who, at.manifest)),
    build_groups.create_group: (
        RUNNERS,
        lambda tx, who, at: _group_of(tx, who, at.manifest),
    ),
    build_groups.get_group: (
        {"owner", "token to read", "administrator"},
        lambda tx, who, at: build_groups.get_group(tx, who, at.group),
    ),
    build_groups.start_group: (SELF, lambda tx, who, at: build_groups.start_group(tx, who, at.group)),
    build_groups.cancel_group: (SELF, lambda tx, who, at: build_groups.cancel_group(tx, who, at.group)),
    builds.get_build: (READERS, lambda tx, who, at: builds.get_build(tx, who, at.build)),
    builds.get_build_by_id: (READERS, lambda tx, who, at: builds.get_build_by_id(tx, who, at.grant.build)),
    builds.list_builds: (READERS, lambda tx, who, at: builds.list_builds(tx, who, at.project, limit=9, offset=0)),
    builds.list_jobs: (READERS, lambda tx, who, at: builds.list_jobs(tx, who, at.build)),
    builds.get_job: (READERS, lambda tx, who, at: builds.get_job(tx, who, at.waiting)),
    builds.list_artifacts: (READERS, lambda tx, who, at: builds.list_artifacts(tx, who, at.build)),
    builds.get_artifact: (READERS, lambda tx, who, at: builds.get_artifact(tx, who, at.artifact)),
    builds.cancel_build: (RUNNERS, lambda tx, who, at: builds.cancel_build(tx, who, at.build, reason="")),
    builds.rebuild_build: (
        RUNNERS,
        lambda tx, who, at: builds.rebuild_build(tx, who, at.build, reason="", queue_limit=QUEUE_LIMIT),
    ),
    files.knows_blob: (WORKERS, lambda tx, who, at: files.knows_blob(tx, who, at.upload.folder.sha256)),
    files.find_cache: (
        WORKERS,
        lambda tx, who, at: files.find_cache(
            tx, who, FindCache(attempt=at.grant.attempt, token=at.grant.token, path=".cache", key="")
        ),
    ),
    identity.create_user: (SERVER, lambda tx, who, _at: identity.create_user(tx, who, "new", password_hash=None)),
    identity.list_users: (SERVER, lambda tx, who, _at: identity.list_users(tx, who)),
    identity.check_may_change: (SELF, lambda tx, who, _at: identity.check_may_change(tx, who, "bob")),
    identity.change_password: (SELF, lambda tx, who, _at: identity.change_password(tx, who, "bob", "a hash")),
    identity.create_token: (SELF, lambda tx, who, _at: identity.create_token(tx, who, "bob", ("jobs:read",))),
    identity.list_tokens: (SELF, lambda tx, who, _at: identity.list_tokens(tx, who, "bob")),
    identity.revoke_token: (SELF, lambda tx, who, at: identity.revoke_token(tx, who, at.token)),
    images.create_image: (
        SIGNED_IN,
        lambda tx, who, _at: images.create_image(tx, who, slug="new", url="example.org/new:1", public=False),
    ),
    leasing.greet_worker: (
        WORKERS,
        lambda tx, who, _at: leasing.greet_worker(tx, who, _hello(), address="", lease=30.0),
    ),
    leasing.has_work: (WORKERS, lambda tx, who, at: leasing.has_work(tx, who, at.hand.session, 1, [])),
    leasing.wishes: (WORKERS, lambda tx, who, at: leasing.wishes(tx, who, at.hand.session)),
    leasing.leave: (WORKERS, lambda tx, who, at: leasing.leave(tx, who, at.hand.session, [])),
    leasing.claim_jobs: (
        WORKERS,
        lambda tx, who, at: leasing.claim_jobs(tx, who, at.hand.session, 1, [], usage=NO_USAGE, lease=30.0),
    ),
    leasing.renew_leases: (
        WORKERS,
        lambda tx, who, at: leasing.renew_leases(tx, who, at.hand.session, [], lease=30.0),
    ),
    log_reading.get_job_log: (READERS, lambda tx, who, at: log_reading.get_job_log(tx, who, at.waiting)),
    notifications.add_notification: (
        CONFIGURERS,
        lambda tx, who, at: notifications.add_notification(tx, who, at.project, RULE, MEANS),
    ),
    notifications.define_notifications: (
        CONFIGURERS,
        lambda tx, who, at: notifications.define_notifications(
            tx, who, at.pipeline, (RULE,), MEANS, defined_by="workflow"
        ),
    ),
    telling_secrets.require_secret: (CONFIGURERS, lambda tx, who, at: _require_secret(tx, who, at.project)),
    telling_secrets.require_secrets_of_file: (
        CONFIGURERS,
        lambda tx, who, _at: telling_secrets.require_secrets_of_file(
            tx, who, (SIGNED,), project="hello", pipeline="main", account="bob"
        ),
    ),
    notifications.list_notifications: (
        CONFIGURERS,
        lambda tx, who, at: notifications.list_notifications(tx, who, at.project),
    ),
    notifications.remove_notification: (
        CONFIGURERS,
        lambda tx, who, at: notifications.remove_notification(tx, who, at.rule),
    ),
    notifications.list_deliveries: (CONFIGURERS, lambda tx, who, at: _deliveries(tx, who, at.project)),
    notifications.get_delivery: (CONFIGURERS, lambda tx, who, at: notifications.get_delivery(tx, who, at.delivery)),
    notifications.resend_delivery: (
        CONFIGURERS,
        lambda tx, who, at: notifications.resend_delivery(tx, who, at.delivery),
    ),
    user_webhooks.create_user_webhook: (
        SIGNED_IN | {"token to read"},
        lambda tx, who, _at: user_webhooks.create_user_webhook(tx, who, WEBHOOK, allow_local=False),
    ),
    user_webhooks.get_user_webhook: (
        {"owner", "token to read"},
        lambda tx, who, at: user_webhooks.get_user_webhook(tx, who, at.webhook),
    ),
    user_webhooks.list_webhook_deliveries: (
        {"owner", "token to read"},
        lambda tx, who, at: user_webhooks.list_webhook_deliveries(tx, who, at.webhook),
    ),
    user_webhooks.list_user_webhooks: (
        SIGNED_IN | {"token to read"},
        lambda tx, who, _at: user_webhooks.list_user_webhooks(tx, who),
    ),
    user_webhooks.delete_user_webhook: (
        {"owner", "token to read"},
        lambda tx, who, at: user_webhooks.delete_user_webhook(tx, who, at.webhook),
    ),
    departing.require_may_leave: (
        {"stranger", "viewer", "developer", "admin", "owner"},  # the only administrator may not
        lambda tx, who, _at: departing.require_may_leave(tx, who),
    ),
    departing.stop_some: (
        {"stranger", "viewer", "developer", "admin", "owner"},
        lambda tx, who, _at: departing.stop_some(tx, who),
    ),
    departing.close_account: (
        {"stranger", "viewer", "developer", "admin", "owner"},
        lambda tx, who, _at: departing.close_account(tx, who),
    ),
    own_secrets.list_own_secrets: (SIGNED_IN, lambda tx, who, _at: own_secrets.list_own_secrets(tx, who, limit=9)),
    own_secrets.load_own_secrets: (SIGNED_IN, lambda tx, who, _at: own_secrets.load_own_secrets(tx, who, [1])),
    own_secrets.share_secret: (
        {"owner"},
        lambda tx, who, at: own_secrets.share_secret(tx, who, at.own_secret, "eve", at.world.engine.keys),
    ),
    profiles.find_profile: ({*SIGNED_IN, "token to read"}, lambda tx, who, _at: profiles.find_profile(tx, who, "bob")),
    profiles.load_profiles: (
        {*SIGNED_IN, "token to read"},
        lambda tx, who, _at: profiles.load_profiles(tx, who, [UserId(1)]),
    ),
    pipelines.create_pipeline: (
        CONFIGURERS,
        lambda tx, who, at: pipelines.create_pipeline(tx, who, at.project, "new", SPEC, defined_by="test"),
    ),
    pipelines.define_pipeline: (
        CONFIGURERS,
        lambda tx, who, at: pipelines.define_pipeline(tx, who, at.project, "new", SPEC, defined_by="test"),
    ),
    pipelines.list_pipelines: (READERS, lambda tx, who, at: pipelines.list_pipelines(tx, who, at.project)),
    pipelines.get_pipeline: (READERS, lambda tx, who, at: pipelines.get_pipeline(tx, who, at.project, at.pipeline)),
    terminals.require_attachable: (RUNNERS, lambda tx, who, at: terminals.require_attachable(tx, who, at.build)),
    terminals.wish_terminal: (RUNNERS, lambda tx, who, at: _wish_terminal(tx, who, at.build)),
    terminals.withdraw_terminal: (SIGNED_IN, lambda tx, who, _at: terminals.withdraw_terminal(tx, who, "a key")),
    terminals.find_terminal: (WORKERS, lambda tx, who, at: _find_terminal(tx, who, at.build, terminals.find_terminal)),
    terminals.answer_terminal: (
        WORKERS,
        lambda tx, who, at: _find_terminal(tx, who, at.build, terminals.answer_terminal),
    ),
    progress.standings: (WORKERS, lambda tx, who, _at: progress.standings(tx, who, [])),
    progress.record_progress: (
        WORKERS,
        lambda tx, who, at: progress.record_progress(tx, who, [at.hand.started(at.grant)], {}),
    ),
    projects.create_project: (SELF, lambda tx, who, _at: projects.create_project(tx, who, "bob", "new")),
    projects.require_definer: (
        {*CONFIGURERS, "stranger"},  # who does not see the project may make one of his own, under another slug
        lambda tx, who, _at: projects.require_definer(tx, who, "hello"),
    ),
    projects.get_project: (READERS, lambda tx, who, at: projects.get_project(tx, who, at.project)),
    receiving.receive_delivery: (
        set(),  # hooks only, after they saw the signature
        lambda tx, who, _at: receiving.receive_delivery(
            tx, who, receiving.Delivery(hook="h", key="k", event="push"), [], queue_limit=1
        ),
    ),
    receipts.write_receipt: (
        WORKERS,
        lambda tx, who, at: receipts.write_receipt(tx, who, at.upload.folder.sha256, 1),
    ),
    revisions.pin_revision: (
        WORKERS,
        lambda tx, who, at: revisions.pin_revision(
            tx, who, PinRevision(attempt=at.grant.attempt, token=at.grant.token, commit="a" * 40)
        ),
    ),
    files.will_stay: (
        WORKERS,
        lambda tx, who, at: files.will_stay(tx, who, at.upload.folder.sha256, seconds=60.0),
    ),
    garbage.note_collecting: (SERVER, lambda tx, who, _at: garbage.note_collecting(tx, who, is_first=True, dry=False)),
    reports.list_tests: (READERS, lambda tx, who, at: reports.list_tests(tx, who, at.build)),
    reports.list_metrics: (READERS, lambda tx, who, at: reports.list_metrics(tx, who, at.build)),
    reports.read_history: (
        READERS,
        lambda tx, who, at: reports.read_history(tx, who, at.project, "main", "size"),
    ),
    retention.list_rules: (
        READERS,
        lambda tx, who, at: retention.list_rules(tx, who, at.project, policy=at.world.engine.policy),
    ),
    retention.set_rule: (
        CONFIGURERS,
        lambda tx, who, at: retention.set_rule(tx, who, at.project, "", What.LOGS, Bounds(days=1)),
    ),
    retention.keep_build: (RUNNERS, lambda tx, who, at: retention.keep_build(tx, who, at.build, keep=True)),
    runner_files.inputs_of_step: (
        REPORTERS,
        lambda tx, who, at: runner_files.inputs_of_step(tx, who, at.grant.job_uid, at.grant.token),
    ),
    runner_files.find_step_cache: (
        REPORTERS,
        lambda tx, who, at: runner_files.find_step_cache(tx, who, at.grant.job_uid, at.grant.token, ".cache"),
    ),
    runners.plan_of_step: (READERS, lambda tx, who, at: runners.plan_of_step(tx, who, at.waiting)),
    runners.hold_of_step: (
        REPORTERS,
        lambda tx, who, at: runners.hold_of_step(tx, who, at.grant.job_uid, at.grant.token),
    ),
    runners.open_hold: (REPORTERS, lambda tx, who, at: runners.open_hold(tx, who, at.grant.job_uid, at.grant.token)),
    runners.lease_step: (REPORTERS, lambda tx, who, at: runners.lease_step(tx, who, at.waiting, lease=30.0)),
    runners.renew_hold: (
        REPORTERS,
        lambda tx, who, at: runners.renew_hold(tx, who, at.grant.job_uid, at.grant.token, lease=30.0),
    ),
    triggers.get_trigger: (READERS, lambda tx, who, _at: triggers.get_trigger(tx, who, "by hand")),
    triggers.fire_trigger: (
        RUNNERS,
        lambda tx, who, _at: triggers.fire_trigger(tx, who, "by hand", Wish(), queue_limit=QUEUE_LIMIT),
    ),
    yard.apply_yard: (SERVER, lambda tx, who, _at: yard.apply_yard(tx, who, Yard())),
    secret_keys.check_may_rotate: (SERVER, lambda tx, who, _at: secret_keys.check_may_rotate(tx, who)),
    secret_keys.take_key_into_use: (
        SERVER,
        lambda tx, who, at: secret_keys.take_key_into_use(tx, who, "new", seen=at.world.engine.keys.ids()[0]),
    ),
    secrets.set_secret: (
        CONFIGURERS,
        lambda tx, who, at: secrets.set_secret(tx, who, HELLO, SECRET, at.world.engine.keys),
    ),
    secrets.remove_secret: (CONFIGURERS, lambda tx, who, _at: secrets.remove_secret(tx, who, HELLO, "TOKEN")),
    uploads.use_upload: (
        {"owner", "token to read"},  # the same user
        lambda tx, who, at: uploads.use_upload(tx, who, at.upload),
    ),
    overview.read_overview: ({*SIGNED_IN, "token to read"}, lambda tx, who, _at: overview.read_overview(tx, who)),
    workers.list_workers: ({*SIGNED_IN, "token to read"}, lambda tx, who, _at: workers.list_workers(tx, who)),
    workers.pause_worker: (SERVER, lambda tx, who, at: workers.pause_worker(tx, who, at.hand.name, reason="")),
    workers.resume_worker: (SERVER, lambda tx, who, at: workers.resume_worker(tx, who, at.hand.name)),
    workers.drain_worker: (SERVER, lambda tx, who, at: workers.drain_worker(tx, who, at.hand.name, reason="")),
    workers.forget_worker: (
        SERVER,
        lambda tx, who, at: workers.forget_worker(tx, who, at.hand.name, force=True, reason=""),
    ),
    job_summaries.summarize_job: (
        READERS,
        lambda tx, who, at: job_summaries.summarize_job(tx, who, BuildId(at.grant.build)),
    ),
    task_logs.get_setup_log: (
        READERS,
        lambda tx, who, at: task_logs.get_setup_log(tx, who, BuildId(at.grant.build)),
    ),
    task_logs.get_task_log: (
        READERS,
        lambda tx, who, at: task_logs.get_task_log(tx, who, BuildId(at.grant.build), "step1"),
    ),
    watching.require_log: (
        READERS,
        lambda tx, who, at: watching.require_log(tx, who, LogId(at.grant.steps[0].log)),
    ),
}
"""Who is not refused. What is asked for is in a private project, or is the owner's own."""

SHOWS: dict[Callable[..., Any], tuple[set[str], Call]] = {
    account_builds.find_account_builds: (
        READERS,
        lambda tx, who, _at: account_builds.find_account_builds(tx, who, "bob", limit=9),
    ),
    build_lists.newest_of_projects: (
        READERS,
        lambda tx, who, at: build_lists.newest_of_projects(tx, who, [at.world.project], 9),
    ),
    **{
        load: (READERS, lambda tx, who, at, load=load: load(tx, who, [at.grant.build]))
        for load in (
            job_details.load_jobs,
            job_details.load_owners,
            job_details.load_visibilities,
            job_manifests.load_images,
            job_manifests.load_manifests,
            job_sheets.load_sheets,
        )
    },
    build_lists.list_visible_builds: (
        READERS,
        lambda tx, who, _at: build_lists.list_visible_builds(tx, who, limit=9, offset=0),
    ),
    manifest_jobs.list_jobs_of: (
        {"owner", "token to read", "administrator"},
        lambda tx, who, _at: _own_jobs(tx, who),
    ),
    job_sheets.show_own_jobs: (
        {"owner", "token to read", "administrator"},
        lambda tx, who, _at: _own_sheets(tx, who),
    ),
    audit.read_audit: (CONFIGURERS, lambda tx, who, _at: audit.read_audit(tx, who, limit=9)),
    build_lists.list_visible_audit: (
        CONFIGURERS,
        lambda tx, who, _at: build_lists.list_visible_audit(tx, who, action=None, limit=9, offset=0),
    ),
    images.list_images: (
        {"owner", "token to read", "administrator", "worker"},
        lambda tx, who, _at: images.list_images(tx, who, public=None),
    ),
    projects.list_projects: (READERS, lambda tx, who, _at: projects.list_projects(tx, who)),
    projects.find_project: (READERS, lambda tx, who, _at: projects.find_project(tx, who, "hello")),
    queue.show_queue: (READERS, lambda tx, who, _at: queue.show_queue(tx, who)),
    triggers.list_triggers: (READERS, lambda tx, who, _at: triggers.list_triggers(tx, who)),
    secrets.list_secrets: (CONFIGURERS, lambda tx, who, _at: secrets.list_secrets(tx, who)),
    runners.has_step: (REPORTERS, lambda tx, who, _at: runners.has_step(tx, who, OFFER)),
    runners.lease_next_step: (
        REPORTERS,
        lambda tx, who, _at: runners.lease_next_step(tx, who, OFFER, usage=NO_USAGE, lease=30.0),
    ),
}
"""Who is shown something; the others are told that there is nothing."""

CARRY_OUT = {
    claiming.claim: lambda who, at: claiming.claim(
        at.world.engine, who, Claim(session=at.hand.session, free=1, have=[], wait_s=0)
    ),
    claiming.hello: lambda who, at: claiming.hello(at.world.engine, who, _hello(), address="", now=0),
    claiming.heartbeat: lambda who, at: claiming.heartbeat(
        at.world.engine, who, Heartbeat(session=at.hand.session, held=[])
    ),
    garbage.collect_garbage: lambda who, at: garbage.collect_garbage(at.world.engine, who),
    log_reading.follow_job: lambda who, at: anext(log_reading.follow_job(at.world.engine, who, at.waiting)),
    progress.report: lambda who, at: progress.report(
        at.world.engine, who, Report(session=at.hand.session, items=[Started(attempt=at.grant.attempt, token="x")])
    ),
    runner_files.store_output: lambda who, at: runner_files.store_output(
        at.world.engine, who, at.grant.job_uid, at.grant.token, one_piece()
    ),
    runner_files.store_step_cache: lambda who, at: runner_files.store_step_cache(
        at.world.engine, who, at.grant.job_uid, at.grant.token, ".cache", one_piece()
    ),
    runner_results.complete_step: lambda who, at: runner_results.complete_step(
        at.world.engine, who, at.waiting, runner_results.Completion(end=finished(Result.SUCCESS))
    ),
    runners.add_output: lambda who, at: runners.add_output(
        at.world.engine, who, at.grant.job_uid, at.grant.token, number=0, offset=0, data=b"x"
    ),
    runners.claim_step: lambda who, at: runners.claim_step(at.world.engine, who, at.waiting),
    runners.pin_commit: lambda who, at: runners.pin_commit(
        at.world.engine, who, at.grant.job_uid, at.grant.token, "a" * 40
    ),
    workers.remove_worker: lambda who, at: workers.remove_worker(
        at.world.engine, who, at.hand.name, force=True, reason=""
    ),
    yard_book.take_yard: lambda who, at: yard_book.take_yard(at.world.engine, who, yard_book.YardBook()),
    yard_book.look_at_yard: lambda who, at: yard_book.look_at_yard(at.world.engine, who, yard_book.YardBook()),
    secret_keys.rotate_key: lambda who, at: secret_keys.rotate_key(at.world.engine, who),
    sign_in.make_user: lambda who, at: sign_in.make_user(
        at.world.engine, sign_in.PasswordGate(), who, "new", "a password"
    ),
    sign_in.set_password: lambda who, at: sign_in.set_password(
        at.world.engine, sign_in.PasswordGate(), who, "bob", "a password"
    ),
    watching.find_build: lambda who, at: watching.find_build(at.world.engine, who, at.build),
    watching.read_tree: lambda who, at: watching.read_tree(at.world.engine, who, at.build),
    watching.watch_tree: lambda who, at: watching.watch_tree(at.world.engine, who, at.build, lambda _: True, 0),
    watching.read_log_part: lambda who, at: watching.read_log_part(
        at.world.engine, who, LogId(at.grant.steps[0].log), 0, 0
    ),
}
"""What is made of several use-cases; each refuses whom they refuse."""

FOR_ALL_SIGNED_IN = {
    departing.delete_own_account,
    manifest_jobs.submit_manifest,
    uploads.store_upload,
    workflows.submit_workflow,
}
"""What strangers may do too: with their own."""

DECIDED_BY_THE_CALLER = {
    "require_build",  # part of all that is about builds
    "listed_builds",  # part of lists
    "page_of_project",  # part of list_builds
    "project_for",  # part of queue_manifest
    "access_again",  # part of rebuild_build
    "claim_next_step",  # has_step and lease_next_step choose
    "image_faults",  # part of what makes pipelines; shows whether a slug may be used
    "is_valid_token",  # who shows the token is who it is about
    "with_secrets",  # part of claim_jobs
    "with_facts",  # part of claim_jobs
    "with_tokens",  # part of claim_jobs
    "with_pins",  # part of claim_jobs
    *("load_artifacts", "load_job_secrets", "load_groups_of"),  # as load_jobs; often there is nothing
    *("load_group_jobs", "load_group_owners", "load_group_rules"),  # as load_groups_of
    "store_blob",  # callers check: store_output, store_upload, the worker's routes
    "check_health",  # tells no more than that the parts answer
    "may_name",  # part of record_progress
    "lose_expired",  # the clockwork's
    "record_end",  # part of complete_step, with a hold that was checked
}


def use_cases() -> Iterator[Callable[..., Any]]:
    """All public functions of the engine that are told who acts."""
    for found in pkgutil.iter_modules(buildyard.engine.__path__):
        module = importlib.import_module(f"buildyard.engine.{found.name}")
        for name, function in vars(module).items():
            is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
            is_own = is_async and function.__module__ == module.__name__ and not name.startswith("_")
            if is_own and "actor" in inspect.signature(function).parameters:
                yield function


class _Undo(Exception):
    """Ends a transaction without a trace."""


async def answer(place: Place, call: Call, who: Actor) -> object:
    """What a use-case answers, or the refusal; nothing of it stays."""
    given: list[object] = []

    async def body(tx: Transaction) -> None:
        try:
            given.append(await call(tx, who, place))
        except (NotFound, Forbidden, Unauthenticated) as exc:
            given.append(exc)
        raise _Undo

    with pytest.raises(_Undo):
        await place.world.engine.database.run(body)
    return given[0]


def is_refusal(given: object) -> bool:
    """Whether the actor was not let in."""
    return isinstance(given, NotFound | Forbidden | Unauthenticated)


def is_empty(given: object) -> bool:
    """Whether nothing was shown: no item, and a total of none."""
    return given in (([], 0), [], {}, None, False) or (isinstance(given, queue.Queue) and not given.running)


@pytest.mark.covers("engine.access.everywhere")
def test_no_use_case_is_forgotten() -> None:
    known = {*LETS_IN, *SHOWS, *CARRY_OUT, *FOR_ALL_SIGNED_IN}
    names = {function.__name__ for function in use_cases() if function not in known}

    assert names - DECIDED_BY_THE_CALLER == set()
    assert {function.__name__ for function in known} <= {function.__name__ for function in use_cases()}


@pytest.mark.covers("engine.access.everywhere", "engine.roles")
async def test_each_use_case_lets_in_those_it_should_and_nobody_else(place: Place) -> None:
    for function, (expected, call) in LETS_IN.items():
        answers = {name: await answer(place, call, who) for name, who in place.actors.items()}

        assert {name for name, given in answers.items() if not is_refusal(given)} == expected, function.__qualname__


@pytest.mark.covers("engine.access.everywhere", "engine.access.unseen")
async def test_each_list_and_choice_shows_something_to_those_it_should_and_to_nobody_else(place: Place) -> None:
    for function, (expected, call) in SHOWS.items():
        answers = {name: await answer(place, call, who) for name, who in place.actors.items()}

        assert not any(is_refusal(given) for given in answers.values()), function.__qualname__
        assert {name for name, given in answers.items() if not is_empty(given)} == expected, function.__qualname__


@pytest.mark.covers("engine.access.everywhere")
@pytest.mark.parametrize("function", CARRY_OUT, ids=lambda function: function.__name__)
async def test_what_is_made_of_several_use_cases_refuses_outsiders(place: Place, function: Any) -> None:
    for name in ("anonymous", "stranger"):
        with pytest.raises((NotFound, Forbidden, Unauthenticated)):
            await CARRY_OUT[function](place.actors[name], place)


@pytest.mark.covers("engine.access.everywhere")
async def test_work_is_taken_in_from_those_who_signed_in_and_stays_theirs(place: Place) -> None:
    engine, text = place.world.engine, b"jobs: {a: {run: 'true'}}"
    for who in (place.actors["anonymous"], place.actors["token to read"]):
        with pytest.raises((Forbidden, Unauthenticated)):
            await uploads.store_upload(engine, who, one_piece())
        with pytest.raises((Forbidden, Unauthenticated)):
            await workflows.submit_workflow(
                engine, who, workflows.HandedIn(text=text, project="hello"), asyncio.Semaphore(1)
            )

    made = await workflows.submit_workflow(
        engine, place.actors["stranger"], workflows.HandedIn(text=text, project="hers"), asyncio.Semaphore(1)
    )

    assert (await engine.read(projects.get_project, place.actors["stranger"], made.project_uid)).account_name == "eve"


@pytest.mark.covers("engine.access.everywhere")
def test_apis_call_nothing_that_checks_nobody_but_what_tells_nothing() -> None:
    """Functions whose actor is not looked at (`_actor`) are the engine's own: the clockwork and signing in."""
    unchecked = set()
    for path in (ROOT / "src/buildyard/engine").glob("*.py"):
        unchecked |= set(re.findall(r"async def (\w+)\(\s*tx: Transaction, _\w+: Actor", path.read_text()))
    called = set()
    for path in (ROOT / "src/buildyard/apis").rglob("*.py"):
        called |= set(re.findall(r"\.(?:run|read)\(\s*(?:\w+\.)?(\w+)", path.read_text()))

    assert len(unchecked) > 15
    assert called & unchecked <= {"actor_of_token", "ensure_account", "fixed_labels", "read_numbers", "read_told"}
