"""The schema's own scalars: times, and cursors that say of which list they are."""

import base64
import binascii
from datetime import UTC, datetime

from graphql import GraphQLError, GraphQLScalarType, GraphQLSchema

from buildyard.domain.errors import Invalid
from buildyard.domain.ids import SECOND

LARGEST = 2**31 - 1


def time_text(moment: object) -> str:
    """A Moment as `2027-01-15T08:00:00Z`."""
    assert isinstance(moment, int)
    return datetime.fromtimestamp(moment // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def cursor_of(of: str, start: int | None) -> str | None:
    """The cursor of the page of list `of` that begins with id `start`; None if there is none."""
    return None if start is None else base64.urlsafe_b64encode(f"{of}:{start}".encode()).decode().rstrip("=")


def start_of(of: str, cursor: str | None) -> int | None:
    """Where the page that a cursor names begins."""
    if cursor is None:
        return None
    try:
        kind, _, start = (
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode().partition(":")
        )
    except (binascii.Error, ValueError):
        kind = start = ""
    if kind != of or not (start.isascii() and start.isdecimal()) or int(start) > LARGEST:
        raise Invalid(f"this is not a cursor of the list {of}")
    return int(start)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise GraphQLError("this scalar is a string")
    return value


def define_scalars(schema: GraphQLSchema) -> None:
    """Give the scalars of a schema their meaning."""
    for name, write in (("Time", time_text), ("Cursor", _text), ("Binary", _text), ("File", _text)):
        scalar = schema.get_type(name)
        assert isinstance(scalar, GraphQLScalarType)
        scalar.coerce_output_value = write
        scalar.coerce_input_value = _text
