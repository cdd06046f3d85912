"""What all blob stores do with names and with incoming streams."""

import re
from collections.abc import AsyncIterable, AsyncIterator

from buildyard.domain.errors import NotFound, TooLarge
from buildyard.domain.ids import Sha256

BATCH = 1024 * 1024
"""Bytes that are hashed and written at a time."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


def blob_path(sha256: Sha256) -> str:
    """Where a blob lies (`ab/cdef…`); NotFound for what is no digest, so that no name can lead elsewhere."""
    if not _DIGEST.fullmatch(sha256):
        raise missing(sha256)
    return f"{sha256[:2]}/{sha256[2:]}"


def is_digest(name: str) -> bool:
    """Whether a name is one that a blob may have."""
    return _DIGEST.fullmatch(name) is not None


def missing(sha256: Sha256) -> NotFound:
    """The error for a blob that is not stored."""
    return NotFound(f"there is no blob {sha256[:64]!r}")


async def batches(data: AsyncIterable[bytes], limit: int | None) -> AsyncIterator[bytes]:
    """The same stream in batches of about a MiB (the last may be less); TooLarge as soon as it exceeds `limit`."""
    size = 0
    held = bytearray()
    async for piece in data:
        size += len(piece)
        if limit is not None and size > limit:
            raise TooLarge(f"larger than the limit of {limit} bytes")
        for start in range(0, len(piece), BATCH):
            held += piece[start : start + BATCH]
            if len(held) >= BATCH:
                yield bytes(held)
                held.clear()
    if held:
        yield bytes(held)
