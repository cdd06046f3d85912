"""Rules for the paths and patterns by which a job names files of its workspace.

A path is relative to the workspace, with `/` between its segments. A pattern is a path in which

- `?` stands for one character of a segment, `*` for any number of them,
- a segment `**` stands for any number of whole segments, also none,
- every other character stands for itself (`[`, `{`, `!` too); names that begin with a dot are like others.

What a pattern names is taken whole: `dist`, `dist/` and `dist/**` take all that lies in the folder `dist`.
Wildcards leave out a segment `.git`; written literally, it is taken.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable

from buildyard.domain.errors import Fault

MAX_PATH = 1024
"""The longest path or pattern, in bytes of UTF-8."""

MAX_SEGMENT = 255
"""The longest segment of a path, in bytes of UTF-8, as file systems have it."""

_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_path(text: str, at: str) -> list[Fault]:
    """What is wrong with a path of a file or folder in the workspace (not the workspace itself), found at `at`."""
    faults = [Fault(at, message, "path") for message in _complaints(text)]
    if not faults and _has_wildcard(text):
        faults.append(Fault(at, "must be a plain path, without * and ?", "path"))
    return faults


def check_pattern(text: str, at: str) -> list[Fault]:
    """What is wrong with a pattern, found at `at`; every good path is a good pattern."""
    return [Fault(at, message, "path") for message in _complaints(text)]


def normal(text: str) -> str:
    """The one spelling of a checked path or pattern: without `./`, `//` and a slash at the end."""
    return "/".join(segment for segment in text.split("/") if segment not in ("", "."))


def _complaints(text: str) -> Iterable[str]:
    if not text.strip():
        return ["must not be empty"]
    tests = {
        "must not hold control characters": _CONTROL.search(text) is not None,
        "must be valid Unicode": not _encodable(text),
        "must be relative to the workspace": text.startswith(("/", "~")),
        "must not name a drive": _DRIVE.match(text) is not None,
        "must use / between segments, not \\": "\\" in text,
        "must not hold ..": ".." in text.split("/"),
        "must name something inside the workspace": normal(text) == "",
    }
    found = [message for message, wrong in tests.items() if wrong]
    return found or _too_long(text)


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _too_long(text: str) -> list[str]:
    if len(text.encode()) > MAX_PATH:
        return [f"must not be longer than {MAX_PATH} bytes"]
    if any(len(segment.encode()) > MAX_SEGMENT for segment in text.split("/")):
        return [f"must not hold a name longer than {MAX_SEGMENT} bytes"]
    return []


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


class Pattern:
    """One pattern, compiled; matching takes time proportional to the path times the pattern at worst."""

    def __init__(self, text: str) -> None:
        self.text = text
        segments = normal(text).split("/")
        self._tests = [_segment(segment) for segment in segments]

    def matches(self, path: str) -> bool:
        """Whether `path` (normal) is named by the pattern or lies in a folder that is."""
        return len(self._tests) in self._states(path)

    def may_match_below(self, folder: str) -> bool:
        """Whether something in `folder` (normal; empty: the workspace) can match; lets a walk leave out the rest."""
        return bool(self._states(folder))

    def _states(self, path: str) -> set[int]:
        """How many of the pattern's segments may be used up after all of `path`; the full number stays reached."""
        end = len(self._tests)
        states = self._skipping({0})
        for name in path.split("/") if path else ():
            reached: set[int] = set()
            for state in states:
                reached |= {end} if state == end else self._step(state, name)
            states = self._skipping(reached)
        return states

    def _step(self, state: int, name: str) -> set[int]:
        test = self._tests[state]
        if test is None:
            last = state == len(self._tests) - 1
            return set() if name == ".git" else {state + 1 if last else state}
        return {state + 1} if test(name) else set()

    def _skipping(self, states: set[int]) -> set[int]:
        """Add the states reached by letting `**` stand for nothing; a `**` at the end needs something."""
        reached = set(states)
        for state in sorted(states):
            position = state
            while position < len(self._tests) - 1 and self._tests[position] is None:
                position += 1
                reached.add(position)
        return reached


def _segment(text: str) -> Callable[[str], bool] | None:
    """A test of one name; None for `**`."""
    if text == "**":
        return None
    if not _has_wildcard(text):
        return text.__eq__
    expression = re.compile(fnmatch.translate(re.sub(r"\*+", "*", text.replace("[", "[[]"))))
    return lambda name: name != ".git" and expression.match(name) is not None


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A test whether any of the patterns takes a normal path."""
    compiled = [Pattern(text) for text in patterns]
    return lambda path: any(pattern.matches(path) for pattern in compiled)
