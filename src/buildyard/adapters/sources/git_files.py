"""Reads the manifests that lie in a git repository at a commit, out of the cache of mirrors that checkouts use."""

import asyncio
from dataclasses import replace
from pathlib import Path

from buildyard.adapters.sources.git import choose_commit
from buildyard.adapters.sources.git_command import Git, Outcome
from buildyard.adapters.sources.git_mirrors import Held, Mirror, Wanted, failure
from buildyard.adapters.sources.git_remote import Route, find_route
from buildyard.domain.errors import Fault, Invalid, NotFound, Unavailable
from buildyard.domain.manifest_files import FILE, FOLDER, MOST_BYTES, MOST_FILES, FoundManifests, ManifestFile, chosen
from buildyard.domain.pushes import LONGEST_MESSAGE
from buildyard.domain.sources import Address, SourcePolicy, check_source, is_exact, read_address
from buildyard.domain.specs import GitSource

LONGEST_AUTHOR = 500


class ManifestReader:
    """Reads manifests; `mirrors` is a folder that no job can see. The same rules hold as for checking out."""

    def __init__(self, mirrors: Path, policy: SourcePolicy, *, program: str = "git", timeout_s: float = 600) -> None:
        self._mirrors = mirrors
        self._policy = policy
        self._program = program
        self._timeout_s = timeout_s

    async def read(self, source: GitSource) -> FoundManifests:
        """What the commit of a source holds. Raises as `SourceFetcher.fetch` does."""
        address = self._checked(source)
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.to_thread(self._mirrors.mkdir, mode=0o700, parents=True, exist_ok=True)
                route = await find_route(address, self._policy)
                return await self._read(source, route)
        except TimeoutError as exc:
            raise Unavailable(f"the repository did not answer within {self._timeout_s:g} s") from exc
        except OSError as exc:
            raise Unavailable(f"the repository could not be read: {exc.strerror}") from exc

    async def _read(self, source: GitSource, route: Route) -> FoundManifests:
        plain = Git(program=self._program, home=self._mirrors, environment=dict(self._policy.environment), say=_nothing)
        git = replace(
            plain,
            settings=route.settings,
            environment={**plain.environment, **route.environment},
            secrets=route.secrets,
        )
        wanted = await choose_commit(git, route, replace(source, shallow=True))
        held = await self._hold(git, route, wanted)
        try:
            return await _found(plain, held.folder, held.commit)
        finally:
            held.release()

    async def _hold(self, git: Git, route: Route, wanted: Wanted) -> Held:
        held = None
        if is_exact(wanted.commit):
            held = await Mirror(self._mirrors, git, route, shallow=True).hold(wanted)
        held = held or await Mirror(self._mirrors, git, route, shallow=False).hold(wanted)
        if held is None:
            raise NotFound(f"{route.address.bare} has no commit {wanted.commit}")
        return held

    def _checked(self, source: GitSource) -> Address:
        allow_local = self._policy.allow_local
        address = read_address(source.url, "source.url", allow_local=allow_local)
        faults = check_source(source, "source", allow_local=allow_local)
        if faults or isinstance(address, Fault):
            words = "; ".join(f"{fault.path}: {fault.message}" for fault in faults)
            raise Invalid(f"the source is not allowed: {words}", tuple(faults))
        return address


async def _found(git: Git, folder: Path, commit: str) -> FoundManifests:
    listed = await _must(git, folder, "ls-tree", "-z", "-l", "--full-tree", commit, FILE, f"{FOLDER}/")
    entries = dict(_entries(listed.output))
    names = chosen(tuple(entries))
    files = [await _file(git, folder, name, *entries[name]) for name in names[:MOST_FILES]]
    told = await _must(git, folder, "log", "-1", "-z", "--format=%H%x00%an <%ae>%x00%B", commit)
    whole, author, message = [*told.output.decode("utf-8", "replace").split("\0"), "", ""][:3]
    return FoundManifests(
        commit=whole.strip(),
        message=message.strip()[:LONGEST_MESSAGE],
        author=author[:LONGEST_AUTHOR],
        files=tuple(files),
        left_out=len(names[MOST_FILES:]),
    )


def _entries(output: bytes) -> list[tuple[str, tuple[str, int]]]:
    """The regular files by path, each with its object and size."""
    found: list[tuple[str, tuple[str, int]]] = []
    for line in output.decode("utf-8", "replace").split("\0"):
        about, _tab, path = line.partition("\t")
        mode, _kind, name, size = [*about.split(), "", "", "", ""][:4]
        if mode in ("100644", "100755") and size.isdecimal():
            found.append((path, (name, int(size))))
    return found


async def _file(git: Git, folder: Path, path: str, name: str, size: int) -> ManifestFile:
    if size > MOST_BYTES:
        return ManifestFile(path=path, text=None)
    shown = await _must(git, folder, "cat-file", "blob", name)
    try:
        return ManifestFile(path=path, text=shown.output.decode("utf-8"))
    except UnicodeDecodeError:
        return ManifestFile(path=path, text=None)


async def _must(git: Git, folder: Path, *arguments: str) -> Outcome:
    outcome = await git.run(*arguments, repository=folder)
    if not outcome.ok:
        raise failure(outcome, f"the repository's copy could not be read (git {arguments[0]})")
    return outcome


def _nothing(_line: str) -> None:
    """Hears nothing."""
