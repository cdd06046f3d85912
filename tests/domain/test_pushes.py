"""Which addresses mean the same repository."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildyard.domain.pushes import keys_of, repository_key

SAME = [
    "https://example.org/team/hello.git",
    "https://example.org/team/hello",
    "https://example.org:443/team/hello.git/",
    "http://Example.org/Team/Hello",
    "https://user:secret@example.org/team/hello.git",
    "git://example.org/team/hello.git",
    "ssh://git@example.org/team/hello.git",
    "ssh://git@example.org:22//team/hello.git",
    "git@example.org:team/hello.git",
    "git@example.org:/team/hello",
]
OTHERS = [
    "https://example.org/team/hello2",
    "https://example.org/team",
    "https://example.org:8443/team/hello",
    "https://example.com/team/hello",
    "https://example.org.evil.net/team/hello",
    "https://evil.net/example.org/team/hello",
    "https://example.org@evil.net/team/hello",
    "file:///team/hello",
    "/team/hello",
    "",
    "hello",
    "https://example.org",
    "https://example.org/",
]


@pytest.mark.covers("hooks.addresses")
def test_addresses_of_one_repository_have_one_key() -> None:
    assert {repository_key(address) for address in SAME} == {"example.org/team/hello"}
    assert "example.org/team/hello" not in {repository_key(address) for address in OTHERS}
    assert keys_of(("", "https://example.org")) == frozenset()


@pytest.mark.covers("hooks.addresses")
def test_files_are_repositories_too() -> None:
    assert repository_key("file:///srv/git/x.git") == repository_key("/srv/git/x") == "file:/srv/git/x"


@given(st.text())
def test_any_text_has_a_key_or_none(address: str) -> None:
    assert isinstance(repository_key(address), str)
