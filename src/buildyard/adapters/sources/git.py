"""Checks git repositories out into workspaces: policy, mirror, workspace, submodules.

Nothing of a repository decides what the worker runs: no hooks, no filters, no configuration of the machine or the
repository, no transport but the allowed ones. Files kept by an extension (Git LFS) stay pointers; a step may get them.
Submodules become repositories of their own inside the workspace, each with its own `.git`.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from buildyard.adapters.sources.git_command import Git, Outcome
from buildyard.adapters.sources.git_mirrors import Held, Mirror, Wanted, failure
from buildyard.adapters.sources.git_remote import Route, find_route, with_identities
from buildyard.adapters.sources.ssh_keys import Identities, offered
from buildyard.domain.errors import EngineError, Fault, Invalid, NotFound, TooLarge, Unavailable
from buildyard.domain.sources import Address, SourcePolicy, check_source, is_exact, read_address, resolve_relative
from buildyard.domain.specs import FolderSource, GitSource, Source
from buildyard.ports import FetchedRevision

OLDEST_GIT = (2, 37)
"""The first version that can pin a connection to a checked address."""

MAX_NESTING = 8
MAX_SUBMODULES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checkout:
    """One repository to be laid in: the commit that is wanted and what HEAD shall be afterwards."""

    wanted: Wanted
    branch: str = ""
    tag: str = ""


class GitFetcher:
    """Fetches `GitSource`s. `mirrors` is a folder that no job can see; several workers of a machine may share it."""

    def __init__(self, mirrors: Path, policy: SourcePolicy, *, program: str = "git", timeout_s: float = 3600) -> None:
        self._mirrors = mirrors
        self._policy = policy
        self._program = program
        self._timeout_s = timeout_s
        self._checked_version = False

    async def fetch(
        self, source: Source, folder: Path, say: Callable[[str], None], *, ssh_keys: Sequence[bytes] = ()
    ) -> FetchedRevision:
        """See `SourceFetcher.fetch`; the whole of it, with submodules, must end within the timeout."""
        if isinstance(source, FolderSource):
            raise Invalid("this source is not a git repository")
        await asyncio.to_thread(self._mirrors.mkdir, mode=0o700, parents=True, exist_ok=True)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._check_version(say)
                with offered(ssh_keys) as identities:
                    return await _Fetch(self._git(say), self._mirrors, self._policy, identities).run(source, folder)
        except TimeoutError as exc:
            raise Unavailable(f"fetching the source took longer than {self._timeout_s:g} s") from exc
        except OSError as exc:
            raise Unavailable(f"the source could not be written: {exc.strerror}") from exc

    def _git(self, say: Callable[[str], None]) -> Git:
        environment = dict(self._policy.environment)
        return Git(program=self._program, home=self._mirrors, environment=environment, say=say)

    async def _check_version(self, say: Callable[[str], None]) -> None:
        if self._checked_version:
            return
        shown = await self._git(say).run("version")
        found = re.search(r"(\d+)\.(\d+)", shown.text)
        if found is None or (int(found[1]), int(found[2])) < OLDEST_GIT:
            oldest = ".".join(str(part) for part in OLDEST_GIT)
            raise Unavailable(f"git {oldest} or newer is needed to fetch sources; found: {shown.text or 'none'}")
        self._checked_version = True


class _Fetch:
    """One fetch with its submodules."""

    def __init__(self, git: Git, mirrors: Path, policy: SourcePolicy, identities: Identities) -> None:
        self._say = git.say
        self._identities = identities
        self._git = git.quiet()
        self._mirrors = mirrors
        self._policy = policy
        self._submodules = 0

    async def run(self, source: GitSource, folder: Path, *, depth: int = 0) -> FetchedRevision:
        address = self._checked(source)
        route = with_identities(await find_route(address, self._policy), self._identities)
        git = replace(
            self._git,
            say=self._say,
            settings=route.settings,
            environment={**self._git.environment, **route.environment},
            secrets=route.secrets,
        )
        checkout = await _choose(git, route, source)
        commit = await self._lay_in(git, route, checkout, folder)
        if source.submodules:
            await self._fill_submodules(address, source, folder, commit, depth)
        revision = await _describe(self._git, folder, checkout.branch)
        self._say(f"checked out {revision.commit} {revision.subject}")
        return revision

    def _checked(self, source: GitSource) -> Address:
        allow_local = self._policy.allow_local
        faults = check_source(source, "source", allow_local=allow_local)
        address = read_address(source.url, "source.url", allow_local=allow_local)
        if faults or isinstance(address, Fault):
            words = "; ".join(f"{fault.path}: {fault.message}" for fault in faults)
            raise Invalid(f"the source is not allowed: {words}", tuple(faults))
        return address

    async def _lay_in(self, git: Git, route: Route, checkout: _Checkout, folder: Path) -> str:
        """Copy the commit out of the mirror; a mirror that cannot give it is damaged and made anew, once."""
        outcome = await self._copy(git, route, checkout, folder)
        if isinstance(outcome, Outcome):
            if "No space left" in "\n".join(outcome.complaints):
                raise failure(outcome, "the source could not be written")
            git.say(f"the cached copy of {route.address.bare} is damaged and is made anew")
            for shallow in {checkout.wanted.shallow, False}:
                await Mirror(self._mirrors, git, route, shallow=shallow).discard()
            outcome = await self._copy(git, route, checkout, folder)
        if isinstance(outcome, Outcome):
            raise failure(outcome, f"could not copy {route.address.bare} into the workspace")
        await _point_head(self._git, folder, route.address, checkout, outcome)
        return outcome

    async def _copy(self, git: Git, route: Route, checkout: _Checkout, folder: Path) -> str | Outcome:
        """Bring the commit's objects into the workspace; the failed command if the mirror could not give them."""
        held = await self._hold(git, route, checkout.wanted)
        try:
            length = "sha256" if len(held.commit) == 64 else "sha1"
            await _must(self._git, "init", "--quiet", "--template=", f"--object-format={length}", str(folder))
            what = ["--depth=1", "--no-tags", str(held.folder), held.commit]
            if not checkout.wanted.shallow:
                refs = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
                what = ["--no-tags", str(held.folder), *refs, held.commit]
            copied = await self._git.run(
                "fetch", "--quiet", "--no-write-fetch-head", "--no-auto-maintenance", *what,
                repository=folder / ".git", protocols="file", keep=(held.lock,),
            )  # fmt: skip
            return held.commit if copied.ok else copied
        finally:
            held.release()

    async def _hold(self, git: Git, route: Route, wanted: Wanted) -> Held:
        if wanted.shallow and is_exact(wanted.commit):
            held = await Mirror(self._mirrors, git, route, shallow=True).hold(wanted)
            if held is not None:
                return held
            git.say("the commit cannot be fetched by itself; fetching the whole history")
        held = await Mirror(self._mirrors, git, route, shallow=False).hold(wanted)
        if held is None:
            raise NotFound(f"{route.address.bare} has no commit {wanted.commit}")
        return held

    async def _fill_submodules(self, parent: Address, source: GitSource, folder: Path, commit: str, depth: int) -> None:
        for name, path, url, pinned in await _list_submodules(self._git, folder, commit):
            self._submodules += 1
            if depth >= MAX_NESTING or self._submodules > MAX_SUBMODULES:
                raise TooLarge(f"more than {MAX_SUBMODULES} submodules, or deeper than {MAX_NESTING}")
            self._say(f"submodule {self._git.clean(path)}")
            inner = replace(source, url=resolve_relative(parent, url), branch="", commit=pinned)
            inside = await asyncio.to_thread(_real_folder, folder, path)
            try:
                await self.run(inner, inside, depth=depth + 1)
            except EngineError as exc:
                raise type(exc)(f"submodule {self._git.clean(path)}: {exc}") from exc
            key, shown = f"submodule.{name}.url", self._checked(inner).bare
            await _must(self._git, "config", key, shown, repository=folder / ".git", work_tree=folder)


