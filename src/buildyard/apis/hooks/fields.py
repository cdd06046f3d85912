"""What the readers of all forges share: decoding a body, and checks of what must be so before anything is built."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec

from buildyard.domain.errors import Invalid
from buildyard.domain.ids import SECOND, Moment
from buildyard.domain.pushes import LONGEST_MESSAGE, Event
from buildyard.domain.sources import check_branch

T = TypeVar("T")

HEADS = "refs/heads/"
TAGS = "refs/tags/"
LONGEST_LINE = 500
LONGEST_PATH = 4_096
LONGEST_LINK = 2_048

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BAD = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that is fine but starts nothing, with the reason; a ping only asks whether we are here."""

    why: str
    is_ping: bool = False


Told = tuple[Event, ...] | Ignored
"""What a delivery means: events, in order, or nothing to do."""


class Person(msgspec.Struct):
    """Somebody in a commit or as a user; forges name them by one or another of these."""

    name: str | None = None
    email: str | None = None
    username: str | None = None
    login: str | None = None

    @property
    def written(self) -> str:
        """`Name <address>`, as git has it."""
        name = self.name or self.username or self.login or ""
        return line(f"{name} <{self.email}>" if name and self.email else name or self.email or "")

    @property
    def account(self) -> str:
        """The name by which the forge knows them."""
        return line(self.login or self.username or self.name or "")


def decoded(kind: type[T], body: bytes) -> T:
    """The body as a value of this type; raises Invalid, saying where it is not what the forge documents."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise Invalid(f"the body is not what was announced: {exc}") from None
    except RecursionError:
        raise Invalid("the body is nested too deeply") from None


def commit_id(value: str, at: str) -> str:
    """A whole commit name; all zeros (no commit) give an empty text."""
    if not _COMMIT.fullmatch(value):
        raise Invalid(f"{at} must be the whole name of a commit, 40 or 64 lower-case hexadecimal digits")
    return value if value.strip("0") else ""


def some_commit(value: str, at: str) -> str:
    """A whole commit name that is not all zeros."""
    found = commit_id(value, at)
    if not found:
        raise Invalid(f"{at} must be a commit")
    return found


def short_name(value: str, at: str) -> str:
    """A name of a branch or tag, without `refs/…`."""
    if check_branch(value, at):
        raise Invalid(f"{at} is not a name that git allows for a branch or tag")
    return value


def branch_or_tag(ref: str, at: str) -> tuple[str, str]:
    """The branch, or the tag, that a full ref names; neither for other refs."""
    if ref.startswith(HEADS):
        return short_name(ref.removeprefix(HEADS), at), ""
    if ref.startswith(TAGS):
        return "", short_name(ref.removeprefix(TAGS), at)
    return "", ""


def line(text: str | None, longest: int = LONGEST_LINE) -> str:
    """Text fit to be kept: bounded, in one line, without what no database takes."""
    return " ".join(_BAD.sub("\ufffd", text or "")[: longest * 2].split())[:longest]


def message(text: str | None) -> str:
    """A commit's message, bounded, without what no database takes."""
    return _BAD.sub("\ufffd", text or "")[:LONGEST_MESSAGE].strip()


def link(text: str | None) -> str:
    """An address of the forge's pages; others are left out."""
    found = line(text, LONGEST_LINK)
    return found if found.startswith(("https://", "http://")) else ""


def paths(*lists: list[str] | None) -> tuple[str, ...] | None:
    """The files of a commit; None if not all lists were told."""
    found: dict[str, None] = {}
    for one in lists:
        if one is None:
            return None
        found |= dict.fromkeys(_BAD.sub("\ufffd", path)[:LONGEST_PATH] for path in one)
    return tuple(found)


def moment(text: str | None) -> Moment | None:
    """A time as forges write it (ISO 8601 with a zone); None for anything else."""
    try:
        found = datetime.fromisoformat(text or "")
        seconds = found.timestamp() if found.tzinfo else 0.0
    except (ValueError, OverflowError, OSError):
        return None
    return Moment(int(seconds * SECOND)) if 0 < seconds < 2**40 else None


def milliseconds(stamp: int) -> Moment | None:
    """A time in milliseconds since 1970; None for anything that cannot be one."""
    return Moment(stamp * (SECOND // 1000)) if 0 < stamp < 2**50 else None


def addresses(*given: str | None) -> tuple[str, ...]:
    """Those that were told."""
    return tuple(one for one in given if one)
