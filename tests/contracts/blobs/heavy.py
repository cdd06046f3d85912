"""A program that puts and reads a blob of 200 MB: `heavy.py local|s3 FOLDER URL`; prints the KiB its memory grew by."""

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from buildyard.adapters.blobs.local import LocalBlobStore
from buildyard.adapters.blobs.objects import ObjectBlobStore
from buildyard.adapters.object_store import connect_s3
from buildyard.ports import BlobStore

PIECE = bytes(100_000)


async def stream(size: int) -> AsyncIterator[bytes]:
    """So many bytes."""
    for _ in range(0, size, len(PIECE)):
        yield PIECE


async def pass_through(blobs: BlobStore, size: int) -> None:
    """Put and read back one blob."""
    info = await blobs.put(stream(size))
    assert sum([len(piece) async for piece in blobs.read(info.sha256)]) == size


async def main(kind: str, folder: Path, url: str) -> None:
    """Warm up with a small blob, so that only what depends on the size is measured."""
    blobs: BlobStore = LocalBlobStore(folder)
    if kind == "s3":
        bucket = connect_s3("buildyard", access_key_id="any", secret_access_key="any", endpoint=url)
        blobs = ObjectBlobStore(bucket, folder, prefix="heavy/")
    await pass_through(blobs, 2_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await pass_through(blobs, 200_000_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