async def choose_commit(git: Git, route: Route, source: GitSource) -> Wanted:
    """The commit that a source means."""
    return (await _choose(git, route, source)).wanted


async def _choose(git: Git, route: Route, source: GitSource) -> _Checkout:
    """Turn branch, tag, default branch or abbreviation into a commit by the remote's list of refs."""
    ref = source.branch if source.branch.startswith("refs/") else f"refs/heads/{source.branch}"
    if is_exact(source.commit):
        wanted = Wanted(commit=source.commit, ref=ref if source.branch else "", shallow=source.shallow)
        return _Checkout(wanted=wanted)
    if source.commit:
        return _Checkout(wanted=await _abbreviated(git, route, source))
    patterns = ["HEAD"] if not source.branch else [source.branch, f"{source.branch}^{{}}"]
    refs, symbolic = await remote_refs(git, route, *patterns)
    if not source.branch:
        commit = refs.get("HEAD") or refs.get(symbolic, "")
        branch = symbolic.removeprefix("refs/heads/") if symbolic.startswith("refs/heads/") else ""
        if not commit:
            raise NotFound(f"{route.address.bare} has no default branch (it may be empty)")
        return _Checkout(wanted=Wanted(commit=commit, ref=symbolic or "HEAD", shallow=source.shallow), branch=branch)
    for name in (ref, f"refs/tags/{source.branch}"):
        tip = refs.get(f"{name}^{{}}") or refs.get(name)
        if tip:
            wanted = Wanted(commit=tip, ref=name, shallow=source.shallow)
            kind = "branch" if name.startswith("refs/heads/") else "tag" if name.startswith("refs/tags/") else ""
            short = name.split("/", 2)[2] if kind else ""
            return _Checkout(
                wanted=wanted, branch=short if kind == "branch" else "", tag=short if kind == "tag" else ""
            )
    raise NotFound(f"{route.address.bare} has no branch or tag {source.branch}")


