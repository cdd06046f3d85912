"""Manifests that lie in repositories: which files count, and what their builds are called."""

from dataclasses import dataclass

from buildyard.domain.manifests import folder_of

FILE = ".build.yml"
FOLDER = ".builds"
"""Its files are read where there is no FILE."""

SUFFIX = ".yml"
MOST_FILES = 4
"""How many manifests of one commit are built, the first ones by name."""

MOST_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """A file at a commit; `text` is None if it is too large, or no text."""

    path: str
    text: str | None

    @property
    def stem(self) -> str:
        """What tells it from its neighbours; empty for the one that has none."""
        return "" if self.path == FILE else self.path.removeprefix(f"{FOLDER}/").removesuffix(SUFFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundManifests:
    """What a commit holds: at most MOST_FILES manifests, and how many were `left_out`."""

    commit: str
    message: str = ""
    author: str = ""
    files: tuple[ManifestFile, ...] = ()
    left_out: int = 0


def chosen(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Which of a commit's files are manifests, in order."""
    if FILE in paths:
        return (FILE,)
    return tuple(sorted(path for path in paths if path.startswith(f"{FOLDER}/") and is_manifest(path)))


def is_manifest(path: str) -> bool:
    """Whether a file directly in FOLDER counts."""
    name = path.removeprefix(f"{FOLDER}/")
    return "/" not in name and name.endswith(SUFFIX) and name != SUFFIX


def tags_of(repository: str, file: ManifestFile) -> tuple[str, ...]:
    """The tags of a file's builds: the repository's name, and the file's where there may be several."""
    name = folder_of(repository)
    return tuple(_tag(part) for part in ((name, file.stem) if file.stem else (name,)))


def _tag(text: str) -> str:
    kept = "".join(c if (c.isascii() and c.isalnum()) or c in "-_." else "-" for c in text.lower())
    return kept[:100] or "-"


def pinned(source: str, repository: str, commit: str) -> str:
    """The source at the commit, if it is the repository and says no other place; else as it is.

    They are told apart by name, since a manifest may write another address of it.
    """
    if "#" in source or folder_of(source).casefold() != folder_of(repository).casefold():
        return source
    return f"{source}#{commit}"
