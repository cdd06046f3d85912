"""Whom a build with an access list of its own lets in, as those who submit it say: by names, or by a word."""

from collections.abc import Sequence
from dataclasses import dataclass

from buildyard.domain.access import EVERYONE, Actor, Audience, Owner, Right, Visibility
from buildyard.domain.ids import UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildAccess:
    """A new build's audience, and its list. Whoever submits it has every right without being named."""

    audience: Audience = Audience.PROJECT
    grants: tuple[tuple[str, Right], ...] = ()


def by_lists(read: Sequence[str], write: Sequence[str]) -> BuildAccess:
    """Those named may read, or act too; EVERYONE among the readers makes it public. Who may act, may read."""
    is_public = EVERYONE in read
    readers = [] if is_public else read
    grants = dict.fromkeys(readers, Right.LIST | Right.LOOK_UP)
    for name in write:
        grants[name] = grants.get(name, Right(0) if is_public else Right.LIST) | Right.LOOK_UP | Right.WRITE
    if is_public:
        grants[EVERYONE] = Right.LIST | Right.LOOK_UP
    return BuildAccess(audience=Audience.PUBLIC if is_public else Audience.NAMED, grants=tuple(sorted(grants.items())))


def by_visibility(visibility: Visibility) -> BuildAccess:
    """Everyone, everyone who knows the id, or the submitter alone."""
    match visibility:
        case Visibility.PUBLIC:
            return BuildAccess(audience=Audience.PUBLIC, grants=((EVERYONE, Right.LIST | Right.LOOK_UP),))
        case Visibility.UNLISTED:
            return BuildAccess(audience=Audience.UNLISTED, grants=((EVERYONE, Right.LOOK_UP),))
        case Visibility.PRIVATE:
            return BuildAccess(audience=Audience.NAMED)


def kept_for(owner: Owner, audience: Audience, submitter: UserId | None, named: str) -> BuildAccess:
    """The access of a build made again by `submitter`: that of the first, whose submitter is `named` from now on."""
    if owner.own is None:
        return BuildAccess()
    grants = dict(owner.own.grants)
    if named and submitter != owner.own.submitter:
        listed = Right(0) if audience is Audience.PUBLIC else Right.LIST
        grants[named] = listed | Right.LOOK_UP | Right.WRITE
    return BuildAccess(audience=audience, grants=tuple(sorted(grants.items())))


def visibility_of(audience: Audience, project: Visibility) -> Visibility:
    """The word for who sees a build; `project` is that of its project."""
    match audience:
        case Audience.PROJECT:
            return project
        case Audience.NAMED:
            return Visibility.PRIVATE
        case Audience.UNLISTED:
            return Visibility.UNLISTED
        case Audience.PUBLIC:
            return Visibility.PUBLIC


def is_listed(actor: Actor, owner: Owner) -> bool:
    """Whether a build with a list of its own shows in the actor's lists."""
    return owner.own is None or actor.administrator or bool(owner.own.rights_of(actor) & Right.LIST)
