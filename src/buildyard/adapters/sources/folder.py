"""Lays uploaded folders into workspaces, and sends each kind of source to its fetcher."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from buildyard.domain.errors import Invalid, Unavailable
from buildyard.domain.specs import GitSource, Source
from buildyard.ports import FetchedRevision, SourceFetcher

Download = Callable[[str], AsyncIterator[bytes]]
"""Reads the blob with a SHA-256 digest."""

Unpack = Callable[[AsyncIterator[bytes], Path], Awaitable[object]]
"""Unpacks an archive into a folder, hardened; the worker's `unpack`."""


class FolderFetcher:
    """Fetches `FolderSource`s: downloads the archive and unpacks it while it comes in."""

    def __init__(self, download: Download, unpack: Unpack) -> None:
        self._download = download
        self._unpack = unpack

    async def fetch(
        self,
        source: Source,
        folder: Path,
        say: Callable[[str], None],
        *,
        ssh_keys: Sequence[bytes] = (),  # noqa: ARG002 - nothing is signed in to
    ) -> FetchedRevision:
        """See `SourceFetcher.fetch`; bytes that are not those of the digest raise Unavailable."""
        if isinstance(source, GitSource):
            raise Invalid("this source is not an uploaded folder")
        say(f"unpacking the uploaded folder ({source.size} bytes)")
        digest = hashlib.sha256()
        await self._unpack(_digested(self._download(source.sha256), digest.update), folder)
        if digest.hexdigest() != source.sha256:
            raise Unavailable("the uploaded folder arrived damaged")
        return FetchedRevision()


class AnyFetcher:
    """Fetches every kind of source by the fetcher made for it."""

    def __init__(self, git: SourceFetcher, folder: SourceFetcher) -> None:
        self._git = git
        self._folder = folder

    async def fetch(
        self, source: Source, folder: Path, say: Callable[[str], None], *, ssh_keys: Sequence[bytes] = ()
    ) -> FetchedRevision:
        """See `SourceFetcher.fetch`."""
        fetcher = self._git if isinstance(source, GitSource) else self._folder
        return await fetcher.fetch(source, folder, say, ssh_keys=ssh_keys)


async def _digested(data: AsyncIterator[bytes], update: Callable[[bytes], None]) -> AsyncIterator[bytes]:
    async for chunk in data:
        update(chunk)
        yield chunk
