"""Rules of telling: who is told of which end of which builds, and how often a message is tried."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from urllib.parse import quote

from buildyard.domain.errors import Fault
from buildyard.domain.sources import Address, check_http_url, read_http_url
from buildyard.domain.states import PASSED, Phase, Result

MOST_RECIPIENTS = 20
SUBMITTER = "submitter"
"""The recipient that stands for whoever submitted the build."""

SERVER = "server:"
"""What the name of a credential begins with that the server's settings name."""

MAIL_HOST = "mail"
"""The place in the queue of all mail: it goes through one server."""

SUCCEEDED = frozenset({Result.SUCCESS, Result.WARNINGS})

_ADDRESS = re.compile(r"[^\s@<>()\[\]\\,;:\"\x00-\x1f\x7f]{1,64}@[^\s@<>()\[\]\\,;:\"\x00-\x1f\x7f]{1,253}")
_REFERENCE = re.compile(r"[ -~]{1,500}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.~-]+(/[A-Za-z0-9_.~-]+){0,9}")


class Action(StrEnum):
    """How somebody is told."""

    EMAIL = "email"
    WEBHOOK = "webhook"
    STATUS = "status"


class Condition(StrEnum):
    """Which ends of builds are told. `changed` and `fixed` compare with the build before, see `is_wanted`."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNSUCCESSFUL = "unsuccessful"
    ALWAYS = "always"
    CHANGED = "changed"
    FIXED = "fixed"


class Event(StrEnum):
    """What happened to a build. `created` and `updated` are told to subscriptions, the others to rules."""

    STARTED = "started"
    FINISHED = "finished"
    CREATED = "created"
    UPDATED = "updated"


class DeliveryState(IntEnum):
    """What became of a message. Dead ones were given up; dropped ones were overtaken, or their rule was removed."""

    WAITING = 0
    DELIVERED = 1
    DEAD = 2
    DROPPED = 3

    @property
    def word(self) -> str:
        """The name that users read and write."""
        return self.name.lower()


class Forge(StrEnum):
    """A kind of server for repositories that shows statuses at commits; Forgejo speaks Gitea's API."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"
    BITBUCKET = "bitbucket"
    BITBUCKET_SERVER = "bitbucket-server"


PUBLIC_API = {
    Forge.GITHUB: "https://api.github.com",
    Forge.GITLAB: "https://gitlab.com/api/v4",
    Forge.BITBUCKET: "https://api.bitbucket.org",
}
"""Where those are that exist once; the others are named by the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailTarget:
    """Mail to these addresses; SUBMITTER among them stands for whoever submitted the build.

    With a `dialect` the headers name all of `to` and `cc`, and the message that this one answers.
    """

    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    in_reply_to: str = ""
    dialect: str = ""

    @property
    def recipients(self) -> tuple[str, ...]:
        """Everyone who gets it."""
        return (*self.to, *self.cc)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTarget:
    """A POST to this address, signed if `secret` names a credential; also at the start if `started`."""

    url: str
    secret: str = ""
    started: bool = False
    dialect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusTarget:
    """A status at the built commit of a repository; `token` names the credential, `api` is empty for the public one."""

    forge: Forge
    repository: str
    token: str
    api: str = ""

    @property
    def base(self) -> str:
        """The address that the forge's API begins with."""
        return (self.api or PUBLIC_API.get(self.forge, "")).rstrip("/")


Target = EmailTarget | WebhookTarget | StatusTarget
"""The `dialect` of a target names the API in whose words its messages are written; empty for our own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Tell `target` of the ends that `condition` names."""

    target: Target
    condition: Condition = Condition.FAILURE


def action_of(target: Target) -> Action:
    """How a target is told."""
    match target:
        case EmailTarget():
            return Action.EMAIL
        case WebhookTarget():
            return Action.WEBHOOK
        case StatusTarget():
            return Action.STATUS


