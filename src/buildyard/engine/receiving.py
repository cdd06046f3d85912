"""What forges report: each delivery is taken once, its changes are noted, and the triggers that want it fire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from buildyard.domain.access import Actor, ActorKind, Role
from buildyard.domain.errors import Forbidden
from buildyard.domain.ids import SECOND, ChangeId, Moment, PipelineId, ProjectId
from buildyard.domain.push_filters import refusal_of_pull_request, refusal_of_push
from buildyard.domain.pushes import Commit, Event, PullRequestEvent, PushEvent, keys_of, repository_key
from buildyard.domain.specs import Approval
from buildyard.domain.triggers import Forks, Poll, PullRequest, Push, TriggerKind
from buildyard.engine.firing import Fired, Firing, fire
from buildyard.store import builds, changes, hook_deliveries, manifest_readings, triggers
from buildyard.store.transactions import Transaction
from buildyard.store.triggers import Trigger

KEPT_DAYS = 90
"""How long a delivery is remembered: a replay within this time starts nothing."""

APPROVAL_DAYS = 14
"""How long a pull request of a fork waits for its approval."""

MOST_DROPPED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery whose sender is known: the hook, a key that repeats of it share, and the forge's word for it.

    Only triggers of these `projects` (slugs) hear of it; none named: all.
    """

    hook: str
    key: str
    event: str
    projects: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a delivery, in a sentence; the builds (uids) that it started; whether it was taken before."""

    message: str
    builds: tuple[str, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """A trigger with those of its pipelines that build the repository of an event."""

    trigger: Trigger
    pipelines: frozenset[PipelineId]


@dataclass
class _Outcome:
    sentences: list[str] = field(default_factory=list)
    builds: list[str] = field(default_factory=list)


async def receive_delivery(
    tx: Transaction, actor: Actor, delivery: Delivery, events: Sequence[Event], *, queue_limit: int
) -> Received:
    """Start what a delivery is a reason for, once: a repeated one gets the same answer.

    All of it or, if the queue has no room, nothing: then it may be delivered again.
    """
    if actor.kind is not ActorKind.SYSTEM:
        raise Forbidden(f"{actor.name} is no forge")
    if not await hook_deliveries.begin(tx, delivery.hook, delivery.key, event=delivery.event):
        answer = await hook_deliveries.answer_of(tx, delivery.hook, delivery.key)
        message, started = msgspec.json.decode(answer, type=tuple[str, tuple[str, ...]])
        return Received(message, started, repeated=True)
    outcome = _Outcome()
    for event in events:
        await _receive(tx, delivery, event, outcome, queue_limit)
    received = Received("; ".join(outcome.sentences), tuple(outcome.builds))
    answer = msgspec.json.encode((received.message, received.builds)).decode()
    await hook_deliveries.finish(tx, delivery.hook, delivery.key, answer=answer)
    return received


async def _receive(tx: Transaction, delivery: Delivery, event: Event, outcome: _Outcome, queue_limit: int) -> None:
    if isinstance(event, PushEvent) and not event.after:
        outcome.sentences.append(f"{event.ref} was deleted: nothing to build")
        return
    if isinstance(event, PullRequestEvent) and event.once and not await _is_news(tx, delivery, event):
        outcome.sentences.append(f"{event.ref}: its head was built before")
        return
    kind = TriggerKind.PUSH if isinstance(event, PushEvent) else TriggerKind.PULL_REQUEST
    matching = await matches(tx, kind, event.repository, delivery.projects)
    if not matching:
        outcome.sentences.append(f"{event.ref}: no trigger of this server is about this repository")
        return
    noted: dict[ProjectId, list[ChangeId]] = {}
    for match in matching:
        refusal = _refusal(match.trigger, event)
        project = match.trigger.project
        if project not in noted:
            noted[project] = await note_changes(tx, project, event)
        if refusal:
            outcome.sentences.append(f"{event.ref}: {match.trigger.name} does not start: {refusal}")
            continue
        fired = await fire_for(tx, match, event, noted[project], queue_limit=queue_limit)
        outcome.builds += [build.uid for build in fired.builds]
        outcome.sentences.append(f"{event.ref}: {match.trigger.name} {_told(fired)}")


def _told(fired: Fired) -> str:
    count = len(fired.builds)
    started = f"started {count} build{'' if count == 1 else 's'}"
    if not fired.readings:
        return started
    return "reads the manifests" if not count else f"{started} and reads the manifests"


async def _is_news(tx: Transaction, delivery: Delivery, pull: PullRequestEvent) -> bool:
    """Whether this head of a pull request was not told before, for forges that tell it again with every edit."""
    key = f"{pull.ref}: {pull.base_branch} {pull.head_commit} of {min(keys_of(pull.repository), default='')}"
    return await hook_deliveries.begin(tx, delivery.hook, key, event=delivery.event)


async def matches(
    tx: Transaction, kind: TriggerKind, repository: tuple[str, ...], projects: frozenset[str]
) -> list[Match]:
    """The enabled triggers of a kind with pipelines that build this repository, locked, by id."""
    keys = keys_of(repository)
    found: list[Match] = []
    for trigger, watched in (await triggers.watched_by_kind(tx, kind)).items():
        chosen = frozenset(
            one.pipeline
            for one in watched
            if repository_key(one.source.url) in keys and (not projects or one.project in projects)
        )
        if chosen:
            found.append(Match(await triggers.get(tx, trigger, lock=True), chosen))
    return found


def _refusal(trigger: Trigger, event: Event) -> str:
    match trigger.spec, event:
        case Push() as spec, PushEvent() as push:
            return refusal_of_push(spec.filters, spec.skip_words, push)
        case PullRequest() as spec, PullRequestEvent() as pull:
            if pull.is_fork and spec.forks is Forks.IGNORE:
                return "it comes from a fork"
            return refusal_of_pull_request(spec.filters, spec.skip_words, pull)
        case _:
            return "it is of another kind by now"


async def fire_for(
    tx: Transaction, match: Match, event: Event, started_by: Sequence[ChangeId], *, queue_limit: int
) -> Fired:
    """Fire a trigger for what happened in a repository."""
    firing = _of_push(match, event) if isinstance(event, PushEvent) else _of_pull_request(match, event)
    fired = await fire(tx, match.trigger, firing, queue_limit=queue_limit)
    if fired.evaluation is not None:
        await changes.add_to_evaluation(tx, fired.evaluation, started_by)
    for reading in fired.readings:
        await manifest_readings.set_changes(tx, reading, started_by)
    return fired


def _of_push(match: Match, push: PushEvent) -> Firing:
    head = push.head
    return Firing(
        reason=f"push to {push.ref}" + (f" by {push.sender}" if push.sender else ""),
        branch=f"refs/tags/{push.tag}" if push.tag else push.branch,
        commit=push.after,
        message=head.message,
        author=head.author,
        ref=push.ref,
        cancel_superseded=_supersedes(match.trigger),
        parameters={"BUILDYARD_TAG": push.tag} if push.tag else {"BUILDYARD_BRANCH": push.branch},
        submitter=push.sender,
        only=match.pipelines,
    )


def _of_pull_request(match: Match, pull: PullRequestEvent) -> Firing:
    parameters: Mapping[str, str] = {
        "BUILDYARD_PULL_REQUEST": str(pull.number),
        "BUILDYARD_BASE_BRANCH": pull.base_branch,
    }
    return Firing(
        reason=f"{pull.ref}" + (f" by {pull.sender}" if pull.sender else ""),
        repository=pull.fetch_from,
        branch=pull.fetch_ref,
        commit=pull.head_commit,
        message=pull.title,
        ref=pull.ref,
        cancel_superseded=_supersedes(match.trigger),
        parameters=parameters,
        trusted=not pull.is_fork,
        approval=_approval_of(pull) if pull.is_fork else None,
        submitter=pull.sender,
        only=match.pipelines,
        base_branch=pull.base_branch,
    )


def _approval_of(pull: PullRequestEvent) -> Approval:
    """A stranger's work runs once somebody who may run builds of the project has looked at it."""
    who = f" by {pull.sender}" if pull.sender else ""
    message = f"{pull.ref} comes from a fork{who}: look at it before it runs" + (f", {pull.link}" if pull.link else "")
    return Approval(roles=(Role.DEVELOPER.name.lower(),), expires_s=APPROVAL_DAYS * 86_400, message=message)


