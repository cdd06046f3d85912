"""Archives and collected files: what is packed comes out the same, and nothing hostile gets out of the folder."""

import asyncio
import gzip
import io
import os
import socket
import stat
import subprocess
import tarfile
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildyard.domain.errors import Invalid, NotFound, TooLarge
from buildyard.worker.archives import pack, pack_files
from buildyard.worker.checkouts import list_checkout
from buildyard.worker.collecting import collect, read_file
from buildyard.worker.unpacking import UnpackLimits, unpack
from needs import need_program


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[start : start + size]


async def packed(folder: Path, *patterns: str, note: Callable[[str], None] = print) -> bytes:
    return b"".join([data async for data in pack(folder, patterns, note=note)])


def run(program: str, *arguments: str) -> bytes:
    return subprocess.run([need_program(program), *arguments], capture_output=True, check=True).stdout


def tree(folder: Path) -> dict[str, tuple[str, object]]:
    """What lies in a folder: kind and contents by path."""
    found: dict[str, tuple[str, object]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("folder", "")
        else:
            found[name] = (f"file {path.stat().st_mode & 0o777:o}", path.read_bytes())
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "dist" / "empty").mkdir(parents=True)
    (folder / "dist" / "a.txt").write_text("hello")
    (folder / "dist" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "dist" / "run.sh").chmod(0o755)
    (folder / "dist" / "link").symlink_to("a.txt")
    (folder / "dist" / "up").symlink_to("../other/b")
    (folder / "other").mkdir()
    (folder / "other" / "b").write_bytes(bytes(range(256)) * 5000)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("secret")
    os.utime(folder / "dist" / "a.txt", (1_000_000_000, 1_000_000_000))
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "inner" / "target").mkdir(parents=True)
    return tmp_path / "inner" / "target"


async def test_what_is_packed_comes_out_the_same(source: Path, target: Path) -> None:
    done = await unpack(pieces(await packed(source, "**")), target)

    expected = {name: kind for name, kind in tree(source).items() if not name.startswith(".git")}
    assert tree(target) == expected
    assert int((target / "dist" / "a.txt").stat().st_mtime) == 1_000_000_000
    assert done.size == 1_280_000 + 5 + 10


async def test_packing_the_same_files_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    run("cp", "-a", str(source), str(copy))

    assert await packed(source, "dist", "other") == await packed(copy, "other", "dist")


async def test_only_what_the_patterns_take_is_packed(source: Path, target: Path) -> None:
    await unpack(pieces(await packed(source, "dist/*.sh", "dist/empty")), target)

    assert set(tree(target)) == {"dist", "dist/run.sh", "dist/empty"}


async def test_what_cannot_be_packed_and_what_is_missing_is_said(source: Path) -> None:
    os.mkfifo(source / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(source / "sock"))
    notes: list[str] = []

    await packed(source, "*", "no/such/*.thing", note=notes.append)
    listener.close()

    assert sorted(note.split(" ")[0] for note in notes) == ["nothing", "pipe", "sock"]
    assert any("no/such/*.thing" in note for note in notes)


async def test_names_that_are_not_unicode_survive(source: Path, target: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 \n'\"")
    (source / odd).write_text("x")

    await unpack(pieces(await packed(source, "*")), target)

    assert (target / odd).read_text() == "x"


NAME = st.text(alphabet="abcé .-", min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))


@given(st.dictionaries(st.tuples(NAME, NAME), st.tuples(st.binary(max_size=3000), st.booleans()), max_size=8))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_files_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, files: dict[tuple[str, str], tuple[bytes, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    for (outer, inner), (data, executable) in files.items():
        path = folder / "source" / outer / inner
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if executable else 0o644)
    (folder / "source").mkdir(exist_ok=True)

    async def there_and_back() -> None:
        await unpack(pack(folder / "source", ["**"]), folder / "target")

    asyncio.run(there_and_back())
    assert tree(folder / "target") == tree(folder / "source")


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for header, data in entries:
            file.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def entry(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, to: str = "", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(name)
    header.size, header.type, header.linkname, header.mode = len(data), kind, to, mode
    return header, data


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress, zstandard.compress])
async def test_the_kind_of_compression_is_found_out(compress: Callable[[bytes], bytes], target: Path) -> None:
    data = compress(archive(entry("a/b", b"x" * 100_000), entry("c", b"y")))

    await unpack(pieces(data, 1), target) if len(data) < 5000 else await unpack(pieces(data), target)

    assert (target / "a" / "b").stat().st_size == 100_000
    assert (target / "c").read_bytes() == b"y"


async def test_archives_of_the_tar_program_are_taken(source: Path, target: Path) -> None:
    made = run("tar", "cz", "-C", str(source), ".")

    await unpack(pieces(made), target)

    assert tree(target) == tree(source)


LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
HOSTILE: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "dotdot": [entry("../evil", b"x")],
    "dotdot inside": [entry("a/../../evil", b"x")],
    "absolute": [entry("/tmp/evil", b"x")],
    "absolute folder": [entry("/evil", kind=tarfile.DIRTYPE)],
    "absolute link": [entry("a", kind=LINK, to="/etc/passwd")],
    "link up": [entry("a", kind=LINK, to="../evil")],
    "link up from below": [entry("d/a", kind=LINK, to="../../evil")],
    "link through links": [entry("s", kind=LINK, to="."), entry("e", kind=LINK, to="s/s/../../evil")],
    "write through a link": [entry("a", kind=LINK, to="."), entry("a/b", b"x")],
    "write through an outer link": [entry("a", kind=LINK, to="../.."), entry("a/evil", b"x")],
    "folder over a link": [entry("a", kind=LINK, to="."), entry("a", kind=tarfile.DIRTYPE)],
    "hard link out": [entry("a", kind=HARD, to="../evil")],
    "hard link to nothing": [entry("a", kind=HARD, to="b")],
    "hard link to a link": [entry("b", kind=LINK, to="c"), entry("a", kind=HARD, to="b")],
    "link to nothing": [entry("a", kind=LINK, to="")],
    "device": [entry("a", kind=tarfile.CHRTYPE)],
    "block device": [entry("a", kind=tarfile.BLKTYPE)],
    "pipe": [entry("a", kind=tarfile.FIFOTYPE)],
    "twice": [entry("a", b"1"), entry("a", b"2")],
    "twice by another spelling": [entry("a", b"1"), entry("./a", b"2")],
    "link then file": [entry("a", kind=LINK, to="b"), entry("a", b"x")],
    "file over a folder": [entry("a/b", b"1"), entry("a", b"2")],
    "folder below a file": [entry("a", b"1"), entry("a/b", b"2")],
    "no name": [entry("./", b"x")],
    "long name": [entry("a" * 300, b"x")],
    "deep": [entry("a/" * 500 + "b", b"x")],
}


@pytest.mark.parametrize("name", list(HOSTILE))
async def test_hostile_archives_are_refused_and_write_nothing_outside(name: str, target: Path) -> None:
    around = target.parent.parent
    before = {path for path in tree(around) if not path.startswith("inner/target")}

    with pytest.raises(Invalid):
        await unpack(pieces(archive(*HOSTILE[name])), target)

    assert {path for path in tree(around) if not path.startswith("inner/target")} == before


