"""Takes the values of an attempt's secrets out of everything that the worker says, before anything leaves it.

What is looked for are needles: each value, each line of it, and the usual encodings of both, cut into overlapping
pieces so that little has to be held back. Every stretch of output that any needle covers becomes `***`, however the
output is cut into chunks: the end of a chunk is held back only while it could be the beginning of a needle.
"""

import base64
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

from buildyard.domain.secrets import SHORTEST_MASKED

MASK = b"***"
LONGEST_NEEDLE = 64
SHOWN_AT_REST = SHORTEST_MASKED - 1
"""So many held bytes are shown when the output goes quiet: too few to give a secret away. More stay held."""

_ENCODED_LINE_WIDTHS = (64, 76)
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_SAFE_IN_URLS = ("", "/", "!'()*~")


class Mask:
    """The needles of one attempt."""

    def __init__(self, values: Iterable[bytes]) -> None:
        needles = {piece for value in values for needle in _needles(value) for piece in _pieces(needle)}
        self._sorted = sorted(needles)
        self._firsts = frozenset(needle[0] for needle in self._sorted)
        self._reach = max(map(len, self._sorted), default=1) - 1
        self._matcher: Any = None
        if needles:
            from ahocorasick_rs import BytesAhoCorasick

            self._matcher = BytesAhoCorasick(self._sorted)

    def text(self, text: str) -> str:
        """A whole text, masked."""
        data = text.encode(errors="surrogateescape")
        stream = MaskedStream(self)
        return (stream.feed(data) + stream.end()).decode(errors="surrogateescape")

    def runs(self, data: bytes) -> Iterator[tuple[int, int]]:
        """The stretches that needles cover, in order; those that share a byte are one."""
        if self._matcher is None:
            return
        start = stop = -1
        for begins, ends in sorted((s, e) for _, s, e in self._matcher.find_matches_as_indexes(data, overlapping=True)):
            if begins >= stop:
                if stop > 0:
                    yield start, stop
                start, stop = begins, ends
            else:
                stop = max(stop, ends)
        if stop > 0:
            yield start, stop

    def held_from(self, data: bytes) -> int:
        """Where the longest end of `data` begins that is the beginning of a needle, but not all of it."""
        for position in range(max(0, len(data) - self._reach), len(data)):
            if data[position] in self._firsts and self._is_begun(data[position:]):
                return position
        return len(data)

    def _is_begun(self, end: bytes) -> bool:
        after = bisect_right(self._sorted, end)
        return after < len(self._sorted) and self._sorted[after].startswith(end)


class MaskedStream:
    """One stream of output on its way through a mask. The bytes that come out are the same for any chunks."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._held = b""
        self._told = 0
        self._masked = 0

    @property
    def is_holding(self) -> bool:
        """Whether `rest` would give something."""
        return self._told < len(self._held) <= SHOWN_AT_REST

    def feed(self, data: bytes) -> bytes:
        """What can be said after these bytes."""
        data = self._held + data if self._held else data
        return self._tell(data, self._mask.held_from(data))

    def rest(self) -> bytes:
        """What can be said when the output is quiet: a short end that is held. It still counts for what follows."""
        if not self.is_holding:
            return b""
        shown = self._held[self._told :]
        self._told = len(self._held)
        return shown

    def end(self) -> bytes:
        """What is left to be said when no more will come."""
        return self._tell(self._held, len(self._held))

    def _tell(self, data: bytes, until: int) -> bytes:
        """Say everything before `until`, keep the rest. Of what is kept, `_told` bytes were said: `_masked` as ***."""
        said: list[bytes] = []
        told, masked = self._told, self._masked
        for begins, ends in self._mask.runs(data):
            if begins >= until:
                break
            if ends <= told:
                continue
            if begins >= told:
                said += (data[told:begins], MASK)
            elif not (begins < masked and masked == told):
                said.append(MASK)
            told = masked = ends
        if told < until:
            said.append(data[told:until])
            told = until
        self._held, self._told, self._masked = data[until:], told - until, max(0, masked - until)
        return b"".join(said)


def _needles(value: bytes) -> Iterator[bytes]:
    """All that gives a value away: itself, its lines, and both in the encodings that programs print."""
    whole = value.strip()
    for plain in {whole, *(line.strip() for line in whole.splitlines())}:
        if len(plain) >= SHORTEST_MASKED:
            yield plain
            yield from _escaped(plain)
            yield from _in_base64(plain)
    for printed in (whole, whole + b"\n"):
        encoded = base64.b64encode(printed)
        for width in _ENCODED_LINE_WIDTHS:
            lines = (encoded[at : at + width] for at in range(0, len(encoded), width))
            yield from (line for line in lines if len(line) >= SHORTEST_MASKED)


def _escaped(plain: bytes) -> Iterator[bytes]:
    """As in addresses, forms, JSON, and the trace of a shell."""
    for text in (*(quote(plain, safe=safe) for safe in _SAFE_IN_URLS), quote_plus(plain)):
        yield text.encode()
        yield _with_small_escapes(text)
    text = plain.decode(errors="surrogateescape")
    yield json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="surrogateescape")
    yield json.dumps(text)[1:-1].encode()
    yield plain.replace(b"'", b"'\\''")


def _with_small_escapes(text: str) -> bytes:
    """`%2F` as `%2f`."""
    first, *others = text.split("%")
    return "%".join([first, *(other[:2].lower() + other[2:] for other in others)]).encode()


def _in_base64(plain: bytes) -> Iterator[bytes]:
    """The characters that depend on the value alone, wherever it begins in what was encoded; also with a true end."""
    for before, skipped in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(b"\0" * before + plain)
        core = encoded[skipped : (before + len(plain)) * 8 // 6]
        for found in {core, encoded[skipped:]}:
            if len(found) >= SHORTEST_MASKED:
                yield found
                yield found.translate(_URL_SAFE)


def _pieces(needle: bytes) -> Iterator[bytes]:
    """A needle, or overlapping pieces that cover a long one: where it stands, all of them match and become one run."""
    if len(needle) <= LONGEST_NEEDLE:
        yield needle
        return
    for at in range(0, len(needle) - LONGEST_NEEDLE, LONGEST_NEEDLE - 1):
        yield needle[at : at + LONGEST_NEEDLE]
    yield needle[-LONGEST_NEEDLE:]
