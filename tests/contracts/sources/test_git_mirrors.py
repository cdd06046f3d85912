"""The mirror cache: many at once, damage, death in the middle, cancelling."""

import asyncio
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from buildyard.adapters.sources.git import GitFetcher
from buildyard.domain.errors import Invalid, Unavailable
from buildyard.domain.sources import SourcePolicy
from buildyard.domain.specs import GitSource
from contracts.sources.serving import Repository, WebServer

LOCAL = SourcePolicy(allow_local=True, environment={"PATH": os.environ.get("PATH", "")})
GENEROUS_S = 60.0

WORKER = """
import asyncio, sys
from pathlib import Path
from buildyard.adapters.sources.git import GitFetcher
from buildyard.domain.sources import SourcePolicy
from buildyard.domain.specs import GitSource

mirrors, url, folder, count = sys.argv[1:]

def print_line(line):
    print(line, flush=True)

async def main():
    fetcher = GitFetcher(Path(mirrors), SourcePolicy(allow_local=True))
    async with asyncio.TaskGroup() as group:
        for number in range(int(count)):
            group.create_task(fetcher.fetch(GitSource(url=url), Path(folder) / str(number), print_line))

asyncio.run(main())
"""


@pytest.fixture
def mirrors(tmp_path: Path) -> Path:
    return tmp_path / "mirrors"


@pytest.fixture
def fetcher(mirrors: Path) -> GitFetcher:
    return GitFetcher(mirrors, LOCAL)


def silent(_line: str) -> None:
    pass


def processes_of(mirrors: Path) -> list[int]:
    """The processes that fetching into these mirrors has started and that still run."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if f"HOME={mirrors}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def held_locks(mirrors: Path) -> list[str]:
    """The lock files that somebody holds."""
    held = []
    for path in [*mirrors.glob("*.lock"), *mirrors.glob("*.turn")]:
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(path.name)
    return held


async def worker(mirrors: Path, url: str, folder: Path, count: int) -> asyncio.subprocess.Process:
    """Another worker that fetches `count` times at once."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, str(mirrors), url, str(folder), str(count),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_many_fetches_of_one_repository_at_once_share_one_transfer(
    fetcher: GitFetcher, mirrors: Path, hello: Repository, web: WebServer, tmp_path: Path
) -> None:
    sources = [GitSource(url=web.url(hello)), GitSource(url=web.url(hello), branch="main")]

    found = await asyncio.gather(
        *(fetcher.fetch(sources[number % 2], tmp_path / f"w{number}", silent) for number in range(20))
    )

    assert {revision.commit for revision in found} == {hello.git("rev-parse", "main")}
    assert len(web.fetches) == 20 + 1
    assert all((tmp_path / f"w{number}" / "three").exists() for number in range(20))
    assert held_locks(mirrors) == []


@pytest.mark.covers("workspace.checkout")
async def test_several_workers_share_the_mirrors(mirrors: Path, hello: Repository, tmp_path: Path) -> None:
    workers = [await worker(mirrors, hello.url, tmp_path / f"worker{number}", 5) for number in range(3)]

    ended = await asyncio.gather(*(each.communicate() for each in workers))

    assert [each.returncode for each in workers] == [0, 0, 0], ended
    assert all((tmp_path / f"worker{n // 5}" / str(n % 5) / "three").exists() for n in range(15))


def kept(mirrors: Path) -> list[Path]:
    """The mirrors themselves."""
    return [path for path in mirrors.iterdir() if path.is_dir()]


def empty_packs(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(b"")


def garbled_packs(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:60] + bytes(len(pack.read_bytes()) - 60))


def no_objects(mirror: Path) -> None:
    shutil.rmtree(mirror / "objects")


def no_head(mirror: Path) -> None:
    (mirror / "HEAD").unlink()


def bad_head(mirror: Path) -> None:
    (mirror / "HEAD").write_text("rubbish")


def bad_config(mirror: Path) -> None:
    (mirror / "config").write_text("[rubbish")


