"""Bytes between the server and a step run by a script: source, inputs, caches, outputs.

The machine that runs the script may have nothing but tar, so everything goes to it as plain tar; what is stored is
compressed, as the workers have it.
"""

import asyncio
import tarfile
import zlib
from collections.abc import AsyncIterator, Callable
from io import RawIOBase
from typing import IO, Protocol, cast

import zstandard

from buildyard.domain.access import Actor
from buildyard.domain.errors import Invalid, NotFound
from buildyard.domain.ids import Sha256
from buildyard.domain.specs import JobSpec
from buildyard.domain.trust import is_trusted
from buildyard.engine.engine import Engine
from buildyard.engine.files import store_blob
from buildyard.engine.runners import Hold, open_hold
from buildyard.ports import BlobInfo
from buildyard.store import kept
from buildyard.store.kept import Artifact, Cache
from buildyard.store.transactions import Transaction

PIECE = 256 * 1024
_ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP = b"\x1f\x8b"
_LINK_BYTES = 4096
_MAX_WINDOW = 128 * 1024 * 1024


async def inputs_of_step(tx: Transaction, actor: Actor, uid: str, token: str) -> list[Artifact]:
    """What the steps that a held one depends on kept; of two with one path the later."""
    hold = await open_hold(tx, actor, uid, token)
    return list({one.path: one for one in await kept.inputs_of(tx, hold.job.id)}.values())


async def find_step_cache(tx: Transaction, actor: Actor, uid: str, token: str, path: str) -> Cache | None:
    """What is stored for a cache of a held step; marks it as used."""
    hold = await open_hold(tx, actor, uid, token)
    _check_cache(hold, path)
    cache = await kept.find_cache(
        tx, hold.build.project, scope=hold.job.name, path=path, key="", trusted=is_trusted(hold.build)
    )
    if cache is not None:
        await kept.touch_cache(tx, cache)
    return cache


def _check_cache(hold: Hold, path: str) -> None:
    if path not in plain_caches(hold.spec):
        raise NotFound(f"the step has no cache {path}")


def plain_caches(spec: JobSpec) -> tuple[str, ...]:
    """The caches that a script can serve: those whose entry does not depend on contents of files."""
    return tuple(cache.path for cache in spec.caches if not cache.key_files)


async def read_inputs(engine: Engine, inputs: list[Artifact]) -> AsyncIterator[bytes]:
    """A tar file of them; links that lead out of the workspace are left out."""
    for one in inputs:
        header = tarfile.TarInfo(one.path)
        header.mode = one.mode & 0o777
        if one.link:
            target = b"".join([piece async for piece in engine.blobs.read(one.sha256, 0, _LINK_BYTES)])
            header.type, header.linkname = tarfile.SYMTYPE, target.decode(errors="surrogateescape")
            if _stays_inside(one.path, header.linkname):
                yield header.tobuf(tarfile.PAX_FORMAT)
            continue
        header.size = one.size
        yield header.tobuf(tarfile.PAX_FORMAT)
        async for piece in engine.blobs.read(one.sha256):
            yield piece
        yield b"\0" * (-one.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _stays_inside(path: str, target: str) -> bool:
    segments = [segment for segment in target.split("/") if segment not in ("", ".")]
    inner = [segment for segment in segments if segment != ".."]
    climbs = len(segments) - len(inner)
    return bool(inner) and not target.startswith("/") and climbs <= path.count("/") and segments[climbs:] == inner


async def read_source(engine: Engine, hold: Hold) -> AsyncIterator[bytes]:
    """The uploaded folder as a tar file; NotFound (at once) if the step's source is none."""
    if not hold.facts.source_blob:
        raise NotFound("the step's source is not an uploaded folder")
    await engine.blobs.size(Sha256(hold.facts.source_blob))
    return unpacked(engine.blobs.read(Sha256(hold.facts.source_blob)))


async def store_output(engine: Engine, actor: Actor, uid: str, token: str, data: AsyncIterator[bytes]) -> BlobInfo:
    """Store a file that a held step made; it counts once the report of the step's end names it."""
    await engine.read(open_hold, actor, uid, token)
    return await store_blob(engine, actor, data)


async def store_step_cache(
    engine: Engine, actor: Actor, uid: str, token: str, path: str, data: AsyncIterator[bytes]
) -> BlobInfo:
    """Store a folder, given as a plain tar file; it counts once the report of the step's end names it."""
    _check_cache(await engine.read(open_hold, actor, uid, token), path)
    return await store_blob(engine, actor, compressed(data))


async def compressed(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A stream, zstd-compressed on the way."""
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    async for piece in pieces:
        if data := await asyncio.to_thread(compressor.compress, piece):
            yield data
    yield await asyncio.to_thread(compressor.flush)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Pull(RawIOBase):
    """A file for a thread that reads the pieces of a stream in the event loop."""

    def __init__(self, pieces: AsyncIterator[bytes], first: bytes) -> None:
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()
        self._rest = first

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; empty at the end."""
        if not self._rest:
            self._rest = asyncio.run_coroutine_threadsafe(_next(self._pieces), self._loop).result()
        data = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(data) :]
        return data


class _Inflating:
    """Reads what is gzip-compressed, never more than asked for at once."""

    def __init__(self, source: _Readable) -> None:
        self._source = source
        self._inflate = zlib.decompressobj(wbits=31)

    def read(self, size: int, /) -> bytes:
        while not self._inflate.eof:
            given = self._inflate.unconsumed_tail or self._source.read(PIECE)
            data = self._inflate.decompress(given, size)
            if data or not given:
                return data
        return b""


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    return await anext(pieces, b"")


def _zstd(source: RawIOBase) -> _Readable:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    return decompressor.stream_reader(cast(IO[bytes], source), read_across_frames=True)


_OPENERS: tuple[tuple[bytes, Callable[[RawIOBase], _Readable]], ...] = ((_ZSTD, _zstd), (_GZIP, _Inflating))


async def unpacked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A stream decompressed on the way, if it is compressed (zstd or gzip), in pieces of bounded size."""
    first = await _next(pieces)
    source = _Pull(pieces, first)
    opened = next((opener(source) for magic, opener in _OPENERS if first.startswith(magic)), source)
    try:
        while data := await asyncio.to_thread(opened.read, PIECE):
            yield data
    except (zstandard.ZstdError, zlib.error) as exc:
        raise Invalid(f"what is stored is damaged: {exc}") from exc
