"""Which pushes and pull requests count for a trigger: globs of branches, tags and files, and words that skip."""

from collections.abc import Iterable
from functools import lru_cache

from buildyard.domain.pushes import PullRequestEvent, PushEvent
from buildyard.domain.triggers import Filters

ANY_FOLDERS, ANY = "**/", "**"


def wants_ref(filters: Filters, *, branch: str = "", tag: str = "") -> bool:
    """Whether a branch or tag counts. Nothing named: all branches and no tags; tags alone named: no branches."""
    if tag:
        return matches_any(filters.tags, tag)
    if matches_any(filters.exclude_branches, branch):
        return False
    if filters.branches:
        return matches_any(filters.branches, branch)
    return not filters.tags or bool(filters.exclude_branches)


def wants_files(filters: Filters, files: Iterable[str] | None) -> bool:
    """Whether one changed file counts; if the files are not known, they do."""
    if files is None or not (filters.paths or filters.exclude_paths):
        return True
    return any(
        (not filters.paths or matches_any(filters.paths, path)) and not matches_any(filters.exclude_paths, path)
        for path in files
    )


def word_in(message: str, words: Iterable[str]) -> str:
    """The first of the words that a commit's message has, in any case of letters; else nothing."""
    folded = message.casefold()
    return next((word for word in words if word and word.casefold() in folded), "")


def refusal_of_push(filters: Filters, skip_words: Iterable[str], push: PushEvent) -> str:
    """Why a push does not count; empty if it does."""
    if not wants_ref(filters, branch=push.branch, tag=push.tag):
        return f"{push.ref} is not one of its branches or tags"
    if word := word_in(push.head.message, skip_words):
        return f"the message of the commit says {word}"
    if not wants_files(filters, push.files):
        return "no changed file is one of its files"
    return ""


def refusal_of_pull_request(filters: Filters, skip_words: Iterable[str], pull: PullRequestEvent) -> str:
    """Why a pull request does not count; its filters are about the branch that it asks to change."""
    if not wants_ref(filters, branch=pull.base_branch):
        return f"branch {pull.base_branch} is not one of its branches"
    if word := word_in(pull.title, skip_words):
        return f"its title says {word}"
    return ""


def matches_any(globs: Iterable[str], text: str) -> bool:
    """Whether one of the globs matches the whole text."""
    return any(matches(glob, text) for glob in globs)


def matches(glob: str, text: str) -> bool:
    """Whether a glob matches the whole text; the time it takes grows with the product of their lengths only.

    `*` stands for any characters but slashes, `?` for one, `**` for any characters, `**/` for any folders or none;
    a slash at the end for everything below. All other characters stand for themselves.
    """
    reached = {0}
    for token in _tokens(glob):
        reached = _after(token, reached, text)
        if not reached:
            return False
    return len(text) in reached


def _after(token: str, reached: set[int], text: str) -> set[int]:
    """Where in the text a match may stand after a token, if it may stand at `reached` before it."""
    size = len(text)
    first = min(reached)
    match token:
        case "**":
            return set(range(first, size + 1))
        case "**/":
            return reached | {at + 1 for at in range(first, size) if text[at] == "/"}
        case "*":
            return _up_to_slash(reached, text)
        case "?":
            return {at + 1 for at in reached if at < size and text[at] != "/"}
        case _:
            return {at + 1 for at in reached if at < size and text[at] == token}


def _up_to_slash(reached: set[int], text: str) -> set[int]:
    found: set[int] = set()
    inside = False
    for at in range(len(text) + 1):
        inside = inside or at in reached
        if inside:
            found.add(at)
        if at < len(text) and text[at] == "/":
            inside = False
    return found


@lru_cache(maxsize=1024)
def _tokens(glob: str) -> tuple[str, ...]:
    whole = f"{glob}**" if glob.endswith("/") else glob
    tokens: list[str] = []
    at = 0
    while at < len(whole):
        starts = at == 0 or whole[at - 1] == "/"
        token = next(
            (one for one in (ANY_FOLDERS, ANY) if whole.startswith(one, at) and (one == ANY or starts)), whole[at]
        )
        tokens.append(token)
        at += len(token)
    return tuple(tokens)
