"""Unpacks archives that nobody has to trust: tar, plain or compressed with zstd or gzip, as it arrives.

Each entry is written relative to a descriptor of its folder, reached through real folders only, so no link, old or
new, can lead a write out. Entries are refused when their names leave the folder, come twice, or differ only in ways
the file system does not tell apart; when they are devices or pipes; when a link leads out (unless the caller allows
it: a job may make such links anyway, and nothing here follows one). Set-id bits are dropped.
"""

import asyncio
import errno
import gzip
import os
import stat
import tarfile
import zlib
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import zstandard

from buildyard.domain.errors import EngineError, Invalid, LimitReached, TooLarge, Unavailable
from buildyard.worker.collecting import CHUNK, shown
from buildyard.worker.feed import Feed, Stopped

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP = b"\x1f\x8b"
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_MAX_EXTENDED = 64 * 1024
_MAX_GLOBAL_HEADERS = 100
_MAX_WINDOW = 128 * 1024 * 1024
_MAX_DEPTH = 256
_LATEST = 2**33


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackLimits:
    """How much an archive may hold once it is unpacked."""

    size: int = 32 * 1024 * 1024 * 1024
    entries: int = 2_000_000


@dataclass(slots=True)
class Unpacked:
    """What was written: entries of all kinds, and bytes of files."""

    entries: int = 0
    size: int = 0


async def unpack(
    stream: AsyncIterable[bytes],
    folder: Path,
    *,
    limits: UnpackLimits | None = None,
    outside_links: bool = False,
) -> Unpacked:
    """Unpack `stream` into `folder` (made if missing), replacing files that were there, and read it to its end.

    Raises Invalid for an archive that is refused or damaged, TooLarge past a limit, LimitReached when the disk is
    full; what was unpacked by then stays. Cancelling waits for the write under way.
    """
    feed = Feed(asyncio.get_running_loop())
    writer = _Writer(limits or UnpackLimits(), outside_links=outside_links)
    unpacking = asyncio.ensure_future(asyncio.to_thread(_unpack, feed, folder, writer))
    unpacking.add_done_callback(lambda _done: feed.let_go())
    try:
        async for data in stream:
            if unpacking.done() and unpacking.exception() is not None:
                break
            await feed.give(data)
        feed.finish()
        await asyncio.shield(unpacking)
    except BaseException:
        feed.stop()
        await asyncio.wait([unpacking])
        if not unpacking.cancelled():
            unpacking.exception()
        raise
    return writer.done


def _unpack(feed: Feed, folder: Path, writer: "_Writer") -> None:
    """Read the archive and write its entries; runs in a thread."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        headers = _bounded_headers()
        with writer.into(folder), tarfile.open(
            fileobj=_decompressed(feed), mode="r|", bufsize=CHUNK, tarinfo=headers, errorlevel=1
        ) as archive:  # fmt: skip
            while (header := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # public in practice; else it keeps every header
                writer.write(header, archive.extractfile(header) if header.isreg() else None)
            writer.settle_folders()
        if not headers.ended:
            raise Invalid("the archive is cut short")
    except (EngineError, Stopped):
        raise
    except (tarfile.TarError, zstandard.ZstdError, zlib.error, gzip.BadGzipFile, EOFError) as exc:
        raise Invalid(f"the archive is damaged or of a kind that is not known: {exc}") from exc
    except (ValueError, OverflowError, RecursionError) as exc:
        raise Invalid("the archive is damaged: it holds values that cannot be") from exc
    except OSError as exc:
        raise _translated(exc) from exc


def _translated(exc: OSError) -> EngineError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return LimitReached("the disk is full")
    if exc.errno in (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EILSEQ):
        return Invalid(f"the archive cannot be unpacked here: {exc.strerror}")
    return Unavailable(f"the archive could not be written: {exc.strerror}")


def _decompressed(feed: Feed) -> IO[bytes]:
    """The archive's bytes, whatever they are compressed with, told by how they begin."""
    start = b""
    while len(start) < len(_ZSTD) and (data := feed.read(CHUNK)):
        start += data
    feed.put_back(start)
    if start.startswith(_ZSTD):
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
            cast(IO[bytes], feed), read_across_frames=True
        )
        return cast(IO[bytes], reader)
    if start.startswith(_GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=feed))
    return cast(IO[bytes], feed)


class _Headers(tarfile.TarInfo):
    """Entry headers; refuses extended ones (long names, attributes) that would be read into memory beyond a bound."""

    ended = False
    global_headers = 0

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Headers":
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            cls.ended = True
        header = super().frombuf(buf, encoding, errors)
        if header.type == tarfile.XGLTYPE:
            cls.global_headers += 1
        if header.type in _EXTENDED and (header.size > _MAX_EXTENDED or cls.global_headers > _MAX_GLOBAL_HEADERS):
            raise Invalid("the archive has extended headers beyond all measure")
        return header


def _bounded_headers() -> type[_Headers]:
    """A class of headers for one archive, since the class is where tarfile lets them be counted."""
    return type("_HeadersOfOne", (_Headers,), {})


