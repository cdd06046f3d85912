"""Reads the fields of requests, from JSON or from forms; every fault is told at once, in the real service's words."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request

from buildyard.apis.http import body_of
from buildyard.apis.sourcehut.forms import read_form
from buildyard.domain.access import EVERYONE
from buildyard.domain.errors import Fault, Invalid
from buildyard.domain.ids import BuildId
from buildyard.domain.manifests import ManifestTrigger, trigger_faults
from buildyard.domain.notifications import Action, Condition
from buildyard.engine.build_groups import NewGroup
from buildyard.engine.manifest_jobs import NewManifestJob

TAG = re.compile(r"[a-z0-9_.:-]+")
TAG_WORDS = (
    "Invalid tag name, tags must use lowercase alphanumeric characters, underscores, dashes, or dots"  # as told there
)
MOST_TAGS = 32
TAG_LENGTH = 100
NOTE_LENGTH = 4096
MOST_NAMES = 200
MOST_TRIGGERS = 20
LARGEST_ID = 2**31 - 1
_USERNAME = re.compile(r"~?[A-Za-z_][A-Za-z0-9_-]{0,63}")
_TRUTH = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}


class Fields:
    """The fields of one request. Reading them notes what is wrong; `check` raises it all."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.faults: list[Fault] = []

    def fault(self, field: str, reason: str) -> None:
        """Note what is wrong with a field."""
        self.faults.append(Fault(field, reason, "invalid"))

    def check(self) -> None:
        """Raise Invalid if anything is wrong."""
        if self.faults:
            raise Invalid("the request is not valid", tuple(self.faults))

    def text(self, field: str, *, required: bool = False, longest: int | None = None) -> str:
        """A text that the database can hold."""
        value = self._given(field, str, required=required)
        if value is None:
            return ""
        if longest is not None and len(value) > longest:
            self.fault(field, f"{field} must have at most {longest} characters")
        elif not is_text(value):
            self.fault(field, f"{field} holds characters that are no text")
        else:
            return str(value)
        return ""

    def truth(self, field: str) -> bool | None:
        """A bool; None if it is not given."""
        value: bool | None = self._given(field, bool, required=False)
        return value

    def names(self, field: str, *, everyone: bool) -> tuple[str, ...] | None:
        """A list of user names, `~` before them or not; None if it is not given."""
        values = self.texts(field, MOST_NAMES)
        if values is None:
            return None
        for name in values:
            if not (_USERNAME.fullmatch(name) or (everyone and name == EVERYONE)):
                self.fault(field, f"{name!r} is not the name of a user")
                return ()
        return tuple(dict.fromkeys(name.removeprefix("~") for name in values))

    def texts(self, field: str, most: int) -> list[str] | None:
        """A list of texts; None if it is not given."""
        values = self.listing(field, most)
        if values is not None and not all(isinstance(one, str) and is_text(one) for one in values):
            self.fault(field, f"{field} should be a list of str")
            return []
        return values

    def listing(self, field: str, most: int, *, required: bool = False) -> list[Any] | None:
        """A list; None if it is not given."""
        values: list[Any] | None = self._given(field, list, required=required)
        if values is not None and len(values) > most:
            self.fault(field, f"{field} must have at most {most} entries")
            return []
        return values

    def _given(self, field: str, kind: type, *, required: bool) -> Any:
        if field not in self._values:
            if required:
                self.fault(field, f"{field} is required")
            return None
        value = self._values[field]
        if value is None:
            self.fault(field, f"{field} may not be null")
            return None
        if kind is str and required and value == "":
            self.fault(field, f"{field} is required")
            return None
        if not isinstance(value, kind):
            self.fault(field, f"{field} should be a {kind.__name__}")
            return None
        return value