def _supersedes(trigger: Trigger) -> bool:
    return isinstance(trigger.spec, Push | PullRequest | Poll) and trigger.spec.cancel_superseded


async def note_changes(tx: Transaction, project: ProjectId, event: Event, category: str = "") -> list[ChangeId]:
    """Note what happened in a repository as changes of a project, the oldest first."""
    if isinstance(event, PushEvent):
        commits = event.commits if any(one.id == event.after for one in event.commits) else (event.head,)
        branch = event.branch or f"refs/tags/{event.tag}"
    else:
        head = Commit(id=event.head_commit, message=event.title, committer=event.sender, link=event.link)
        commits, branch = (head,), event.fetch_ref
    word = category or ("push" if isinstance(event, PushEvent) else "pull request")
    found: list[ChangeId] = []
    for commit in commits:
        revision = await builds.add_revision(
            tx,
            project,
            repository=event.repository[0],
            branch=branch,
            commit=commit.id,
            message=commit.message,
            author=commit.author,
        )
        found.append(
            await changes.add(
                tx,
                project,
                revision,
                committer=commit.committer or event.sender,
                files=commit.files or (),
                category=word,
                link=commit.link,
                parent=found[-1] if found else None,
                committed_at=commit.committed_at,
            )
        )
    return found


async def forget_deliveries(tx: Transaction, _actor: Actor) -> int:
    """Forget deliveries that are too old to be replayed."""
    return await hook_deliveries.drop_before(tx, Moment(tx.now - KEPT_DAYS * 86_400 * SECOND), MOST_DROPPED)