def credential_of(target: Target) -> str:
    """The name of the credential that a target needs; empty for none."""
    match target:
        case EmailTarget():
            return ""
        case WebhookTarget(secret=name) | StatusTarget(token=name):
            return name


def secret_of(target: Target) -> str:
    """The name of the secret that a target needs; empty for none, and for a credential of the server's settings."""
    name = credential_of(target)
    return "" if name.startswith(SERVER) else name


def dialect_of(target: Target) -> str:
    """Who writes the messages for a target; empty for ourselves."""
    match target:
        case EmailTarget(dialect=dialect) | WebhookTarget(dialect=dialect):
            return dialect
        case StatusTarget():
            return ""


def host_of(target: Target) -> str:
    """Where messages for a target queue: those of one host are sent a few at a time, and delay no other's."""
    match target:
        case EmailTarget():
            return MAIL_HOST
        case WebhookTarget(url=url):
            return _host(url)
        case StatusTarget():
            return _host(target.base)


def _host(url: str) -> str:
    address = read_http_url(url, "url", allow_local=True)
    return f"{address.host}:{address.port}" if isinstance(address, Address) else ""


def stream_of(target: Target, commit: str, pipeline: str) -> str:
    """What orders messages that replace each other: statuses of one commit and context; empty for all others."""
    if not isinstance(target, StatusTarget):
        return ""
    return f"{target.base} {target.repository} {commit} {context_of(pipeline)}"


def context_of(pipeline: str) -> str:
    """The name under which a pipeline's status shows at a commit."""
    return f"buildyard/{pipeline}"


def shown_target(target: Target) -> str:
    """A target for people."""
    match target:
        case EmailTarget():
            return ", ".join(target.recipients)
        case WebhookTarget(url=url):
            return url
        case StatusTarget():
            return f"{target.forge} {target.repository}"


# --- what is right ------------------------------------------------------------------------------


def rule_faults(rule: Rule, *, allow_local: bool) -> list[Fault]:
    """Everything wrong with a rule that can be seen without asking anybody; paths are those of its parts."""
    match rule.target:
        case EmailTarget() as mail:
            return [*_recipient_faults(mail), *_reference_faults(mail.in_reply_to)]
        case WebhookTarget(url=url, secret=secret):
            return [*check_http_url(url, "url", allow_local=allow_local), *_name_faults(secret, "secret")]
        case StatusTarget() as target:
            return _status_faults(target, rule.condition, allow_local=allow_local)


def _recipient_faults(mail: EmailTarget) -> list[Fault]:
    if not mail.to or len(mail.recipients) > MOST_RECIPIENTS:
        return [Fault("to", f"must name 1 to {MOST_RECIPIENTS} recipients", "count")]
    if len(set(mail.recipients)) != len(mail.recipients):
        return [Fault("to", "names a recipient twice", "duplicate")]
    return [
        Fault(f"{field}[{i}]", f"must be a mail address, or the word {SUBMITTER}", "address")
        for field, addresses in (("to", mail.to), ("cc", mail.cc))
        for i, each in enumerate(addresses)
        if each != SUBMITTER and not is_mail_address(each)
    ]


def _reference_faults(reference: str) -> list[Fault]:
    if not reference or _REFERENCE.fullmatch(reference):
        return []
    return [Fault("in_reply_to", "must be the Message-ID of a mail", "reference")]


def is_mail_address(text: str) -> bool:
    """Whether this is one plain ASCII address, without anything that could begin another header or command."""
    return _ADDRESS.fullmatch(text) is not None and text.isascii()


