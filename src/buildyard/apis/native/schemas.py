"""Decodes what comes in. The wire types are the client's, so that both sides have them once."""

from typing import TypeVar

import msgspec
from starlette.requests import Request

from buildyard.apis.http import MIB, body_of
from buildyard.client.messages import Message
from buildyard.domain.errors import Fault, Invalid

MOST_BODY = 8 * MIB
"""A workflow file of the largest size, as JSON, with room to spare."""

M = TypeVar("M", bound=Message)


async def decoded(request: Request, kind: type[M], *, limit: int) -> M:
    """The body as a message. Only JSON is taken, which no page of another origin can send unasked."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Invalid("the body must be application/json")
    try:
        return msgspec.json.decode(await body_of(request, limit), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Invalid(f"the body is not what is expected: {exc}", (Fault("", str(exc), "schema"),)) from exc


def number(request: Request, name: str, default: float, *, low: float, high: float) -> float:
    """A number of the query, within bounds."""
    text = request.query_params.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise Invalid(f"{name} must be a number from {low:g} to {high:g}", (Fault(name, "out of bounds", "bounds"),))
    return value


def whole(request: Request, name: str, default: int, *, low: int, high: int) -> int:
    """A whole number of the query, within bounds."""
    value = number(request, name, default, low=low, high=high)
    if value != int(value):
        raise Invalid(f"{name} must be a whole number", (Fault(name, "not a whole number", "bounds"),))
    return int(value)