async def _abbreviated(git: Git, route: Route, source: GitSource) -> Wanted:
    """A commit by its beginning: if the tip of a ref has it alone, that tip; else the whole history must tell."""
    refs, _symbolic = await remote_refs(git, route)
    tips = {commit for name, commit in refs.items() if commit.startswith(source.commit) and _is_commit(name, refs)}
    if len(tips) == 1:
        return Wanted(commit=tips.pop(), shallow=source.shallow)
    return Wanted(commit=source.commit, shallow=source.shallow)


def _is_commit(name: str, refs: dict[str, str]) -> bool:
    """Whether a listed ref is not an annotated tag, whose commit is listed beside it."""
    return f"{name}^{{}}" not in refs


async def remote_refs(git: Git, route: Route, *patterns: str) -> tuple[dict[str, str], str]:
    """The remote's refs with their objects, and the branch that its HEAD stands for."""
    listed = await git.quiet().run(
        "ls-remote", "--symref", *route.options, route.url, *patterns, protocols=route.protocol
    )
    if not listed.ok:
        raise failure(listed, f"could not read {route.address.bare}")
    refs: dict[str, str] = {}
    symbolic = ""
    for line in listed.text.splitlines():
        value, _tab, name = line.partition("\t")
        if value.startswith("ref: "):
            symbolic = value[5:] if name == "HEAD" else symbolic
        elif re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", value):
            refs[name] = value
    return refs, symbolic


async def _point_head(git: Git, folder: Path, address: Address, checkout: _Checkout, commit: str) -> None:
    """Make the workspace an ordinary clone: its origin, its branch or detached HEAD, its files."""
    repository = folder / ".git"

    async def run(*arguments: str) -> None:
        await _must(git, *arguments, repository=repository, work_tree=folder)

    await run("remote", "add", "origin", address.bare)
    if checkout.tag:
        await run("update-ref", f"refs/tags/{checkout.tag}", commit)
    if checkout.branch:
        await run("update-ref", f"refs/remotes/origin/{checkout.branch}", commit)
        await run("symbolic-ref", "HEAD", f"refs/heads/{checkout.branch}")
        await run("update-ref", f"refs/heads/{checkout.branch}", commit)
        await run("branch", "--quiet", f"--set-upstream-to=origin/{checkout.branch}", checkout.branch)
    else:
        await run("update-ref", "--no-deref", "HEAD", commit)
    await run("reset", "--hard", "--quiet")


async def _list_submodules(git: Git, folder: Path, commit: str) -> list[tuple[str, str, str, str]]:
    """Name, path, URL and commit of each submodule that `commit` has and means to be filled."""
    repository = folder / ".git"
    shown = await git.run(
        "config", "--blob", f"{commit}:.gitmodules", "-z", "--get-regexp", r"^submodule\.", repository=repository
    )
    if not shown.ok:
        return []
    modules: dict[str, dict[str, str]] = {}
    for entry in shown.output.decode("utf-8", "surrogateescape").split("\0"):
        key, _newline, value = entry.partition("\n")
        name, _dot, variable = key.removeprefix("submodule.").rpartition(".")
        modules.setdefault(name, {})[variable] = value
    links = await _gitlinks(git, repository, commit)
    return [
        (name, module["path"], module["url"], links[module["path"]])
        for name, module in modules.items()
        if module.get("path") in links and module.get("url") and module.get("update") != "none"
    ]


async def _gitlinks(git: Git, repository: Path, commit: str) -> dict[str, str]:
    """The paths of a tree where other repositories belong, and their commits."""
    listed = await git.run("ls-tree", "-r", "-z", "--full-tree", commit, repository=repository)
    links = {}
    for entry in listed.output.decode("utf-8", "surrogateescape").split("\0"):
        if entry.startswith("160000 "):
            kind, _tab, path = entry.partition("\t")
            links[path] = kind.split(" ")[2]
    return links


def _real_folder(folder: Path, path: str) -> Path:
    """The folder of a submodule, made if missing, after seeing that no link leads out of the workspace."""
    current = folder
    for segment in path.split("/"):
        if segment in ("", ".", "..") or segment.lower() == ".git":
            raise Invalid("a submodule has a path that is not allowed")
        current = current / segment
        current.mkdir(exist_ok=True)
        if current.is_symlink():
            raise Invalid("a submodule lies behind a symbolic link")
    return current


async def _describe(git: Git, folder: Path, branch: str) -> FetchedRevision:
    shown = await _must(git, "log", "-1", "--format=%H%x00%an <%ae>%x00%s", repository=folder / ".git")
    commit, author, subject = [*shown.text.split("\0"), "", ""][:3]
    return FetchedRevision(commit=commit, branch=branch, author=author, subject=git.clean(subject))


async def _must(git: Git, *arguments: str, repository: Path | None = None, work_tree: Path | None = None) -> Outcome:
    """Run a command of the workspace that only fails when the workspace or the disk does."""
    outcome = await git.run(*arguments, repository=repository, work_tree=work_tree)
    if not outcome.ok:
        raise failure(outcome, f"the source could not be laid into the workspace (git {arguments[0]})")
    return outcome
