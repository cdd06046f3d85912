"""What a poll makes of the branches and tags it sees: which of them moved, and when to look again."""

from collections.abc import Mapping
from dataclasses import dataclass

from buildyard.domain.ids import SECOND, Moment
from buildyard.domain.push_filters import wants_ref
from buildyard.domain.triggers import Poll

HEADS, TAGS = "refs/heads/", "refs/tags/"
LONGEST_PAUSE = 3600 * SECOND
MOST_MOVES = 50
"""How many moves one look starts builds for; those beyond it have their turn with the next look, soon after."""

Refs = Mapping[str, str]
"""Commits by the full names of branches and tags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A branch or tag that stands elsewhere than it was seen; `before` is empty for a new one."""

    name: str
    before: str
    after: str

    @property
    def branch(self) -> str:
        """The branch's short name; empty for a tag."""
        return self.name.removeprefix(HEADS) if self.name.startswith(HEADS) else ""

    @property
    def tag(self) -> str:
        """The tag's short name; empty for a branch."""
        return self.name.removeprefix(TAGS) if self.name.startswith(TAGS) else ""


def in_view(spec: Poll, found: Refs) -> dict[str, str]:
    """The branches and tags that the poll is about."""
    return {
        name: commit
        for name, commit in found.items()
        if (name.startswith(HEADS) and wants_ref(spec.filters, branch=name.removeprefix(HEADS)))
        or (name.startswith(TAGS) and wants_ref(spec.filters, tag=name.removeprefix(TAGS)))
    }


def moves(spec: Poll, seen: Refs | None, found: Refs) -> list[Move]:
    """What moved since it was last seen, by name; None: this is the first look, at which all is new or nothing is.

    What comes into view later (a new branch, or one that the filters let through by now) has moved.
    """
    if seen is None and not spec.fire_first:
        return []
    before = seen or {}
    view = in_view(spec, found)
    return [
        Move(name=name, before=before.get(name, ""), after=view[name])
        for name in sorted(view)
        if before.get(name) != view[name]
    ]


def seen_after(spec: Poll, found: Refs, left: list[Move]) -> dict[str, str]:
    """What was seen, once all moves but those `left` for later were acted on."""
    view = in_view(spec, found)
    for move in left:
        if move.before:
            view[move.name] = move.before
        else:
            del view[move.name]
    return view


def pause_after_failure(spec: Poll, failing_for: int) -> int:
    """For how many microseconds to leave a repository alone that could not be read since `failing_for`.

    The interval at first, then ever longer: as long as it has failed so far, an hour at most.
    """
    interval = spec.interval_s * SECOND
    return max(interval, min(failing_for, LONGEST_PAUSE))


def next_look(spec: Poll, now: Moment, *, more: bool) -> Moment:
    """When to look again; soon if there is more to act on than one look may."""
    return Moment(now + (SECOND if more else spec.interval_s * SECOND))