class _Writer:
    """Writes entries below one folder and keeps count."""

    def __init__(self, limits: UnpackLimits, *, outside_links: bool) -> None:
        self.done = Unpacked()
        self._limits = limits
        self._outside_links = outside_links
        self._root = -1
        self._parent: tuple[tuple[str, ...], int] | None = None
        self._files: set[tuple[str, ...]] = set()
        self._links: set[tuple[str, ...]] = set()
        self._made: set[tuple[int, int]] = set()
        self._folders: dict[tuple[str, ...], tuple[int, int]] = {}

    @contextmanager
    def into(self, folder: Path) -> Iterator[None]:
        """Have the folder open."""
        self._root = os.open(folder, _FOLDER_FLAGS & ~os.O_NOFOLLOW)
        try:
            yield
        finally:
            self._forget_parent()
            os.close(self._root)

    def write(self, header: tarfile.TarInfo, data: IO[bytes] | None) -> None:
        """Write one entry."""
        place = _place(header.name)
        self.done.entries += 1
        if self.done.entries > self._limits.entries:
            raise TooLarge(f"the archive has more than {self._limits.entries} entries")
        if header.isdir():
            self._folder(place, header)
            return
        if not place:
            raise Invalid("the archive has an entry without a name")
        if place in self._files or place in self._links:
            raise Invalid(f"the archive has {shown(header.name)} twice")
        if header.issparse():
            raise Invalid(f"{shown(header.name)} is a sparse file; pack it without holes")
        if data is not None:
            self._file(place, header, data)
        elif header.issym():
            self._symbolic_link(place, header)
        elif header.islnk():
            self._hard_link(place, header)
        else:
            raise Invalid(f"{shown(header.name)} is not a file, a folder or a link")

    def _folder(self, place: tuple[str, ...], header: tarfile.TarInfo) -> None:
        if not place:
            return
        self._enter(place)
        self._folders[place] = (header.mode & 0o755 | 0o700, _time(header))

    def _file(self, place: tuple[str, ...], header: tarfile.TarInfo, data: IO[bytes]) -> None:
        if header.size > self._limits.size - self.done.size:
            raise TooLarge(f"the archive holds more than {self._limits.size} bytes")
        parent, name = self._enter(place[:-1]), place[-1]
        self._make_room(parent, name, header)
        with open(os.open(name, _NEW_FLAGS, 0o600, dir_fd=parent), "wb", buffering=0) as file:
            left = header.size
            while left > 0 and (piece := data.read(min(CHUNK, left))):
                _write_all(file.fileno(), piece)
                left -= len(piece)
            if left:
                raise Invalid("the archive is cut short")
            self.done.size += header.size
            os.fchmod(file.fileno(), header.mode & 0o755 | 0o400)
            os.utime(file.fileno(), (_time(header), _time(header)))
            status = os.fstat(file.fileno())
        self._files.add(place)
        self._made.add((status.st_dev, status.st_ino))

    def _symbolic_link(self, place: tuple[str, ...], header: tarfile.TarInfo) -> None:
        if not header.linkname or "\0" in header.linkname:
            raise Invalid(f"{shown(header.name)} is a link to nothing")
        if not self._outside_links and _leads_out(len(place) - 1, header.linkname):
            raise Invalid(f"{shown(header.name)} is a link that leads out of the folder")
        parent, name = self._enter(place[:-1]), place[-1]
        self._make_room(parent, name, header)
        os.symlink(header.linkname, name, dir_fd=parent)
        status = os.lstat(name, dir_fd=parent)
        self._links.add(place)
        self._made.add((status.st_dev, status.st_ino))

    def _hard_link(self, place: tuple[str, ...], header: tarfile.TarInfo) -> None:
        target = _place(header.linkname)
        if target not in self._files:
            raise Invalid(f"{shown(header.name)} is a link to something that the archive did not bring before")
        source = os.dup(self._enter(target[:-1]))
        try:
            parent, name = self._enter(place[:-1]), place[-1]
            self._make_room(parent, name, header)
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)
        self._files.add(place)

    def _make_room(self, parent: int, name: str, header: tarfile.TarInfo) -> None:
        """Remove what was there before the archive came; refuse what the archive itself made under another spelling."""
        try:
            status = os.lstat(name, dir_fd=parent)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            raise Invalid(f"{shown(header.name)} would replace a folder")
        if (status.st_dev, status.st_ino) in self._made:
            raise Invalid(f"{shown(header.name)} is the same file as another of the archive on this file system")
        os.unlink(name, dir_fd=parent)

    def _enter(self, place: tuple[str, ...]) -> int:
        """The descriptor of a folder, made if missing; it stays open until another one is entered."""
        if self._parent is not None and self._parent[0] == place:
            return self._parent[1]
        self._forget_parent()
        current = os.dup(self._root)
        try:
            for name in place:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=current)
                inner = os.open(name, _FOLDER_FLAGS, dir_fd=current)
                os.close(current)
                current = inner
        except OSError as exc:
            os.close(current)
            if exc.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Invalid(f"{shown('/'.join(place))} lies behind a link or a file") from exc
            raise
        self._parent = (place, current)
        return current

    def _forget_parent(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def settle_folders(self) -> None:
        """Give folders their permissions and times, inner ones first, now that nothing more is written into them."""
        for place in sorted(self._folders, reverse=True):
            mode, time = self._folders[place]
            descriptor = self._enter(place)
            os.fchmod(descriptor, mode)
            os.utime(descriptor, (time, time))


def _place(name: str) -> tuple[str, ...]:
    """The segments of an entry's name below the folder; Invalid if it would lie elsewhere."""
    segments = tuple(segment for segment in name.split("/") if segment not in ("", "."))
    if name.startswith("/") or ".." in segments or "\0" in name or len(segments) > _MAX_DEPTH:
        raise Invalid(f"the archive has an entry with a name that is not allowed: {shown(name)}")
    return segments


def _leads_out(depth: int, target: str) -> bool:
    """Whether a link that lies `depth` folders deep leads out. With `..` after a name it does: that may be a link."""
    segments = [segment for segment in target.split("/") if segment not in ("", ".")]
    up = 0
    while up < len(segments) and segments[up] == "..":
        up += 1
    return target.startswith("/") or up > depth or ".." in segments[up:]


def _time(header: tarfile.TarInfo) -> int:
    return max(0, min(int(header.mtime), _LATEST))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
