"""Manifests: each file of the corpus reads as the file beside it says, or has just these faults."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildyard.domain.errors import Fault, Invalid
from buildyard.domain.manifests import Manifest, Submitter, folder_of, git_source, mailboxes
from buildyard.engine.manifests import MANIFEST_BYTES, read_manifest

CORPUS = Path(__file__).with_name("manifests")
NAMES = sorted(path.stem for path in CORPUS.glob("*.yml"))
KEYS = sorted(field for field in Manifest.__dataclass_fields__ if field != "notes")


def reading_of(text: str) -> dict[str, object]:
    """What a manifest says, without what it does not; or its faults."""
    try:
        found = asdict(read_manifest(text))
    except Invalid as exc:
        return {"faults": [f"{fault.path}: {fault.message}" for fault in exc.faults]}
    plain = asdict(Manifest(image=""))
    said: dict[str, object] = json.loads(json.dumps({key: found[key] for key in found if found[key] != plain[key]}))
    return said


@pytest.mark.covers("sourcehut.manifest.read")
@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_of_the_corpus_reads_as_the_file_beside_it_says(name: str) -> None:
    expected = json.loads((CORPUS / f"{name}.json").read_text())

    assert reading_of((CORPUS / f"{name}.yml").read_text()) == expected


@pytest.mark.covers("sourcehut.manifest.corpus")
def test_the_corpus_covers_every_key_with_a_reading_and_with_a_fault() -> None:
    found = [json.loads(path.read_text()) for path in CORPUS.glob("*.json")]
    read = {key for one in found for key in one}
    faulty = {key for one in found for fault in one.get("faults", ()) for key in KEYS if fault.startswith(key)}

    assert len(NAMES) >= 60
    assert sorted(read - {"faults", "notes"}) == KEYS
    assert sorted(faulty) == KEYS


@pytest.mark.covers("sourcehut.manifest.limits")
def test_a_manifest_has_less_than_16384_bytes() -> None:
    start = "image: alpine\ntasks: [{a: x}]\n#"
    largest = start + "é" * ((MANIFEST_BYTES - 1 - len(start)) // 2)

    assert read_manifest(largest).image == "alpine"
    with pytest.raises(Invalid, match=r"^Manifest must be less than 16384 bytes$"):
        read_manifest(largest + "é")


def test_sources_of_this_machine_are_read_where_they_are_allowed() -> None:
    text = "image: a\nsources: ['file:///srv/git/x.git#v1']\ntasks: [{a: x}]"

    assert read_manifest(text, allow_local=True).sources == ("file:///srv/git/x.git#v1",)
    with pytest.raises(Invalid, match="faults"):
        read_manifest(text)


@pytest.mark.parametrize(
    ("source", "folder", "url", "branch", "commit"),
    [
        ("https://git.sr.ht/~a/b", "b", "https://git.sr.ht/~a/b", "", ""),
        ("https://x.org/b.git/#v1.0", "b", "https://x.org/b.git/", "v1.0", ""),
        ("git+ssh://git@x.org/~a/b#0123abc", "b", "ssh://git@x.org/~a/b", "", "0123abc"),
        ("git@x.org:b.git#feature/x", "b", "git@x.org:b.git", "feature/x", ""),
        ("git+https://x.org/.dotfiles#DEADBEEF", ".dotfiles", "https://x.org/.dotfiles", "DEADBEEF", ""),
    ],
)
def test_a_source_names_a_folder_and_a_place_in_a_repository(
    source: str, folder: str, url: str, branch: str, commit: str
) -> None:
    git = git_source(source)

    assert folder_of(source) == folder
    assert (git.url, git.branch, git.commit, git.shallow, git.submodules) == (url, branch, commit, False, True)


def test_a_submitter_allows_the_refs_that_its_patterns_name() -> None:
    some = Submitter(allow_refs=("refs/heads/main", "release-*", "refs/tags/v*"))
    refs = ("refs/heads/main", "refs/heads/release-1", "refs/tags/v2", "refs/heads/v2", "refs/heads/topic", "main")

    assert [ref for ref in refs if some.allows(ref)] == list(refs[:3])
    assert Submitter().allows("refs/heads/any")
    assert not Submitter(enabled=False, allow_refs=("*",)).allows("refs/heads/any")


def test_mail_addresses_of_a_header_are_found() -> None:
    assert mailboxes('Bob <bob@x.org>, "List, the" <list@x.org>, c@x.org') == ("bob@x.org", "list@x.org", "c@x.org")
    assert mailboxes(" ") == ()


# --- nothing but Invalid ------------------------------------------------------------------------

WORDS = """
image arch packages repositories sources environment secrets shell artifacts oauth tasks triggers submitter git.sr.ht
action condition email webhook always to cc in_reply_to url enabled allow-refs alpine/edge true ~ a .inf 0x1 1e999
https://x.org/a#b file:///x ../x 2001-01-01 : - [ ] { } & * &a *a << ! | > # , ' " \\ % @ `
"""
SIGNS = ("\n", "\n  ", "\n- ", ": ", ", ", "\t", "\0", "\x85", "\u2028", "\ud800", "é", "\U0001f600", "\ufeff")
PIECES = st.sampled_from([*WORDS.split(), *SIGNS])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | PIECES
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PIECES | st.text(max_size=9), inner, max_size=4),
)


def read_or_refuse(text: str) -> None:
    """Read a text; the one thing that may be raised is Invalid, with faults."""
    found: tuple[Fault, ...] = (Fault("", "none", "none"),)
    try:
        read_manifest(text, allow_local=True)
    except Invalid as exc:
        found = exc.faults
    assert found
    assert all(fault.message for fault in found)


@given(st.text(max_size=300) | st.lists(PIECES, max_size=60).map("".join))
def test_any_text_reads_or_is_refused_with_faults(text: str) -> None:
    read_or_refuse(text)


@given(st.dictionaries(st.sampled_from([*KEYS, "x"]), VALUES, max_size=8), st.booleans())
def test_any_values_of_the_keys_read_or_are_refused_with_faults(values: dict[str, object], ascii_only: bool) -> None:
    read_or_refuse(json.dumps({"image": "a", "tasks": [{"a": "x"}], **values}, ensure_ascii=ascii_only))


def test_a_number_of_thousands_of_digits_and_half_a_character_are_refused() -> None:
    read_or_refuse('{"image": ' + "1" * 5000 + "}")
    read_or_refuse('{"image": "\\ud800"}')
