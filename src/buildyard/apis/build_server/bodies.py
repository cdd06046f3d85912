"""Reads JSON bodies field by field and gathers every fault, so that one answer names them all."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from starlette.requests import Request

from buildyard.apis.http import body_of
from buildyard.domain.errors import Fault, Invalid, TooLarge

T = TypeVar("T")

_IN_THREAD = 256 * 1024
_TYPE = {str: "a string", bool: "a boolean", list: "an array", dict: "an object", int: "an integer"}
MISSING = object()


class Fields:
    """The fields of one JSON object, read with their faults noted; a faulty field reads as an empty value."""

    def __init__(self, body: object, faults: list[Fault], at: str = "") -> None:
        self._at = at
        self.faults = faults
        if not isinstance(body, dict):
            faults.append(Fault(at or "body", "must be an object", "type"))
        self._body: Mapping[str, object] = body if isinstance(body, dict) else {}
        self.is_object = isinstance(body, dict)

    def path(self, name: str) -> str:
        """How a fault names a field."""
        return f"{self._at}.{name}" if self._at else name

    def note(self, name: str, message: str, code: str) -> None:
        """Add a fault of a field."""
        self.faults.append(Fault(self.path(name), message, code))

    def _get(self, name: str, kind: type[T], *, required: bool) -> T | None:
        value = self._body.get(name, MISSING)
        if value is MISSING:
            if required and self.is_object:
                self.note(name, "is required", "required")
            return None
        if type(value) is not kind:
            self.note(name, f"must be {_TYPE[kind]}", "type")
            return None
        return value

    def text(self, name: str, *, least: int = 0, most: int | None = None, required: bool = False) -> str:
        """A string of `least` to `most` characters."""
        value = self._get(name, str, required=required)
        if value is None:
            return ""
        complaint = text_fault(value, least=least, most=most)
        if complaint is None:
            return value
        self.note(name, *complaint)
        return ""

    def texts(self, name: str, *, most: int | None = None, required: bool = False) -> list[str]:
        """An array of strings; a faulty entry reads as empty, so that positions stay."""
        found: list[str] = []
        for i, value in enumerate(self.items(name, required=required)):
            complaint = text_fault(value, most=most) if isinstance(value, str) else ("must be a string", "type")
            if complaint is not None:
                self.note(f"{name}[{i}]", *complaint)
            found.append(value if isinstance(value, str) and complaint is None else "")
        return found

    def items(self, name: str, *, required: bool = False) -> list[object]:
        """An array of anything."""
        return self._get(name, list, required=required) or []

    def flag(self, name: str) -> bool:
        """A boolean, false if missing."""
        return bool(self._get(name, bool, required=False))

    def whole(self, name: str, *, low: int, high: int) -> int | None:
        """An integer from `low` to `high`, None if missing."""
        value = self._get(name, int, required=False)
        if value is None or low <= value <= high:
            return value
        self.note(name, f"must be from {low} to {high}", "range")
        return None

    def word(self, name: str, words: Mapping[str, T], default: T, *, required: bool = False) -> T:
        """What one of some words stands for."""
        value = self._get(name, str, required=required)
        if value is None:
            return default
        if value not in words:
            self.note(name, f"must be one of {', '.join(words)}", "unknown_word")
        return words.get(value, default)

    def check(self, name: str, value: str, test: Callable[[str, str], list[Fault]]) -> None:
        """Add what a rule of the domain says of a text that is not empty."""
        if value:
            self.faults.extend(test(value, self.path(name)))


def text_fault(value: str, *, least: int = 0, most: int | None = None) -> tuple[str, str] | None:
    """What is wrong with a text, and the code of that."""
    if "\0" in value:
        return "must not hold NUL", "nul"
    if any("\ud800" <= character <= "\udfff" for character in value) if not value.isascii() else False:
        return "must be valid Unicode", "unicode"
    if len(value) < least:
        return ("must not be empty" if least == 1 else f"must have at least {least} characters"), "too_short"
    if most is not None and len(value) > most:
        return f"must have at most {most} characters", "too_long"
    return None


async def json_of(request: Request, limit: int, read: Callable[[object], T]) -> T:
    """The body as what `read` makes of it; an empty body counts as an empty object. Large ones are read in a thread."""
    data = await body_of(request, limit)
    if len(data) > _IN_THREAD:
        return await asyncio.to_thread(_decode, data, read)
    return _decode(data, read)


def _decode(data: bytes, read: Callable[[object], T]) -> T:
    try:
        body = msgspec.json.decode(data) if data else {}
    except RecursionError:
        raise Invalid("the body is nested too deep", (Fault("body", "is nested too deep", "malformed"),)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Invalid("the body is not valid JSON", (Fault("body", str(exc), "malformed"),)) from None
    return read(body)


def refuse(faults: list[Fault]) -> None:
    """Raise what the faults come to, if there are any; one that is over a limit alone decides the kind of error."""
    if not faults:
        return
    if large := [fault for fault in faults if fault.code == "too_large"]:
        raise TooLarge(f"{large[0].path} {large[0].message}")
    raise Invalid("the request is not valid", tuple(faults))
