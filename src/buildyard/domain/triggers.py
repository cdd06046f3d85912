"""Why builds start: what a trigger of each kind is told, and the parameters that people give to manual ones."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from buildyard.domain.errors import Fault, Invalid
from buildyard.domain.states import PASSED, Result

SKIP_WORDS = ("[skip ci]", "[ci skip]")
TEXT_LENGTH = 65_536
LINE_LENGTH = 1_000
MOST_MISSED = 10
"""How many missed moments `missed: all` makes up for, the newest ones."""


class TriggerKind(StrEnum):
    """What makes a trigger fire."""

    MANUAL = "manual"
    PUSH = "push"
    CRON = "cron"
    POLL = "poll"
    UPSTREAM = "upstream"
    PULL_REQUEST = "pull_request"


class Missed(StrEnum):
    """What happens to moments that passed while no server ran: nothing, one firing for all, one for each (limited)."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class ParameterType(StrEnum):
    """What a parameter's value must look like."""

    STRING = "string"
    TEXT = "text"
    INT = "int"
    BOOL = "bool"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which branches, tags and changed files count. Globs; nothing named means all branches, no tags, all files."""

    branches: tuple[str, ...] = ()
    exclude_branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    exclude_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A push to the repository of one of its pipelines, told by the forge."""

    filters: Filters = Filters()
    skip_words: tuple[str, ...] = SKIP_WORDS
    cancel_superseded: bool = False


class Forks(StrEnum):
    """What becomes of pull requests from forks: nothing, or untrusted builds once a member approved them."""

    IGNORE = "ignore"
    APPROVAL = "approval"


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """A pull request to the repository of one of its pipelines, told by the forge.

    The filters' branches are those that it asks to change; which files it changes is not told. A skip word counts
    in its title. What authors of `forks` hand in is untrusted.
    """

    filters: Filters = Filters()
    skip_words: tuple[str, ...] = SKIP_WORDS
    forks: Forks = Forks.APPROVAL
    cancel_superseded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """A look at the repositories of its pipelines every so often; `fire_first`: also at what it sees first."""

    interval_s: int = 300
    filters: Filters = Filters()
    skip_words: tuple[str, ...] = SKIP_WORDS
    fire_first: bool = False
    cancel_superseded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """Moments of a cron line in a time zone."""

    line: str
    timezone: str = "UTC"
    missed: Missed = Missed.ONCE
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The end of a build of `pipeline` (`project/pipeline`); `parameter` names the variable that gets that build's uid.

    A build that strangers caused has followers only if `untrusted` says so; they are untrusted like it.
    """

    pipeline: str
    results: tuple[Result, ...] = tuple(sorted(PASSED - {Result.SKIPPED}))
    parameter: str = ""
    untrusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Something a person may tell a build. Its name is that of the environment variable; `pattern` fits the whole."""

    name: str
    type: ParameterType = ParameterType.STRING
    label: str = ""
    required: bool = False
    default: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manual:
    """A person's wish; `button` is what pages call it."""

    button: str = ""
    parameters: tuple[Parameter, ...] = ()


Spec = Push | PullRequest | Poll | Cron | Upstream | Manual
SPECS: dict[TriggerKind, type[Spec]] = {
    TriggerKind.MANUAL: Manual,
    TriggerKind.PUSH: Push,
    TriggerKind.CRON: Cron,
    TriggerKind.POLL: Poll,
    TriggerKind.UPSTREAM: Upstream,
    TriggerKind.PULL_REQUEST: PullRequest,
}


def kind_of(spec: Spec) -> TriggerKind:
    """The kind of trigger that a specification is for."""
    return next(kind for kind, made in SPECS.items() if type(spec) is made)


def check_parameters(known: tuple[Parameter, ...], values: Mapping[str, object]) -> dict[str, str]:
    """The values as texts, with defaults; Invalid carries every fault. What a person left out has no variable."""
    names = {one.name for one in known}
    faults = [
        Fault(f"parameters.{name}", f"there is no parameter {name!r}", "unknown_parameter")
        for name in values
        if name not in names
    ]
    checked: dict[str, str] = {}
    for one in known:
        value = values.get(one.name)
        text = one.default if value is None else value
        problem = "" if text == "" and not one.required else fault_of(one, text)
        if problem:
            faults.append(Fault(f"parameters.{one.name}", problem, "invalid"))
        elif text != "":
            checked[one.name] = text_of(one, text)
    if faults:
        raise Invalid("the parameters are not valid", tuple(faults))
    return checked


def text_of(parameter: Parameter, value: object) -> str:
    """A faultless value as the text of its variable."""
    if parameter.type is ParameterType.INT:
        return str(int(str(value)))
    if parameter.type is ParameterType.BOOL:
        return str(value).lower()
    return str(value)


def fault_of(parameter: Parameter, value: object) -> str:
    """What is wrong with a value, or nothing. Numbers and truths may come as such, or as texts."""
    if value == "":
        return "is required"
    checks = {
        ParameterType.INT: _int_fault,
        ParameterType.BOOL: _bool_fault,
        ParameterType.CHOICE: _choice_fault,
        ParameterType.STRING: _string_fault,
        ParameterType.TEXT: _string_fault,
    }
    return checks[parameter.type](parameter, value)


def _int_fault(parameter: Parameter, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or not re.fullmatch(r"[+-]?[0-9]{1,18}", str(value)):
        return "must be a whole number"
    if parameter.minimum is not None and int(value) < parameter.minimum:
        return f"must be at least {parameter.minimum}"
    if parameter.maximum is not None and int(value) > parameter.maximum:
        return f"must be at most {parameter.maximum}"
    return ""


def _bool_fault(_parameter: Parameter, value: object) -> str:
    return "" if isinstance(value, bool) or value in ("true", "false") else "must be true or false"


def _choice_fault(parameter: Parameter, value: object) -> str:
    if isinstance(value, str) and value in parameter.choices:
        return ""
    return f"must be one of {', '.join(parameter.choices)}"


def _string_fault(parameter: Parameter, value: object) -> str:
    if not isinstance(value, str):
        return "must be a text"
    if "\0" in value:
        return "must not contain the NUL character"
    if parameter.type is ParameterType.STRING and ("\n" in value or "\r" in value):
        return "must be a single line"
    longest = LINE_LENGTH if parameter.type is ParameterType.STRING else TEXT_LENGTH
    if len(value) > longest:
        return f"must not be longer than {longest} characters"
    if parameter.pattern and not re.fullmatch(parameter.pattern, value):
        return f"must match {parameter.pattern}"
    return ""
