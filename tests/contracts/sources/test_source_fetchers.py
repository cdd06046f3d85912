"""What every fetcher of sources does, whatever the kind of source."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildyard.adapters.sources.folder import AnyFetcher, FolderFetcher
from buildyard.adapters.sources.git import GitFetcher
from buildyard.domain.errors import Invalid, NotFound, Unavailable
from buildyard.domain.sources import SourcePolicy
from buildyard.domain.specs import FolderSource, GitSource, Source
from buildyard.ports import SourceFetcher
from buildyard.worker.archives import pack
from buildyard.worker.unpacking import unpack
from contracts.sources.serving import Repository


def silent(_line: str) -> None:
    pass


class Blobs:
    """Blobs by the digest that they are asked for."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def read(self, sha256: str) -> AsyncIterator[bytes]:
        if sha256 not in self.kept:
            raise NotFound("no such blob")
        data = self.kept[sha256]
        for start in range(0, len(data), 100):
            yield data[start : start + 100]


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


@pytest.fixture
def fetcher(tmp_path: Path, blobs: Blobs) -> SourceFetcher:
    git = GitFetcher(tmp_path / "mirrors", SourcePolicy(allow_local=True))
    return AnyFetcher(git, FolderFetcher(blobs.read, unpack))


async def uploaded(folder: Path, blobs: Blobs) -> FolderSource:
    data = b"".join([piece async for piece in pack(folder, ["*"])])
    digest = hashlib.sha256(data).hexdigest()
    blobs.kept[digest] = data
    return FolderSource(sha256=digest, size=len(data))


@pytest.fixture(params=["git", "folder"])
async def source(request: pytest.FixtureRequest, hello: Repository, blobs: Blobs) -> Source:
    return GitSource(url=hello.url) if request.param == "git" else await uploaded(hello.folder, blobs)


@pytest.mark.covers("workspace.folder", "workspace.checkout")
async def test_the_files_lie_in_the_folder_which_is_made(
    fetcher: SourceFetcher, source: Source, tmp_path: Path
) -> None:
    said: list[str] = []

    await fetcher.fetch(source, tmp_path / "deep" / "work", said.append)

    assert (tmp_path / "deep" / "work" / "three").read_text() == "x"
    assert said


async def test_a_source_can_be_fetched_again_elsewhere(fetcher: SourceFetcher, source: Source, tmp_path: Path) -> None:
    for name in ("a", "b"):
        await fetcher.fetch(source, tmp_path / name, silent)

    assert (tmp_path / "b" / "one").exists()


@pytest.mark.parametrize("missing", [GitSource(url="file:///nowhere/at/all"), FolderSource(sha256="0" * 64, size=1)])
async def test_a_source_that_does_not_exist_is_not_found(
    fetcher: SourceFetcher, hello: Repository, missing: Source, tmp_path: Path
) -> None:
    with pytest.raises(NotFound):
        await fetcher.fetch(missing, tmp_path / "work", silent)


async def test_a_damaged_upload_is_not_taken(
    fetcher: SourceFetcher, hello: Repository, blobs: Blobs, tmp_path: Path
) -> None:
    source = await uploaded(hello.folder, blobs)
    (hello.folder / "other").write_text("other")
    other = await uploaded(hello.folder, blobs)
    blobs.kept[source.sha256] = blobs.kept[other.sha256]

    with pytest.raises(Unavailable, match="damaged"):
        await fetcher.fetch(source, tmp_path / "work", silent)


async def test_a_fetcher_refuses_the_other_kind(tmp_path: Path, blobs: Blobs) -> None:
    with pytest.raises(Invalid):
        await FolderFetcher(blobs.read, unpack).fetch(GitSource(url="x"), tmp_path, silent)
    with pytest.raises(Invalid):
        await GitFetcher(tmp_path, SourcePolicy()).fetch(FolderSource(sha256="", size=0), tmp_path, silent)