async def test_links_of_the_workspace_do_not_lead_an_archive_out(target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    (target / "out").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")

    with pytest.raises(Invalid):
        await unpack(pieces(archive(entry("out/evil", b"x"))), target)
    await unpack(pieces(archive(entry("file", b"new"))), target)

    assert tree(outside) == {"file": ("file 644", b"mine")}
    assert (target / "file").read_bytes() == b"new"


async def test_outside_links_are_kept_as_links_where_the_caller_allows_them(target: Path) -> None:
    data = archive(entry("venv/bin/python", kind=LINK, to="/usr/bin/python3"))

    await unpack(pieces(data), target, outside_links=True)

    assert os.readlink(target / "venv/bin/python") == "/usr/bin/python3"
    with pytest.raises(Invalid):
        await unpack(pieces(archive(entry("a", kind=LINK, to="/tmp"), entry("a/b", b"x"))), target, outside_links=True)


async def test_set_id_bits_and_write_access_for_others_are_dropped(target: Path) -> None:
    data = archive(entry("a", b"x", mode=0o6777), entry("d", kind=tarfile.DIRTYPE, mode=0o1000), entry("d/e", b"y"))

    await unpack(pieces(data), target)

    assert stat.S_IMODE((target / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o700


async def test_hard_links_inside_the_archive_work(target: Path) -> None:
    await unpack(pieces(archive(entry("d/a", b"x"), entry("b", kind=HARD, to="d/a"))), target)

    assert (target / "b").stat().st_ino == (target / "d" / "a").stat().st_ino


async def test_an_archive_that_grows_too_large_is_stopped(target: Path) -> None:
    bomb = zstandard.compress(archive(entry("zeros", bytes(50_000_000))))

    with pytest.raises(TooLarge, match="1000000"):
        await unpack(pieces(bomb), target, limits=UnpackLimits(size=1_000_000))
    with pytest.raises(TooLarge, match="2 entries"):
        await unpack(pieces(archive(*(entry(f"n{i}") for i in range(3)))), target, limits=UnpackLimits(entries=2))


async def test_absurd_headers_are_refused_before_they_fill_memory(target: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 8 * 1024**3
    flood = header.tobuf(tarfile.GNU_FORMAT) + b"1" * 1_000_000

    with pytest.raises(Invalid, match="extended"):
        await unpack(pieces(flood), target)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x28\xb5\x2f\xfd rubbish", b"\x1f\x8b rubbish", os.urandom(3000)])
async def test_what_is_no_archive_is_refused(data: bytes, target: Path) -> None:
    with pytest.raises(Invalid):
        await unpack(pieces(data), target)


@pytest.mark.parametrize("part", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress, zstandard.compress])
async def test_an_archive_that_is_cut_short_is_refused(
    compress: Callable[[bytes], bytes], part: float, target: Path
) -> None:
    data = compress(archive(*(entry(f"f{i}", os.urandom(2000)) for i in range(50)))[: -8 * 1024])

    with pytest.raises(Invalid):
        await unpack(pieces(data[: int(len(data) * part)]), target)


async def test_a_failing_download_ends_the_unpacking(target: Path) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield archive(entry("a", b"x" * 100_000))[:5000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await unpack(failing(), target)


async def test_unpacking_can_be_cancelled_while_it_waits_for_bytes(target: Path) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield archive(entry("a", b"x" * 100_000))[:5000]
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(unpack(endless(), target))
    await started.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)


async def test_packing_can_be_abandoned_half_way(source: Path) -> None:
    (source / "big").write_bytes(os.urandom(3_000_000))
    stream = pack(source, ["big"])

    assert await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_large_file_passes_without_being_held_in_memory(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "large"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(60_000_000))

    tracemalloc.start()
    await unpack(pack(source, ["file"]), target)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (target / "file").stat().st_size == 60_000_000
    assert peak < 20_000_000


async def test_outputs_are_collected_with_their_sizes_and_what_is_missing_is_named(source: Path) -> None:
    found = await collect(source, ["dist/", "*.whl", "other/b"])

    assert [(file.path, file.size, file.mode & 0o111 != 0) for file in found.files] == [
        ("dist/a.txt", 5, False),
        ("dist/link", 5, False),
        ("dist/run.sh", 10, True),
        ("dist/up", 1_280_000, False),
        ("other/b", 1_280_000, False),
    ]
    assert found.missing == ("*.whl",)
    assert {file.path: file.stored_at for file in found.files}["dist/up"] == "other/b"


async def test_links_out_of_the_workspace_are_not_collected(source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (source / "dist" / "bad").symlink_to(tmp_path / "secret")
    (source / "dist" / "worse").symlink_to("../..")
    (source / "dist" / "loop").symlink_to("loop")
    (source / "way").symlink_to(tmp_path)
    os.mkfifo(source / "dist" / "pipe")

    found = await collect(source, ["dist", "way/secret"])

    assert not [file for file in found.files if "bad" in file.path or "secret" in file.path or "worse" in file.path]
    assert [text.split(":")[0] for text in found.skipped] == ["dist/bad", "dist/loop", "dist/pipe", "dist/worse"]
    assert found.missing == ("way/secret",)


async def test_files_are_read_only_through_real_folders(source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (source / "way").symlink_to(tmp_path)
    os.mkfifo(source / "pipe")

    assert b"".join([data async for data in read_file(source, "other/b", 1_279_999)]) == b"\xff"
    for path in ("way/secret", "dist/link", "../secret", "pipe", "dist", "nothing", ""):
        with pytest.raises(NotFound):
            _ = [data async for data in read_file(source, path)]


def git(folder: Path, *arguments: str) -> None:
    settings = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always")
    subprocess.run([need_program("git"), *settings, *arguments], cwd=folder, check=True, capture_output=True)


async def test_a_checkout_is_listed_with_its_uncommitted_changes_and_submodules(tmp_path: Path, target: Path) -> None:
    inner, outer = tmp_path / "inner-repo", tmp_path / "outer"
    for folder in (inner, outer):
        folder.mkdir()
        git(folder, "init", "-q")
    (inner / "lib.c").write_text("lib")
    git(inner, "add", ".")
    git(inner, "commit", "-qm", "x")
    for name in ("kept", "changed", "deleted", "new", "junk.o"):
        (outer / name).write_text(name)
    (outer / ".gitignore").write_text("*.o\n")
    (outer / "link").symlink_to("kept")
    git(outer, "submodule", "add", "-q", str(inner), "vendor/lib")
    git(outer, "add", "kept", "changed", "deleted", "link", ".gitignore")
    git(outer, "commit", "-qm", "x")
    (outer / "changed").write_text("other")
    (outer / "deleted").unlink()

    names = await list_checkout(outer)
    await unpack(pack_files(outer, names), target)

    assert names == [".gitignore", ".gitmodules", "changed", "kept", "link", "new", "vendor/lib/lib.c"]
    assert (target / "changed").read_text() == "other"


async def test_a_plain_folder_is_listed_whole(source: Path) -> None:
    assert await list_checkout(source) == ["dist/a.txt", "dist/link", "dist/run.sh", "dist/up", "other/b"]


async def test_a_file_that_vanishes_before_packing_is_said(source: Path) -> None:
    notes: list[str] = []
    _ = [data async for data in pack_files(source, ["other/b", "gone"], note=notes.append)]

    assert notes == ["gone is gone"]
