"""Reads the yard file and the files that it names from the disk."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from buildyard.domain.access import SYSTEM
from buildyard.domain.errors import EngineError, NotFound, TooLarge
from buildyard.domain.yard import Yard
from buildyard.engine.documents import MOST_BYTES
from buildyard.engine.engine import Engine
from buildyard.engine.yard_book import YardBook, take_yard
from buildyard.engine.yard_files import read_yard
from buildyard.settings import Settings

SECRET_BYTES = 64 * 1024


def yard_book(settings: Settings) -> YardBook:
    """The book of this server's yard file; one that reads nothing if the settings name none."""
    if not settings.yard.file:
        return YardBook()
    path = Path(settings.yard.file).absolute()
    return YardBook(path=str(path), load=partial(load_yard, path, allow_local=settings.sources.allow_local))


def load_yard(path: Path, *, allow_local: bool) -> Yard:
    """Read a yard file; raises NotFound, TooLarge, or Invalid with every fault."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise NotFound(f"cannot read the yard file {path}: {exc.strerror}") from exc
    if len(text) > MOST_BYTES:
        raise TooLarge(f"{path} is larger than {MOST_BYTES // 1024} KiB")
    return read_yard(text, read_secret=partial(_secret, path.parent), allow_local=allow_local, what=path.name)


def _secret(folder: Path, name: str) -> str:
    """The text of a file, named relative to the yard file's folder."""
    with (folder / name).open("rb") as file:
        data = file.read(SECRET_BYTES + 1)
    if len(data) > SECRET_BYTES:
        raise ValueError(f"it is larger than {SECRET_BYTES // 1024} KiB")
    return data.decode("utf-8")


@contextlib.asynccontextmanager
async def yard_in_force(engine: Engine, settings: Settings, reread: asyncio.Event) -> AsyncIterator[YardBook]:
    """Take the yard file into force, if there is one, and again whenever `reread` is set.

    A file with faults keeps a server from starting; later, one changes nothing and is logged.
    """
    book = yard_book(settings)
    if book.load is not None:
        await take_yard(engine, SYSTEM, book)
    task = asyncio.create_task(_read_again(engine, book, reread))
    try:
        yield book
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _read_again(engine: Engine, book: YardBook, reread: asyncio.Event) -> None:
    while True:
        await reread.wait()
        reread.clear()
        with contextlib.suppress(EngineError):  # logged, and shown by `buildyard yard diff`
            await take_yard(engine, SYSTEM, book)
