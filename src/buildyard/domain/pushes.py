"""What forges tell about repositories, in words of no forge: pushes and pull requests, and whose repository it is."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from buildyard.domain.ids import Moment

MOST_COMMITS = 100
"""How many commits of one push are kept, the newest ones."""

LONGEST_MESSAGE = 16_384

_PORTS = {"https": "443", "http": "80", "git": "9418", "ssh": "22"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:[^@/]*@)?(\[[^\]]*\]|[^:/]*)(?::(\d*))?(/.*)?")
_SCP = re.compile(r"(?:[^@/:\s]+@)?(\[[^\]/]+\]|[^@:/\s]{2,}):(?!//)(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit of a push; `files` are those that it added, changed or removed, None if they were not told."""

    id: str
    message: str = ""
    author: str = ""
    committer: str = ""
    committed_at: Moment | None = None
    files: tuple[str, ...] | None = None
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commits:
    """The new commits of a branch or tag, the oldest first; `whole`: they are all."""

    commits: tuple[Commit, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PushEvent:
    """A branch or tag moved from `before` (empty: it is new) to `after` (empty: it was deleted).

    `repository` has every address that the forge gives for it. `commits` are the new ones, the oldest first, as far
    as they were told; `whole` says that they are all, so that `files` is the truth.
    """

    repository: tuple[str, ...]
    branch: str = ""
    tag: str = ""
    before: str = ""
    after: str = ""
    commits: tuple[Commit, ...] = ()
    whole: bool = False
    sender: str = ""
    link: str = ""

    @property
    def ref(self) -> str:
        """What moved, in words; newer builds of it supersede older ones."""
        return f"tag {self.tag}" if self.tag else f"branch {self.branch}"

    @property
    def files(self) -> frozenset[str] | None:
        """The files that changed; None if not known."""
        if not self.whole or not self.commits or any(one.files is None for one in self.commits):
            return None
        return frozenset(path for one in self.commits for path in one.files or ())

    @property
    def head(self) -> Commit:
        """The commit that the branch or tag now stands at."""
        known = [one for one in self.commits if one.id == self.after]
        return known[-1] if known else Commit(id=self.after, link=self.link)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequestEvent:
    """A pull request has a head to be built.

    `repository` has the addresses of the one that it asks to change. The head is fetched from there by `fetch_ref`,
    or from `fetch_from` where the forge shows it in no other place. From a fork: whoever wrote it need not be
    allowed to write to the repository. `once`: the forge tells the same head again for other news.
    """

    repository: tuple[str, ...]
    number: int
    head_commit: str
    head_branch: str
    base_branch: str
    fetch_ref: str
    fetch_from: str = ""
    is_fork: bool
    once: bool = False
    title: str = ""
    sender: str = ""
    link: str = ""

    @property
    def ref(self) -> str:
        """What it is, in words; newer builds of it supersede older ones."""
        return f"pull request {self.number}"


Event = PushEvent | PullRequestEvent


def repository_key(address: str) -> str:
    """What the addresses of one repository have in common: host and path; empty if it is no address.

    Without scheme, user, standard port, `.git` and slashes at the end, in lower case: forges tell names apart no
    finer than that.
    """
    if address.startswith("/"):
        return f"file:{_path(address)}"
    if match := _URL.fullmatch(address):
        scheme, host, port, path = match[1].lower(), match[2].lower(), match[3] or "", _path(match[4] or "")
        if scheme == "file":
            return f"file:{path}" if path else ""
        at = host if port in ("", _PORTS.get(scheme)) else f"{host}:{port}"
        return f"{at}{path}" if host and path else ""
    if match := _SCP.fullmatch(address):
        path = _path(f"/{match[2].removeprefix('/')}")
        return f"{match[1].lower()}{path}" if path else ""
    return ""


def _path(text: str) -> str:
    path = unquote(text).rstrip("/")
    return re.sub("/{2,}", "/", path.removesuffix(".git").rstrip("/")).casefold()


def keys_of(addresses: tuple[str, ...]) -> frozenset[str]:
    """The keys of a repository's addresses."""
    return frozenset(key for key in map(repository_key, addresses) if key)
