"""Rules for repository addresses, commits, branch names and private addresses."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildyard.domain.errors import Fault
from buildyard.domain.sources import (
    Address,
    check_branch,
    check_commit,
    check_source,
    is_exact,
    is_private,
    masked,
    read_address,
    resolve_relative,
)
from buildyard.domain.specs import GitSource
from needs import need_program


def address(text: str, *, allow_local: bool = False) -> Address:
    found = read_address(text, "url", allow_local=allow_local)
    assert isinstance(found, Address), found
    return found


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("https://example.org/a.git", "https://example.org/a.git"),
        ("HTTPS://Example.ORG:443/a", "https://example.org/a"),
        ("http://example.org:8080/a", "http://example.org:8080/a"),
        ("https://bob:s3cret@example.org/a", "https://example.org/a"),
        ("git://example.org/a", "git://example.org/a"),
        ("ssh://git@example.org:2222/a", "ssh://git@example.org:2222/a"),
        ("git@example.org:team/a.git", "git@example.org:team/a.git"),
        ("git@git.sr.ht:~bob/a", "git@git.sr.ht:~bob/a"),
        ("https://[2606:4700::1]/a", "https://[2606:4700::1]/a"),
    ],
)
def test_ordinary_addresses_are_read_and_shown_without_credentials(text: str, bare: str) -> None:
    assert address(text).bare == bare


@pytest.mark.covers("workspace.hardening")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "ext::sh -c touch% /tmp/x",
        "ext::sh",
        "fd::17",
        "ext://x/y",
        "ftp://example.org/a",
        "javascript:alert(1)//",
        "example.org:team/a",
        "--upload-pack=touch",
        "-oProxyCommand=x:y",
        "https://-oProxyCommand=x/y",
        "ssh://-oProxyCommand=x/y",
        "git@-oProxyCommand=x:y",
        "ssh://-l@example.org/a",
        "-x@example.org:a",
        "https://example.org",
        "https://example.org/",
        "https://example.org/a#main",
        "https://example.org/a b",
        "https://example.org/a\nb",
        "https://example.org/a\0b",
        "https://example.org\\@127.0.0.1/a",
        "https://a@b@example.org/x",
        "https://exa%6dple.org/a",
        "https://exämple.org/a",
        "https://example.org./a",
        "https://example.org:0/a",
        "https://example.org:99999/a",
        "https:///a",
        "https://0x7f.1/a",
        "https://2130706433/a",
        "https://127.1/a",
        "https://[fe80::1%25eth0]/a",
        "https://::1/a",
        "git://bob@example.org/a",
        "ssh://bob:pw@example.org/a",
        "https://bob%0a:pw@example.org/a",
        "relative/path",
        "./here",
        "C:\\repo",
        "https://example.org/" + "a" * 3000,
    ],
)
def test_addresses_that_could_mean_something_else_are_refused_even_where_local_ones_are_allowed(text: str) -> None:
    assert isinstance(read_address(text, "url", allow_local=True), Fault)


@pytest.mark.covers("workspace.local_sources")
@pytest.mark.parametrize(
    "text",
    [
        "file:///srv/a.git",
        "/srv/a.git",
        "http://localhost/a",
        "http://x.localhost/a",
        "http://127.0.0.1:3000/a",
        "http://169.254.169.254/latest",
        "git@10.0.0.1:a",
        "git://192.168.1.1/a",
        "http://[::1]/a",
        "http://[::ffff:10.0.0.1]/a",
        "http://0.0.0.0/a",
    ],
)
def test_local_addresses_are_refused_by_the_name_of_their_setting_unless_allowed(text: str) -> None:
    refused = read_address(text, "source.url", allow_local=False)

    assert isinstance(refused, Fault)
    assert "BUILDYARD_ALLOW_LOCAL_SOURCES" in refused.message
    assert refused.path == "source.url"
    assert isinstance(read_address(text, "url", allow_local=True), Address)


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0"),
        *("fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::"),
        *("64:ff9b:1::1", "2001:db8::1"),
    ],
)
def test_addresses_that_are_not_public_count_as_private(text: str) -> None:
    assert is_private(text)


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses_do_not_count_as_private(text: str) -> None:
    assert not is_private(text)


def test_a_commit_is_seven_to_sixty_four_hexadecimal_digits() -> None:
    good = ["abcdef0", "a" * 40, "0" * 64]
    bad = ["abcdef", "a" * 65, "ABCDEF0", "main", "-abcdef0", "abcdef0\n", "", "abcdef0;ls"]

    assert [text for text in good if check_commit(text, "commit")] == []
    assert [text for text in bad if not check_commit(text, "commit")] == []
    assert [is_exact(text) for text in good] == [False, True, True]


BRANCHES = [
    *("main", "feature/x", "v1.0", "a-b", "ü", "x@y", "refs/heads/main", "refs/pull/1/head", "a{b", "#1"),
    *("-x", "--upload-pack=x", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a.lock", "a/b.lock/c"),
    *(".a", "a/.b", "a.", "a/", "/a", "a//b", "@", "a@{1}", "a\x7f", "a\tb", "", "HEAD"),
]


@pytest.mark.parametrize("name", BRANCHES)
def test_branch_names_follow_the_rules_of_git(name: str) -> None:
    git = need_program("git")
    allowed = (
        subprocess.run([git, "check-ref-format", "--branch", name], capture_output=True, check=False).returncode == 0
    )

    assert (check_branch(name, "branch") == []) == (allowed and name not in ("HEAD", "@"))


def test_names_with_line_ends_nul_and_great_length_are_refused() -> None:
    assert all(check_branch(name, "branch") for name in ("a\nb", "a\0b", "x" * 251, "\ud800"))


def test_all_faults_of_a_source_are_found_at_once() -> None:
    source = GitSource(url="ext::sh", branch="--x", commit="zzz")

    faults = check_source(source, "source", allow_local=False)

    assert [fault.path for fault in faults] == ["source.url", "source.commit", "source.branch"]
    assert check_source(GitSource(url="https://example.org/a", branch="main"), "source", allow_local=False) == []


@pytest.mark.parametrize(
    ("parent", "url", "expected"),
    [
        ("https://example.org/team/a.git", "../b.git", "https://example.org/team/b.git"),
        ("https://example.org/team/a.git/", "../../other/b", "https://example.org/other/b"),
        ("https://example.org/team/a", "./b", "https://example.org/team/a/b"),
        ("git@example.org:team/a", "../b", "git@example.org:team/b"),
        ("file:///srv/a", "../b", "file:///srv/b"),
        ("https://u:p@example.org/team/a", "../b", "https://u:p@example.org/team/b"),
        ("https://example.org/team/a", "https://other.org/b", "https://other.org/b"),
    ],
)
def test_relative_submodules_start_from_their_parent(parent: str, url: str, expected: str) -> None:
    assert resolve_relative(address(parent, allow_local=True), url) == expected


def test_a_relative_submodule_cannot_leave_its_host() -> None:
    parent = address("https://example.org/a")

    moved = resolve_relative(parent, "../../../../evil.example/x")

    assert address(moved).host == "example.org"


def test_credentials_are_kept_only_where_they_are_needed() -> None:
    found = address("https://bob:p%40ss@example.org/a")

    assert (found.user, found.password) == ("bob", "p@ss")
    assert found.full == "https://bob:p%40ss@example.org/a"
    assert "p@ss" not in repr(found)
    assert masked("fatal: https://bob:pw@example.org/a: no") == "fatal: https://***@example.org/a: no"


@given(st.text(max_size=60))
def test_any_text_is_either_an_address_or_a_fault(text: str) -> None:
    found = read_address(text, "url", allow_local=True)

    if isinstance(found, Address) and found.scheme != "file":
        assert read_address(found.bare, "url", allow_local=True) is not None


@given(st.from_regex(r"(https?|git|ssh)://[a-z0-9.@:\[\]%-]{1,20}/[a-z]{1,5}", fullmatch=True))
def test_an_accepted_address_is_read_back_the_same(text: str) -> None:
    found = read_address(text, "url", allow_local=True)

    if isinstance(found, Address):
        assert read_address(found.full, "url", allow_local=True) == found
