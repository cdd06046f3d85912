"""The written pages hold together: links lead somewhere, and nothing that must be listed is left out."""

import re
import tomllib
from pathlib import Path

import pytest

from buildyard.engine import workflow_files

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")])


def anchors_of(page: Path) -> set[str]:
    """The names under which a page's headings can be linked to."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_documents_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@pytest.mark.covers("repo.docs.architecture")
def test_the_map_of_the_documents_names_every_page_and_the_architecture_has_a_drawing() -> None:
    map_of_docs = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/apis/*.md")]:
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "README.md" or f"]({name})" in map_of_docs, name
    assert "```mermaid" in (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_every_dependency_has_its_reason_among_the_decisions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted += [each for group in project["dependency-groups"].values() for each in group if isinstance(each, str)]
    told = (ROOT / "docs/decisions.md").read_text(encoding="utf-8").lower()
    for requirement in wanted:
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert match is not None
        assert re.search(rf"\b{re.escape(match[0].lower())}\b", told), requirement


@pytest.mark.parametrize("part", ["WORKFLOW", "_SOURCE", "_JOB", "_STEP", "_LIMITS"])
def test_every_key_of_a_workflow_file_is_explained(part: str) -> None:
    page = (ROOT / "docs/workflow-files.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert set(getattr(workflow_files, part)) <= explained
