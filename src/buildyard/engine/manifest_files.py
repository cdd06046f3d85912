"""Plans the manifests that were found in a repository: at which commit each builds, what is wrong with it."""

import json
from dataclasses import dataclass, replace
from itertools import pairwise

import yaml

from buildyard.domain.errors import EngineError, Fault, Invalid
from buildyard.domain.manifest_files import MOST_FILES, FoundManifests, ManifestFile, pinned
from buildyard.domain.manifests import Manifest, folder_of
from buildyard.domain.specs import GitSource, PipelineSpec
from buildyard.engine.manifest_plans import ManifestOptions, plan_manifest
from buildyard.engine.manifests import MANIFEST_BYTES, read_manifest

LONGEST_DETAIL = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the files of a repository are read for.

    `built` is the place that its builds get, by its commit. `pushed` is the full name of the branch or tag that moved,
    which manifests may refuse; empty for other firings. `trusted` False withholds secrets.
    """

    repository: str
    built: GitSource
    pushed: str = ""
    trusted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file as it will be built, or why it cannot be: then there are `faults`, and no `spec`."""

    file: ManifestFile
    text: str
    manifest: Manifest | None = None
    spec: PipelineSpec | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def problem(self) -> str:
        """The faults in a line for people."""
        told = "; ".join(f"{one.path}: {one.message}" if one.path else one.message for one in self.faults)
        return f"{self.file.path} has faults: {told}"[:LONGEST_DETAIL]


def plan_files(
    found: FoundManifests, wanted: Wanted, options: ManifestOptions, *, allow_local: bool
) -> tuple[PlannedFile, ...]:
    """The files that are to be built; takes milliseconds of CPU for each. Those that do not want this push are not."""
    planned = (_plan(file, wanted, options, allow_local=allow_local) for file in found.files)
    return tuple(one for one in planned if not _refuses(one.manifest, wanted.pushed))


def remark(found: FoundManifests) -> str:
    """What is noted with each build about the files, if anything is to be said."""
    if not found.left_out:
        return ""
    return f"There are {MOST_FILES + found.left_out} manifests; only the first {MOST_FILES} by name are built."


def _refuses(manifest: Manifest | None, ref: str) -> bool:
    rule = manifest.submitter if manifest else None
    return rule is not None and not (rule.allows(ref) if ref else rule.enabled)


def _plan(file: ManifestFile, wanted: Wanted, options: ManifestOptions, *, allow_local: bool) -> PlannedFile:
    if file.text is None:
        message = f"must be text in UTF-8 of less than {MANIFEST_BYTES} bytes"
        return PlannedFile(file=file, text="", faults=(Fault("", message, "unreadable"),))
    try:
        written = read_manifest(file.text, allow_local=allow_local)
    except Invalid as exc:
        return PlannedFile(file=file, text=file.text, faults=exc.faults or (Fault("", str(exc), "invalid"),))
    except EngineError as exc:
        return PlannedFile(file=file, text=file.text, faults=(Fault("", str(exc), "invalid"),))
    sources = tuple(pinned(one, wanted.repository, wanted.built.commit) for one in written.sources)
    manifest = replace(written, sources=sources)
    spec = plan_manifest(manifest, replace(options, secrets=wanted.trusted))
    text = with_sources(file.text, written, manifest, allow_local=allow_local)
    return PlannedFile(file=file, text=text, manifest=manifest, spec=_placed(spec, wanted))


def _placed(spec: PipelineSpec, wanted: Wanted) -> PipelineSpec:
    """The plan with all that is known of the built place: a commit alone may be out of reach without its branch."""

    def placed(git: GitSource) -> GitSource:
        url = wanted.built.url if wanted.built.url != wanted.repository else git.url
        return replace(git, url=url, branch=wanted.built.branch)

    jobs = tuple(
        replace(
            job,
            sources=tuple(
                replace(one, git=placed(one.git)) if is_built(one.git, wanted) else one for one in job.sources
            ),
        )
        for job in spec.jobs
    )
    return replace(spec, jobs=jobs)


def is_built(git: GitSource, wanted: Wanted) -> bool:
    """Whether a source of a manifest is the repository itself, at what is built."""
    same = folder_of(git.url).casefold() == folder_of(wanted.repository).casefold()
    return same and git.commit == wanted.built.commit and bool(git.commit)


def with_sources(text: str, written: Manifest, manifest: Manifest, *, allow_local: bool) -> str:
    """The text with the sources that are built, all else as it was; if that cannot be written, the text as it is."""
    changes = [(old, new) for old, new in zip(written.sources, manifest.sources, strict=True) if old != new]
    if not changes:
        return text
    changed = _replaced(text, dict(changes))
    try:
        return changed if read_manifest(changed, allow_local=allow_local) == manifest else text
    except EngineError:
        return text


def _replaced(text: str, changes: dict[str, str]) -> str:
    """Write other scalars at the places where these stand among the sources."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    found: list[tuple[int, int, str]] = []
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "sources" and isinstance(value, yaml.SequenceNode):
            found += [
                (one.start_mark.index, one.end_mark.index, changes[one.value])
                for one in value.value
                if isinstance(one, yaml.ScalarNode) and one.value in changes
            ]
    found.sort()
    cuts = [0, *(place for start, end, _ in found for place in (start, end)), len(text)]
    kept = [text[start:end] for start, end in list(pairwise(cuts))[::2]]
    written = [new if text[start] not in "'\"|>" else json.dumps(new) for start, _, new in found]
    return "".join(part for pair in zip(kept, [*written, ""], strict=True) for part in pair)
