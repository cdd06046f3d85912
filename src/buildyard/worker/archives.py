"""Packs files into archives as they are read: tar compressed with zstd, streamed, the same bytes for the same files.

Entries come sorted, with owner 0, whole seconds of their times and permission bits only. Links are kept as links.
`buildyard.worker.unpacking` reads what is written here.
"""

import asyncio
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path

import zstandard

from buildyard.domain.errors import NotFound, Unavailable
from buildyard.domain.paths import Pattern
from buildyard.worker.collecting import CHUNK, Entry, open_inside, shown, walk

Note = Callable[[str], None]
"""Hears of what was left out; called from another thread."""

_LEVEL = 3


def ignore(_note: str) -> None:
    """Hears nothing."""


async def pack(folder: Path, patterns: Sequence[str], *, note: Note = ignore) -> AsyncIterator[bytes]:
    """An archive of all that the patterns take; sockets, pipes and devices are left out and noted.

    A pattern that takes nothing is noted too; whether that is a failure is for the caller (see `collect`).
    """
    async for data in _stepping(_compressed(_tar(folder, _taken(folder, patterns, note), note))):
        yield data


async def pack_files(folder: Path, names: Iterable[str], *, note: Note = ignore) -> AsyncIterator[bytes]:
    """An archive of exactly these files and links (see `list_checkout`); those that vanished are noted."""
    async for data in _stepping(_compressed(_tar(folder, _named(folder, names, note), note))):
        yield data


def _taken(folder: Path, patterns: Sequence[str], note: Note) -> Iterator[Entry]:
    compiled = [Pattern(text) for text in patterns]
    unused = list(compiled)
    for entry in walk(folder, compiled):
        unused = [pattern for pattern in unused if not pattern.matches(entry.path)]
        yield entry
    for pattern in unused:
        note(f"nothing matches {pattern.text}")


def _named(folder: Path, names: Iterable[str], note: Note) -> Iterator[Entry]:
    for name in sorted(set(names)):
        try:
            yield Entry(name, os.lstat(folder / name))
        except OSError:
            note(f"{shown(name)} is gone")


def _tar(folder: Path, entries: Iterable[Entry], note: Note) -> Iterator[bytes]:
    """The bytes of an uncompressed archive, in pieces of bounded size."""
    for entry in entries:
        mode = entry.status.st_mode
        header = tarfile.TarInfo(entry.path)
        header.mode = mode & 0o777
        header.mtime = int(entry.status.st_mtime)
        if stat.S_ISDIR(mode):
            header.type = tarfile.DIRTYPE
            yield _header(header)
        elif stat.S_ISLNK(mode):
            header.type = tarfile.SYMTYPE
            header.linkname = os.readlink(folder / entry.path)
            yield _header(header)
        elif stat.S_ISREG(mode):
            yield from _file(folder, entry, header, note)
        else:
            note(f"{shown(entry.path)} is not a file, a folder or a link and is left out")
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(header: tarfile.TarInfo) -> bytes:
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _file(folder: Path, entry: Entry, header: tarfile.TarInfo, note: Note) -> Iterator[bytes]:
    """Header, contents and padding of a file; one that changes meanwhile is cut or filled up to its first size."""
    try:
        descriptor = open_inside(folder, entry.path)
    except NotFound as exc:
        note(f"{exc}; it is left out")
        return
    with open(descriptor, "rb", buffering=0) as file:
        left = header.size = os.fstat(descriptor).st_size
        yield _header(header)
        while left > 0 and (data := file.read(min(CHUNK, left))):
            left -= len(data)
            yield data
    if left:
        note(f"{shown(entry.path)} became shorter while it was read")
    while left > 0:
        yield bytes(min(CHUNK, left))
        left -= CHUNK
    yield bytes(-header.size % tarfile.BLOCKSIZE)


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Compress; pieces are gathered so that a step through another thread is worth its while."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
    gathered = bytearray()
    for piece in pieces:
        gathered += compressor.compress(piece)
        if len(gathered) >= CHUNK:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered + compressor.flush())


async def _stepping(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Run a blocking generator in threads, one step at a time; its last step is awaited even when cancelled."""
    while True:
        step = asyncio.ensure_future(asyncio.to_thread(next, pieces, None))
        try:
            data = await asyncio.shield(step)
        except asyncio.CancelledError:
            await asyncio.wait([step])
            raise
        except OSError as exc:
            raise Unavailable(f"the files to be packed could not be read: {exc.strerror}") from exc
        if data is None:
            return
        if data:
            yield data
