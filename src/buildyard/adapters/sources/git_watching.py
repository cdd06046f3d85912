"""Looks at git repositories without checking anything out: where their branches and tags stand, what is new in them.

The same rules hold as for checking out: allowed schemes, no private addresses unless set, the checked address is the
one that is connected to, no redirects.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from buildyard.adapters.sources.git import remote_refs
from buildyard.adapters.sources.git_command import Git
from buildyard.adapters.sources.git_mirrors import failure
from buildyard.adapters.sources.git_remote import Route, find_route
from buildyard.domain.errors import Fault, Invalid, TooLarge, Unavailable
from buildyard.domain.ids import SECOND, Moment
from buildyard.domain.pushes import LONGEST_MESSAGE, MOST_COMMITS, Commit, Commits
from buildyard.domain.sources import SourcePolicy, read_address

MOST_REFS = 20_000
LONGEST_LINE = 500


class GitWatcher:
    """Looks at repositories; `folder` is made where it needs one, and holds nothing for longer than a look."""

    def __init__(self, folder: Path, policy: SourcePolicy, *, program: str = "git", timeout_s: float = 60) -> None:
        self._folder = folder
        self._policy = policy
        self._program = program
        self._timeout_s = timeout_s

    async def heads(self, url: str) -> dict[str, str]:
        """The commits of all branches and tags by their full names. Raises as `SourceFetcher.fetch` does."""
        async with self._limited(), self._work(url) as (git, route, _folder):
            found, _head = await remote_refs(git, route, "refs/heads/*", "refs/tags/*")
        if len(found) > 2 * MOST_REFS:
            raise TooLarge(f"{route.address.bare} has more than {MOST_REFS} branches and tags")
        peeled = {name.removesuffix("^{}"): commit for name, commit in found.items() if name.endswith("^{}")}
        return {name: peeled.get(name, commit) for name, commit in found.items() if not name.endswith("^{}")}

    async def news(self, url: str, ref: str, before: str, after: str) -> Commits:
        """The commits by which a branch or tag moved on, the oldest first, as far as a short history tells."""
        async with self._limited(), self._work(url) as (git, route, folder):
            made = await git.run("init", "--quiet", "--bare", "--template=", _format(after), str(folder))
            if not made.ok:
                raise failure(made, "could not make a folder to look into a repository")
            fetched = await git.run(
                "fetch", "--quiet", f"--depth={MOST_COMMITS + 1}", "--filter=blob:none", "--no-tags",
                "--no-write-fetch-head", *route.options, route.url, f"+{ref}:refs/buildyard/tip",
                repository=folder, protocols=route.protocol,
            )  # fmt: skip
            if not fetched.ok:
                raise failure(fetched, f"could not read {route.address.bare}")
            return await _between(git, folder, before, after)

    @asynccontextmanager
    async def _limited(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as exc:
            raise Unavailable(f"the repository did not answer within {self._timeout_s:g} s") from exc
        except OSError as exc:
            raise Unavailable(f"the repository could not be looked at: {exc.strerror}") from exc

    @asynccontextmanager
    async def _work(self, url: str) -> AsyncIterator[tuple[Git, Route, Path]]:
        """A way to the repository and an empty folder, removed at the end."""
        address = read_address(url, "source.url", allow_local=self._policy.allow_local)
        if isinstance(address, Fault):
            raise Invalid(f"the source is not allowed: {address.path}: {address.message}", (address,))
        route = await find_route(address, self._policy)
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._folder))
        git = Git(program=self._program, home=folder, environment=dict(self._policy.environment), say=_nothing)
        try:
            yield _routed(git, route), route, folder / "repository"
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


def _nothing(_line: str) -> None:
    """Hears nothing."""


def _routed(git: Git, route: Route) -> Git:
    environment: Mapping[str, str] = {**git.environment, **route.environment}
    return replace(git, settings=route.settings, environment=environment, secrets=route.secrets)


def _format(commit: str) -> str:
    return f"--object-format={'sha256' if len(commit) == 64 else 'sha1'}"


async def _between(git: Git, folder: Path, before: str, after: str) -> Commits:
    """What is new between two commits; only the second, if the first is not in sight."""

    async def has(commit: str) -> bool:
        return (await git.run("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", repository=folder)).ok

    if not await has(after):
        return Commits()
    known = bool(before) and await has(before)
    what = (f"--max-count={MOST_COMMITS + 1}", f"{before}..{after}") if known else ("--max-count=1", after)
    told = await git.run(
        "log", "-z", "--topo-order", "--format=%H%x00%an <%ae>%x00%cn <%ce>%x00%ct%x00%B", *what, repository=folder
    )
    named = await git.run(
        "log", "-z", "--topo-order", "--no-renames", "--diff-merges=first-parent", "--name-only",
        "--format=%x00%x00%H", *what, repository=folder,
    )  # fmt: skip
    if not (told.ok and named.ok):
        raise failure(named if told.ok else told, "could not read the history of a repository")
    files = _files(named.output) if known else {}
    found = _commits(told.output, files)
    return Commits(commits=tuple(reversed(found[:MOST_COMMITS])), whole=known and len(found) <= MOST_COMMITS)


def _commits(output: bytes, files: Mapping[str, tuple[str, ...]]) -> list[Commit]:
    """Records of five fields; no field holds the character that ends it."""
    fields = output.decode("utf-8", "replace").split("\0")
    return [
        Commit(
            id=key,
            message=message.strip()[:LONGEST_MESSAGE],
            author=author[:LONGEST_LINE],
            committer=committer[:LONGEST_LINE],
            committed_at=Moment(int(stamp) * SECOND) if stamp.isdecimal() and len(stamp) < 12 else None,
            files=files.get(key),
        )
        for key, author, committer, stamp, message in zip(*[iter(fields)] * 5, strict=False)
    ]


def _files(output: bytes) -> dict[str, tuple[str, ...]]:
    """The files by commit. Two empty fields come before each commit's name, and no path is empty."""
    found: dict[str, list[str]] = {}
    fields = output.decode("utf-8", "replace").split("\0")
    current: list[str] = []
    for at, text in enumerate(fields):
        if at >= 2 and fields[at - 1] == fields[at - 2] == "" and text:
            current = found.setdefault(text, [])
        elif text.strip("\n"):
            current.append(text.removeprefix("\n"))
    return {key: tuple(paths) for key, paths in found.items()}
