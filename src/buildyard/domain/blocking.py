"""What holds jobs up beside their needs: approvals, a later start, concurrency groups, locks."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntFlag, StrEnum

from buildyard.domain.access import Actor, Owner, Role, role_of
from buildyard.domain.errors import Invalid
from buildyard.domain.fairness import Lane, Usage, pick
from buildyard.domain.ids import SECOND, BuildId, JobId, LaneId, Moment, ProjectId, UserId, iso
from buildyard.domain.specs import Approval, JobSpec

GROUP_BYTES = 500
GROUP_VARIABLES = ("branch", "commit", "pipeline")

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


class Gate(IntFlag):
    """What a job must pass besides its needs. APPROVAL and LOCKS count one each in its `blockers`."""

    APPROVAL = 1
    LOCKS = 2
    WORKER_LOCKS = 4


class BlockerKind(StrEnum):
    """Why work waits that could go on otherwise."""

    APPROVAL = "approval"
    SCHEDULE = "schedule"
    START = "start"
    GROUP = "group"
    LOCK = "lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """One thing that a job, or with `job` None a whole build, waits for.

    `name` is the lock's or group's, `lock` its row; `until` when a schedule is due or an approval expires.
    """

    id: int
    project: ProjectId
    build: BuildId
    job: JobId | None
    kind: BlockerKind
    name: str
    lock: int | None
    most: int
    since: Moment
    until: Moment | None
    approval: Approval | None


def gates_of(spec: JobSpec) -> int:
    """The gates of a job."""
    gates = Gate.APPROVAL if spec.approval else Gate(0)
    gates |= Gate.LOCKS if spec.locks else Gate(0)
    return int(gates | (Gate.WORKER_LOCKS if spec.require.locks else Gate(0)))


def group_name(template: str, values: Mapping[str, str]) -> str:
    """`deploy-$branch` with the values of GROUP_VARIABLES put in."""
    name = _VARIABLE.sub(lambda match: values[match[1] or match[2]], template)
    if len(name.encode()) > GROUP_BYTES:
        raise Invalid(f"the name of the concurrency group is longer than {GROUP_BYTES} bytes")
    return name


def unknown_variables(template: str) -> list[str]:
    """The variables in a group's name that there are not."""
    return [name for match in _VARIABLE.finditer(template) if (name := match[1] or match[2]) not in GROUP_VARIABLES]


def may_approve(actor: Actor, approval: Approval, owner: Owner, submitter: UserId | None) -> bool:
    """Whether `actor` is one of those who may let the job run. The submitter may only if named."""
    if actor.user is None:
        return False
    if actor.name in approval.users:
        return True
    if actor.user == submitter:
        return False
    role = role_of(actor, owner)
    return role is not None and any(role >= Role[word.upper()] for word in approval.roles)


# --- locks ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """How many hold a lock, and the least `most` among them."""

    count: int = 0
    least: int = 2**31


def has_room(held: Held, most: int) -> bool:
    """Whether one more may hold the lock: everyone's `most` counts all holders."""
    return held.count < min(held.least, most)


def lanes_with_room(
    lanes: Sequence[Lane], locks_of: Mapping[LaneId, Sequence[tuple[str, int]]], held: Mapping[str, Held]
) -> list[Lane]:
    """The lanes whose jobs need no lock of the worker, or only such as are free."""
    return [
        lane
        for lane in lanes
        if all(has_room(held.get(name, Held()), most) for name, most in locks_of.get(lane.id, ()))
    ]


def pick_with_locks(
    lanes: Sequence[Lane],
    locks_of: Mapping[LaneId, Sequence[tuple[str, int]]],
    held: Mapping[str, Held],
    usage: Usage,
    slots: int,
) -> Counter[LaneId]:
    """As `fairness.pick`, but no more than the worker's locks have room for; however long the queues, at one cost."""
    taken: Counter[LaneId] = Counter()
    left, room = list(lanes), dict(held)
    while left and slots > taken.total():
        full: set[LaneId] = set()
        for lane, count in pick(left, usage, slots - taken.total()):
            got = _take(room, locks_of.get(lane, ()), count)
            taken[lane] += got
            if got < count:
                full.add(lane)
        if not full:
            break
        left = [
            replace(lane, queued=more)
            for lane in lanes
            if lane.id not in full and (more := lane.queued - taken[lane.id]) > 0
        ]
        left = lanes_with_room(left, locks_of, room)
    return taken


def _take(room: dict[str, Held], locks: Sequence[tuple[str, int]], count: int) -> int:
    """Note up to `count` more holders of all these locks; how many there was room for."""
    for got in range(count if locks else 0):
        if not all(has_room(room.get(name, Held()), most) for name, most in locks):
            return got
        for name, most in locks:
            before = room.get(name, Held())
            room[name] = Held(before.count + 1, min(before.least, most))
    return count


# --- words ---------------------------------------------------------------------------------------


def said_by(approval: Approval) -> str:
    """Who may answer: `alice, bob or an admin of the project`."""
    people = [
        *approval.users,
        *(f"{'an' if role[0] in 'ao' else 'a'} {role} of the project" for role in approval.roles),
    ]
    return " or ".join(part for part in (", ".join(people[:-1]), people[-1]) if part)


def span(micros: int) -> str:
    """`90 s`, `5 min`, `3 h`, `2 d`, as exact as short."""
    seconds = micros // SECOND
    for unit, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds // unit} {word}"
    return f"{seconds} s"


def in_words(blocker: Blocker, *, holders: str = "", ahead: int = 0) -> str:
    """What a blocker says to people; `holders` are those who have what it waits for, `ahead` how many stand before."""
    until = f" {iso(blocker.until)}" if blocker.until is not None else ""
    line = (f", held by {holders}" if holders else "") + (f", {ahead} ahead" if ahead else "")
    match blocker.kind:
        case BlockerKind.APPROVAL:
            assert blocker.approval is not None
            message = f": {blocker.approval.message}" if blocker.approval.message else ""
            return f"an approval by {said_by(blocker.approval)}{' until' + until if until else ''}{message}"
        case BlockerKind.SCHEDULE:
            return f"its start at{until}"
        case BlockerKind.START:
            return "somebody to start it"
        case BlockerKind.GROUP:
            return f"its turn in the group {blocker.name}{line}"
        case BlockerKind.LOCK:
            return f"the lock {blocker.name}{line}"