def _status_faults(target: StatusTarget, condition: Condition, *, allow_local: bool) -> list[Fault]:
    faults = _name_faults(target.token, "token")
    if not target.token:
        faults.append(Fault("token", "must name a credential", "missing"))
    if not target.base:
        faults.append(Fault("api", f"must be given: {target.forge} is in many places", "missing"))
    else:
        faults += check_http_url(target.base, "api", allow_local=allow_local)
    segments = target.repository.split("/")
    if not _REPOSITORY.fullmatch(target.repository) or {".", ".."} & set(segments):
        faults.append(Fault("repository", "must be a path like owner/name", "repository"))
    elif target.forge is not Forge.GITLAB and len(segments) != 2:
        faults.append(Fault("repository", "must be owner/name", "repository"))
    if condition is not Condition.ALWAYS:
        faults.append(Fault("on", "must be always: a status shows the start and every end", "condition"))
    return faults


def _name_faults(name: str, at: str) -> list[Fault]:
    if not name or _NAME.fullmatch(name.removeprefix(SERVER)):
        return []
    return [
        Fault(at, f"must be the name of a secret, or of a credential of the server with {SERVER} before it", "name")
    ]


# --- what is told when --------------------------------------------------------------------------


def tells_start(target: Target) -> bool:
    """Whether the start of a build is told, too."""
    return isinstance(target, StatusTarget) or (isinstance(target, WebhookTarget) and target.started)


def result_of_group(results: Iterable[Result]) -> Result:
    """How builds ended together: the worst of them, where one that never ran was as good as cancelled."""
    return max(Result.CANCELLED if result is Result.SKIPPED else result for result in results)


class Stage(IntEnum):
    """How far a build is, as subscriptions tell it: a build that leaves one for the next is `updated`."""

    WAITING = 0
    QUEUED = 1
    UNDER_WAY = 2
    FINISHED = 3


STAGE = {
    Phase.WAITING: Stage.WAITING,
    Phase.QUEUED: Stage.QUEUED,
    Phase.LEASED: Stage.UNDER_WAY,
    Phase.RUNNING: Stage.UNDER_WAY,
    Phase.FINISHED: Stage.FINISHED,
}


def is_comparing(condition: Condition) -> bool:
    """Whether the condition needs to know how the build before ended."""
    return condition in (Condition.CHANGED, Condition.FIXED)


def is_wanted(condition: Condition, result: Result, before: Result | None) -> bool:
    """Whether this end is told. `before` is the result of the pipeline's build before, cancelled ones left out.

    A cancelled or skipped build is told by `always` and `unsuccessful` only, and compares with nothing. The first
    failure of a new pipeline counts as a change.
    """
    if condition is Condition.ALWAYS:
        return True
    if condition is Condition.UNSUCCESSFUL:
        return result not in SUCCEEDED
    if result in (Result.CANCELLED, Result.SKIPPED):
        return False
    good = result in PASSED
    was_good = before is None or before in PASSED
    match condition:
        case Condition.SUCCESS:
            return good
        case Condition.FAILURE:
            return not good
        case Condition.CHANGED:
            return good is not was_good
        case Condition.FIXED:
            return good and not was_good


# --- how often ----------------------------------------------------------------------------------

FIRST_DELAY_S = 5.0
LONGEST_DELAY_S = 3600.0
LONGEST_WISH_S = 24 * 3600.0
"""How long a target may ask us to wait (`Retry-After`)."""


def retry_delay(tries: int, chance: float, wished: float | None) -> float:
    """Seconds until the next try after so many: doubled each time, between half and all of it by `chance` (0 to 1).

    A target that names a longer time itself gets that.
    """
    delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(tries - 1, 30)) * (0.5 + chance / 2)
    return max(delay, min(wished or 0.0, LONGEST_WISH_S))


FOR_GOOD = frozenset({400, 405, 410, 413, 414, 415, 422, 431})
"""Answers that another try would get again. 401, 403 and 404 may be put right by people, so they are tried again."""


def is_final(status: int) -> bool:
    """Whether an answer says that another try is in vain; redirects are not followed, so they are."""
    return status in FOR_GOOD or 300 <= status < 400


def path_of(repository: str) -> str:
    """A repository's name inside a URL's path."""
    return "/".join(quote(part, safe="") for part in repository.split("/"))
