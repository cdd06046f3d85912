"""Files as the stores use them: handles that close themselves, complete reads and writes, durable names."""

import errno
import os
from contextlib import suppress
from pathlib import Path


class Handle:
    """An open file descriptor that closes when nobody refers to it any more.

    So a thread that still reads can never meet a closed, or a reused, descriptor, however soon a cache lets it go.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes `start` ≤ i < `stop`, fewer where the file ends."""
        pieces = []
        while start < stop:
            piece = os.pread(self.fd, stop - start, start)
            if not piece:
                break
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, data: bytes, offset: int) -> None:
        """Write all of `data`, or raise OSError; then some of it may have been written."""
        written = os.pwrite(self.fd, data, offset)
        if written == len(data):
            return
        view = memoryview(data)
        while written < len(data):
            count = os.pwrite(self.fd, view[written:], offset + written)
            if count == 0:
                raise OSError(errno.EIO, "the file takes no more bytes")
            written += count

    @property
    def size(self) -> int:
        """The file's length in bytes now."""
        return os.fstat(self.fd).st_size


def open_handle(path: Path | str, flags: int) -> Handle:
    """Open a file, making its folder first if the file is to be made and the folder is missing."""
    try:
        return Handle(os.open(path, flags | os.O_CLOEXEC, 0o640))
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return Handle(os.open(path, flags | os.O_CLOEXEC, 0o640))


def sync_folder(path: Path | str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def discard(path: Path | str) -> None:
    """Delete an unfinished file, as far as that works, and free its space even if someone still has it open."""
    with suppress(OSError):
        os.truncate(path, 0)
    with suppress(OSError):
        os.unlink(path)