def is_text(value: str) -> bool:
    """Whether a text can be stored: without NUL, and with whole characters only."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


# --- bodies -------------------------------------------------------------------------------------

LISTS = ("tags", "access:read", "access:write", "jobs")
TRUTHS = ("secrets", "execute")


async def fields_of(request: Request, limit: int) -> Fields:
    """The fields of a body: JSON if its type is exactly `application/json`, else a form."""
    body = await body_of(request, limit)
    if request.headers.get("content-type") == "application/json":
        return Fields(_json(body))
    form = read_form(request.headers.get("content-type", ""), body)
    return Fields({name: _form_value(name, values) for name, values in form.items()})


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("Invalid JSON provided", (Fault("", "Invalid JSON provided", "json"),)) from None
    if not isinstance(found, dict):
        raise Invalid("Expected JSON dictionary", (Fault("", "Expected JSON dictionary", "json"),))
    return found


def _form_value(name: str, values: list[str]) -> Any:
    """What a field of a form stands for: lists are fields given several times, `triggers` is JSON."""
    if name in LISTS:
        return [
            int(one) if name == "jobs" and one.isascii() and one.isdecimal() and len(one) < 20 else one
            for one in values
        ]
    if name in TRUTHS:
        return _TRUTH.get(values[-1].lower(), values[-1])
    if name == "triggers":
        try:
            return msgspec.json.decode(values[-1].encode())
        except (msgspec.DecodeError, RecursionError):
            return values[-1]
    return values[-1]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


# --- what is asked for --------------------------------------------------------------------------


def new_job(fields: Fields, *, allow_local: bool) -> NewManifestJob:
    """A job to submit. Who may read it, if nobody is named, is everyone."""
    read = fields.names("access:read", everyone=True)
    wanted = NewManifestJob(
        text=fields.text("manifest", required=True),
        note=fields.text("note", longest=NOTE_LENGTH),
        tags=_tags(fields),
        read=(EVERYONE,) if read is None else read,
        write=fields.names("access:write", everyone=False) or (),
        secrets=fields.truth("secrets"),
        execute=fields.truth("execute") is not False,
        triggers=_triggers(fields, allow_local=allow_local),
    )
    fields.check()
    return wanted


def _tags(fields: Fields) -> tuple[str, ...]:
    tags = fields.texts("tags", MOST_TAGS) or []
    if not all(TAG.fullmatch(tag) and len(tag) <= TAG_LENGTH for tag in tags):
        fields.fault("tags", TAG_WORDS)
        return ()
    return tuple(tags)


def new_group(fields: Fields, *, allow_local: bool) -> NewGroup:
    """A group to make."""
    jobs = fields.listing("jobs", LARGEST_ID, required=True) or []
    if not all(type(one) is int and 0 < one <= LARGEST_ID for one in jobs):
        fields.fault("jobs", "jobs should be a list of int")
    wanted = NewGroup(
        builds=tuple(BuildId(one) for one in jobs if isinstance(one, int)),
        note=fields.text("note", longest=NOTE_LENGTH),
        triggers=_triggers(fields, allow_local=allow_local),
        execute=bool(fields.truth("execute")),
    )
    fields.check()
    return wanted


def _triggers(fields: Fields, *, allow_local: bool) -> tuple[ManifestTrigger, ...]:
    values = fields.listing("triggers", MOST_TRIGGERS) or []
    found = [_trigger(fields, f"triggers[{i}]", one) for i, one in enumerate(values)]
    triggers = [one for one in found if one is not None]
    for i, trigger in enumerate(triggers if len(triggers) == len(values) else ()):
        fields.faults += trigger_faults(trigger, f"triggers[{i}]", allow_local=allow_local)
    return tuple(triggers)


def _trigger(fields: Fields, at: str, value: Any) -> ManifestTrigger | None:
    if not isinstance(value, dict):
        fields.fault(at, f"{at} should be a dict")
        return None
    action, condition = (_word(fields, at, value, *one) for one in (("action", ACTIONS), ("condition", CONDITIONS)))
    texts = {}
    for name in ("to", "cc", "in_reply_to", "url"):
        given = value.get(name)
        if given is not None and not (isinstance(given, str) and is_text(given)):
            fields.fault(f"{at}.{name}", f"{name} should be a str")
            return None
        texts[name] = given or ""
    if not action or not condition:
        return None
    return ManifestTrigger(action=Action(action), condition=Condition(condition), **texts)


ACTIONS = (str(Action.EMAIL), str(Action.WEBHOOK))
CONDITIONS = (str(Condition.SUCCESS), str(Condition.FAILURE), str(Condition.ALWAYS))


def _word(fields: Fields, at: str, value: Mapping[str, Any], name: str, words: Sequence[str]) -> str:
    if name not in value:
        fields.fault(f"{at}.{name}", f"{name} is required")
    elif value[name] not in words:
        fields.fault(f"{at}.{name}", f"{name} should be one of {', '.join(words)}")
    else:
        return str(value[name])
    return ""


# --- addresses ----------------------------------------------------------------------------------


def start_of(request: Request) -> int:
    """Where a page begins."""
    given = request.query_params.get("start")
    if given is None or given == "":
        return LARGEST_ID
    if not (given.isascii() and given.isdecimal()):
        raise Invalid("start should be an int", (Fault("start", "start should be an int", "invalid"),))
    return min(int(given[:20]), LARGEST_ID)