def only_a_file(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.mkdir()
    (mirror / "HEAD").write_text("")


@pytest.mark.parametrize("shallow", [True, False])
@pytest.mark.parametrize("damage", [empty_packs, garbled_packs, no_objects, no_head, bad_head, bad_config, only_a_file])
async def test_a_damaged_mirror_is_made_anew(
    fetcher: GitFetcher,
    mirrors: Path,
    hello: Repository,
    tmp_path: Path,
    damage: Callable[[Path], None],
    shallow: bool,
) -> None:
    source = GitSource(url=hello.url, shallow=shallow)
    await fetcher.fetch(source, tmp_path / "before", silent)
    for mirror in kept(mirrors):
        damage(mirror)
    commit = hello.commit("five") if damage in (bad_config, bad_head) else hello.git("rev-parse", "main")

    found = await fetcher.fetch(source, tmp_path / "after", silent)

    assert found.commit == commit
    assert (tmp_path / "after" / "three").read_text() == "x"


async def test_locks_and_halves_left_by_a_killed_git_are_cleared(
    fetcher: GitFetcher, mirrors: Path, hello: Repository, tmp_path: Path
) -> None:
    await fetcher.fetch(GitSource(url=hello.url), tmp_path / "before", silent)
    mirror = kept(mirrors)[0]
    for name in ("shallow.lock", "packed-refs.lock", "config.lock", "HEAD.lock", "objects/pack/tmp_pack_abc"):
        (mirror / name).write_text("")
    commit = hello.commit("five")

    found = await fetcher.fetch(GitSource(url=hello.url), tmp_path / "after", silent)

    assert found.commit == commit
    assert not (mirror / "objects/pack/tmp_pack_abc").exists()


async def test_a_server_out_of_order_does_not_cost_the_mirror(
    fetcher: GitFetcher, hello: Repository, web: WebServer, tmp_path: Path
) -> None:
    url = web.url(hello)
    first = await fetcher.fetch(GitSource(url=url), tmp_path / "a", silent)
    web.redirect_to = "http://127.0.0.1:1"

    with pytest.raises(Invalid):
        await fetcher.fetch(GitSource(url=url, commit="0" * 40), tmp_path / "no", silent)
    again = await fetcher.fetch(GitSource(url=url, commit=first.commit), tmp_path / "b", silent)

    assert again.commit == first.commit


async def test_a_cancelled_fetch_leaves_no_process_and_no_lock(
    fetcher: GitFetcher, mirrors: Path, hello: Repository, web: WebServer, tmp_path: Path
) -> None:
    source = GitSource(url=web.url(hello), commit=hello.git("rev-parse", "main"))
    web.hold = True
    fetching = asyncio.create_task(fetcher.fetch(source, tmp_path / "a", silent))
    await web.until_reached()
    waiting = asyncio.create_task(fetcher.fetch(source, tmp_path / "b", silent))
    assert processes_of(mirrors)
    assert held_locks(mirrors)

    for task in (waiting, fetching):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, GENEROUS_S)

    assert processes_of(mirrors) == []
    assert held_locks(mirrors) == []
    web.hold = False
    assert (await fetcher.fetch(source, tmp_path / "c", silent)).commit == source.commit


async def test_a_fetch_that_takes_too_long_is_ended(
    mirrors: Path, hello: Repository, web: WebServer, tmp_path: Path
) -> None:
    web.hold = True

    with pytest.raises(Unavailable, match="longer than"):
        await GitFetcher(mirrors, LOCAL, timeout_s=0.5).fetch(GitSource(url=web.url(hello)), tmp_path / "a", silent)

    assert processes_of(mirrors) == []


async def test_after_a_worker_was_killed_in_the_middle_the_next_fetch_works(
    fetcher: GitFetcher, mirrors: Path, hello: Repository, web: WebServer, tmp_path: Path
) -> None:
    web.hold = True
    killed = await worker(mirrors, web.url(hello), tmp_path / "killed", 1)
    await web.until_reached()
    killed.send_signal(signal.SIGKILL)
    await killed.wait()
    web.hold = False

    retried = asyncio.create_task(fetcher.fetch(GitSource(url=web.url(hello)), tmp_path / "again", silent))
    web.go.set()

    assert (await asyncio.wait_for(retried, GENEROUS_S)).subject == "Write three"


async def test_killing_workers_at_any_moment_never_spoils_the_mirror(
    fetcher: GitFetcher, mirrors: Path, hello: Repository, tmp_path: Path
) -> None:
    for number in range(8):
        killed = await worker(mirrors, hello.url, tmp_path / f"killed{number}", 2)
        assert killed.stdout is not None
        for _line in range(number + 1):
            await killed.stdout.readline()
        with suppress(ProcessLookupError):
            killed.kill()
        await killed.communicate()
        commit = hello.commit(f"more{number}")

        found = await fetcher.fetch(GitSource(url=hello.url), tmp_path / f"work{number}", silent)

        assert found.commit == commit
        assert Repository(tmp_path / f"work{number}").git("fsck") == ""


async def test_old_single_commits_are_let_go(
    fetcher: GitFetcher, mirrors: Path, hello: Repository, tmp_path: Path
) -> None:
    tips = [hello.git("commit-tree", "-m", f"n{number}", "main^{tree}") for number in range(70)]
    await fetcher.fetch(GitSource(url=hello.url), tmp_path / "first", silent)
    mirror = kept(mirrors)[0]
    bare = Repository(mirror)
    for tip in tips:
        bare.git("fetch", "-q", "--depth=1", str(hello.folder), f"{tip}:refs/buildyard/{tip}")
    hello.commit("new")

    await fetcher.fetch(GitSource(url=hello.url), tmp_path / "second", silent)

    assert len(bare.git("for-each-ref", "refs/buildyard").splitlines()) == 64
