"""The fields of HTML forms, as `curl -d` and `curl -F` send them; files have no place in them."""

import re
from urllib.parse import parse_qsl

from buildyard.domain.errors import Fault, Invalid

MOST_FIELDS = 1000
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
_BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))""")
_NAME = re.compile(rb'(?i)^content-disposition:[^\r\n]*[;\s]name="([^"\r\n]*)"', re.MULTILINE)
_FILE = re.compile(rb"(?i)^content-disposition:[^\r\n]*[;\s]filename\*?=", re.MULTILINE)


def read_form(content_type: str, body: bytes) -> dict[str, list[str]]:
    """Every value of each field, in order. A body of another type has no fields."""
    media = content_type.partition(";")[0].strip().lower()
    try:
        pairs = _pairs(media, content_type, body)
    except ValueError:
        raise Invalid("the form cannot be read", (Fault("", "The form cannot be read", "form"),)) from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _pairs(media: str, content_type: str, body: bytes) -> list[tuple[str, str]]:
    """Raises ValueError for what is no form, and UnicodeDecodeError, which is one, for what is no UTF-8."""
    if media == URLENCODED:
        return parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    if media != MULTIPART:
        return []
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise ValueError("no boundary")
    first, *parts = b"".join((b"\r\n", body)).split(b"\r\n--" + (match[1] or match[2]).encode())
    if len(parts) > MOST_FIELDS or not parts or not parts[-1].startswith(b"--") or first.strip():
        raise ValueError("no parts, or no end")
    return [_field(part) for part in parts[:-1]]


def _field(part: bytes) -> tuple[str, str]:
    head, blank, value = part.partition(b"\r\n\r\n")
    name = _NAME.search(head)
    if not blank or name is None or _FILE.search(head):
        raise ValueError("a part that is no field")
    return name[1].decode(), value.decode()
