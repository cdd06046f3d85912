"""The one way in which bytes that users chose are answered: logs, artifacts, products; whole or by range (RFC 9110)."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from enum import Enum

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from buildyard.domain.ids import SECOND, Moment

RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
USER_BYTES = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every answer whose bytes a user chose."""
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


class Beyond(Enum):
    """What a range that begins at the end or later is answered with."""

    WHOLE = "whole"  # 200 with everything, as RFC 9110 allows
    NOTHING = "nothing"  # 206 without a body: for clients that ask a growing log again and again
    REFUSAL = "refusal"  # 416


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes `start` to `stop` (exclusive) of a whole of `size` bytes; `start` = `stop` = `size`: beyond the end."""

    start: int
    stop: int
    size: int

    def content_range(self, *, growing: bool = False) -> str:
        """The value of `Content-Range` (section 14.4). For no bytes, `5-5/*` says where they will be."""
        if self.start == self.stop:
            return f"bytes {self.start}-{self.start}/*"
        return f"bytes {self.start}-{self.stop - 1}/{'*' if growing else self.size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Bytes to answer with; `read` streams those from one position to another.

    `key` names the content. `appended`: bytes only ever follow those that are there, `growing`: they still may.
    With a `filename` it is saved, without one shown, which only plain text may be.
    """

    size: int
    read: Callable[[int, int], AsyncIterator[bytes]]
    key: str = ""
    media: str = BYTES
    filename: str = ""
    modified_at: Moment | None = None
    appended: bool = False
    growing: bool = False

    @property
    def etag(self) -> str:
        """The entity tag of what is there now; empty if it has none."""
        return f'"{self.key}-{self.size}"' if self.appended else f'"{self.key}"' if self.key else ""

    @property
    def last_modified(self) -> str:
        """When it changed last, in the words of HTTP; empty where that is not known."""
        return "" if self.modified_at is None else format_datetime(_second(self.modified_at), usegmt=True)

    def begins_with(self, etag: str) -> bool:
        """Whether what had this entity tag is the beginning of what is there now."""
        if not self.appended:
            return bool(self.key) and etag == self.etag
        match = re.fullmatch(rf'"{re.escape(self.key)}-([0-9]{{1,18}})"', etag)
        return match is not None and int(match[1]) <= self.size


def serve_bytes(
    request: Request, stored: Stored, *, beyond: Beyond = Beyond.REFUSAL, cache: str = "private, no-cache, no-transform"
) -> Response:
    """Answer GET or HEAD with bytes that a user chose, so that no browser takes them for a page of ours."""
    headers = {**USER_BYTES, "cache-control": cache, "accept-ranges": "bytes", "content-type": stored.media}
    headers |= {"etag": stored.etag} if stored.etag else {}
    headers |= {"last-modified": stored.last_modified} if stored.last_modified else {}
    headers |= {"content-disposition": attachment(stored.filename)} if stored.filename else {}
    if _is_known(request, stored):
        return Response(status_code=304, headers=headers)
    part = _part(request, stored)
    if part is not None and part.start == part.stop:
        if beyond is Beyond.REFUSAL:
            return Response(status_code=416, headers={"content-range": f"bytes */{stored.size}"})
        part = part if beyond is Beyond.NOTHING else None
    start, stop = (part.start, part.stop) if part else (0, stored.size)
    headers["content-length"] = str(stop - start)
    if part is not None:
        headers["content-range"] = part.content_range(growing=stored.growing)
    if request.method == "HEAD" or start == stop:
        return Response(status_code=206 if part else 200, headers=headers)
    return StreamingResponse(stored.read(start, stop), 206 if part else 200, headers)


def _is_known(request: Request, stored: Stored) -> bool:
    """Whether the asker has it already (section 13.2.2)."""
    if (tags := request.headers.get("if-none-match")) is not None:
        return tags.strip() == "*" or stored.etag in _ENTITY_TAG.findall(tags)
    since = _moment_of(request.headers.get("if-modified-since", ""))
    return since is not None and stored.modified_at is not None and _second(stored.modified_at) <= since


def _part(request: Request, stored: Stored) -> ByteRange | None:
    if request.method != "GET":
        return None
    condition = request.headers.get("if-range", "").strip()
    if condition and condition != stored.last_modified and not stored.begins_with(condition):
        return None
    return asked_range(request.headers.get("range"), stored.size)


def asked_range(header: str | None, size: int) -> ByteRange | None:
    """The one range that a `Range` header asks for, empty at the end if it begins there or later.

    None: there is none, or one that is not understood: send the whole (section 14.2).
    """
    match = RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, stop = max(0, size - int(match[2])), size
    else:
        start = min(int(match[1]), size)
        stop = min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < int(match[1]):
            return None
    return ByteRange(start, stop, size)


def range_of(header: str | None, size: int) -> ByteRange | None:
    """The one satisfiable range that a `Range` header asks for; None means: send the whole (section 14.2)."""
    part = asked_range(header, size)
    return part if part is not None and part.start < part.stop else None


def _second(moment: Moment) -> datetime:
    return datetime.fromtimestamp(moment // SECOND, UTC)


def _moment_of(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return found.replace(tzinfo=found.tzinfo or UTC)


def attachment(filename: str) -> str:
    """A `Content-Disposition` that saves the answer under a name (RFC 6266; other characters as RFC 8187 has them)."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", filename)
    encoded = "".join(_percent(filename))
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _percent(text: str) -> Iterator[str]:
    for byte in text.encode("utf-8", "surrogateescape"):
        character = chr(byte)
        yield character if character.isascii() and (character.isalnum() or character in "._-") else f"%{byte:02X}"
