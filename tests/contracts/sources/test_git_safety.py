"""What a git source must never do: run something, read files of the server, reach private addresses."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from buildyard.adapters.sources.git import GitFetcher
from buildyard.adapters.sources.git_command import Git
from buildyard.adapters.sources.git_remote import Route, find_route, pinned
from buildyard.domain.errors import EngineError, Invalid, Unavailable
from buildyard.domain.sources import Address, SourcePolicy, is_private, read_address
from buildyard.domain.specs import GitSource
from contracts.sources.serving import IDENTITY, Repository, WebServer
from needs import need, need_program

Make = Callable[..., Repository]
PATH = {"PATH": os.environ.get("PATH", "")}
SETTING = "BUILDYARD_ALLOW_LOCAL_SOURCES"


@pytest.fixture
def fetcher(tmp_path: Path) -> GitFetcher:
    return GitFetcher(tmp_path / "mirrors", SourcePolicy(allow_local=True, environment=PATH))


@pytest.fixture
def strict(tmp_path: Path) -> GitFetcher:
    return GitFetcher(tmp_path / "mirrors", SourcePolicy(environment=PATH))


def silent(_line: str) -> None:
    pass


def address(text: str) -> Address:
    found = read_address(text, "url", allow_local=True)
    assert isinstance(found, Address)
    return found


@pytest.mark.covers("workspace.hardening")
@pytest.mark.parametrize(
    "source",
    [
        GitSource(url="ext::sh -c 'touch {evil}'"),
        GitSource(url="ext::touch%20{evil}"),
        GitSource(url="fd::3"),
        GitSource(url="--upload-pack=touch {evil}"),
        GitSource(url="ssh://-oProxyCommand=touch%20{evil}/x"),
        GitSource(url="git@-oProxyCommand=touch:x"),
        GitSource(url="{hello}", branch="--upload-pack=touch {evil}"),
        GitSource(url="{hello}", branch="--foo"),
        GitSource(url="{hello}", branch="+main:refs/heads/x"),
        GitSource(url="{hello}", commit="--output={evil}"),
        GitSource(url="{hello}", commit="main"),
    ],
)
async def test_strings_that_would_be_options_or_commands_are_refused(
    fetcher: GitFetcher, hello: Repository, tmp_path: Path, source: GitSource
) -> None:
    evil = tmp_path / "evil"
    filled = replace(
        source,
        url=source.url.format(hello=hello.url, evil=evil),
        branch=source.branch.format(evil=evil),
        commit=source.commit.format(evil=evil),
    )

    with pytest.raises(Invalid):
        await fetcher.fetch(filled, tmp_path / "work", silent)

    assert not os.path.lexists(evil)  # noqa: ASYNC240 - one look at a file


@pytest.mark.covers("workspace.local_sources")
@pytest.mark.parametrize("url", ["{file}", "{path}", "{web}", "http://localhost:{port}/hello/.git"])
async def test_local_sources_are_refused_by_the_name_of_their_setting(
    strict: GitFetcher, hello: Repository, web: WebServer, tmp_path: Path, url: str
) -> None:
    filled = url.format(file=hello.url, path=hello.folder, web=web.url(hello), port=web.port)

    with pytest.raises(Invalid, match=SETTING):
        await strict.fetch(GitSource(url=filled), tmp_path / "work", silent)

    assert web.fetches == []


@pytest.mark.covers("workspace.local_sources")
async def test_a_name_that_leads_to_a_private_address_is_refused_with_both(strict: GitFetcher, tmp_path: Path) -> None:
    host = socket.gethostname().lower()
    need(_leads_inwards(host), "a name of this machine that resolves to a private address")

    with pytest.raises(Invalid) as refused:
        await strict.fetch(GitSource(url=f"https://{host}/x"), tmp_path / "work", silent)

    assert SETTING in str(refused.value)
    assert host in str(refused.value)


def _leads_inwards(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return isinstance(read_address(f"https://{host}/x", "url", allow_local=False), Address) and any(
        is_private(str(entry[4][0])) for entry in found
    )


async def test_a_name_that_leads_nowhere_is_unavailable_but_left_to_a_proxy() -> None:
    nowhere = address("https://nowhere.invalid/x")
    proxy = SourcePolicy(environment={"https_proxy": "http://proxy.example:3128"})
    around = SourcePolicy(environment={"https_proxy": "http://proxy.example:3128", "no_proxy": ".invalid"})

    with pytest.raises(Unavailable, match=r"nowhere\.invalid"):
        await find_route(nowhere, SourcePolicy())
    with pytest.raises(Unavailable):
        await find_route(nowhere, around)
    assert (await find_route(nowhere, proxy)).url == nowhere.bare


async def test_redirects_are_not_followed(
    fetcher: GitFetcher, hello: Repository, web: WebServer, tmp_path: Path
) -> None:
    web.redirect_to = web.url(hello).split("/hello")[0]

    with pytest.raises(Invalid, match="redirect"):
        await fetcher.fetch(GitSource(url=web.url(hello)), tmp_path / "work", silent)


async def connect(route: Route, tmp_path: Path) -> str:
    """What git finds at the end of a route."""
    git = Git(
        program="git",
        home=tmp_path,
        environment={**PATH, **route.environment},
        say=silent,
        settings=route.settings,
    )
    listed = await git.run("ls-remote", *route.options, route.url, "HEAD", protocols=route.protocol)
    return listed.text.split("\t")[0] or " ".join(listed.complaints)


async def test_http_connects_to_the_checked_address_and_to_no_other(
    hello: Repository, web: WebServer, tmp_path: Path
) -> None:
    there = address(web.url(hello, host="checked.invalid"))

    assert await connect(pinned(there, ["127.0.0.1"]), tmp_path) == hello.git("rev-parse", "HEAD")
    assert "127.0.0.1" not in await connect(pinned(there, []), tmp_path)


@pytest.fixture
def daemon(tmp_path: Path, hello: Repository) -> Iterator[int]:
    """The port of a `git daemon` that serves the made repositories, each below the name that it was asked by."""
    need_program("git")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [
        "git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", "--export-all", "--verbose",
        f"--interpolated-path={hello.folder.parent}/%H%D", str(hello.folder.parent),
    ]  # fmt: skip
    process = subprocess.Popen(command, env=IDENTITY, stderr=subprocess.PIPE, start_new_session=True)
    assert process.stderr is not None
    while b"Ready to rumble" not in process.stderr.readline():
        assert process.poll() is None
    yield port
    os.killpg(process.pid, 15)
    process.wait()
    process.stderr.close()


async def test_the_git_protocol_connects_to_the_checked_address_under_the_name_asked_for(
    hello: Repository, daemon: int, tmp_path: Path
) -> None:
    (hello.folder.parent / "checked.invalid").mkdir()
    (hello.folder.parent / "checked.invalid" / "x").symlink_to(hello.folder)
    there = address(f"git://checked.invalid:{daemon}/x")

    route = pinned(there, ["127.0.0.1"])

    assert ip_address(route.url.split("/")[2].split(":")[0]) == ip_address("127.0.0.1")
    assert await connect(route, tmp_path) == hello.git("rev-parse", "HEAD")


async def test_the_git_protocol_serves_whole_fetches(
    fetcher: GitFetcher, hello: Repository, daemon: int, tmp_path: Path
) -> None:
    (hello.folder.parent / "127.0.0.1").symlink_to(hello.folder.parent)

    found = await fetcher.fetch(GitSource(url=f"git://127.0.0.1:{daemon}/hello"), tmp_path / "work", silent)

    assert found.commit == hello.git("rev-parse", "HEAD")


async def test_ssh_connects_to_the_checked_address_and_looks_up_the_key_by_name() -> None:
    ssh = need_program("ssh")
    route = pinned(address("ssh://git@checked.invalid:2222/x"), ["93.184.216.34"])

    command = route.environment["GIT_SSH_COMMAND"].replace("ssh", ssh, 1).split(" ")
    shown = subprocess.run([*command, "-G", "checked.invalid"], capture_output=True, check=True, text=True)  # noqa: ASYNC221 - ends at once

    settings = dict(line.split(" ", 1) for line in shown.stdout.splitlines() if " " in line)
    assert settings["hostname"] == "93.184.216.34"
    assert settings["hostkeyalias"] == "[checked.invalid]:2222"
    assert settings["batchmode"] == "yes"


@pytest.mark.covers("workspace.hardening")
@pytest.mark.parametrize("url", ["ext::touch evil", "--upload-pack=x", "file:///etc", "/etc", "http://127.0.0.1/x"])
async def test_a_submodule_is_held_to_the_same_rules(fetcher: GitFetcher, make: Make, tmp_path: Path, url: str) -> None:
    outer = make("outer")
    first = outer.commit("one")
    outer.git("update-index", "--add", "--cacheinfo", f"160000,{first},lib")
    outer.git("config", "-f", ".gitmodules", "submodule.lib.path", "lib")
    outer.git("config", "-f", ".gitmodules", "submodule.lib.url", url)
    outer.git("add", ".gitmodules")
    outer.git("commit", "-qm", "Point elsewhere")

    with pytest.raises(EngineError, match="submodule lib"):
        await fetcher.fetch(GitSource(url=outer.url), tmp_path / "work", silent)

    assert not (tmp_path / "work" / "lib" / "passwd").exists()


@pytest.mark.parametrize("url", ["ext::touch evil", "file:///srv/x", "/srv/x", "../x", "http://127.0.0.1/x"])
def test_a_submodule_of_a_public_repository_may_not_be_local(url: str) -> None:
    found = read_address(url, "url", allow_local=False)

    assert not isinstance(found, Address)


async def test_a_submodule_path_does_not_lead_out_of_the_workspace(
    fetcher: GitFetcher, make: Make, tmp_path: Path
) -> None:
    outer, inner = make("outer"), make("inner")
    pin = inner.commit("evil")
    (outer.folder / "way").symlink_to(tmp_path)
    outer.git("config", "-f", ".gitmodules", "submodule.x.path", "way/lib")
    outer.git("config", "-f", ".gitmodules", "submodule.x.url", inner.url)
    outer.git("config", "-f", ".gitmodules", "submodule.y.path", "../lib")
    outer.git("config", "-f", ".gitmodules", "submodule.y.url", inner.url)
    outer.git("add", "-A")
    outer.git("commit", "-qm", f"Pretend {pin}")

    await fetcher.fetch(GitSource(url=outer.url), tmp_path / "work", silent)

    assert not (tmp_path / "lib").exists()


@pytest.mark.covers("workspace.hardening")
async def test_nothing_of_the_repository_or_the_machine_is_run(
    fetcher: GitFetcher, hello: Repository, tmp_path: Path
) -> None:
    evil = tmp_path / "evil"
    home = tmp_path / "home"
    (home / "templates" / "hooks").mkdir(parents=True)
    for hook in ("post-checkout", "reference-transaction", "post-merge", "pre-auto-gc"):
        for folder in (home / "templates" / "hooks", hello.folder / ".git" / "hooks"):
            folder.mkdir(exist_ok=True)
            (folder / hook).write_text(f"#!/bin/sh\ntouch {evil}\n")
            (folder / hook).chmod(0o755)
    (home / ".gitconfig").write_text(
        f"[init]\n\ttemplateDir = {home}/templates\n[core]\n\tfsmonitor = touch {evil}; false\n"
        f'[filter "evil"]\n\tsmudge = touch {evil}\n\trequired\n[credential]\n\thelper = !touch {evil}\n'
        f"[core]\n\thooksPath = {home}/templates/hooks\n"
    )
    hello.commit(".gitattributes", "* filter=evil\n")
    (hello.folder / ".git" / "hooks" / "post-checkout").write_text(f"#!/bin/sh\ntouch {evil}\n")
    evil.unlink(missing_ok=True)
    policy = SourcePolicy(allow_local=True, environment={**PATH, "HOME": str(home)})

    await GitFetcher(tmp_path / "mirrors", policy).fetch(GitSource(url=hello.url), tmp_path / "work", silent)

    assert not evil.exists()
    assert not (tmp_path / "work" / ".git" / "hooks").exists()


async def test_messages_carry_no_control_sequences(fetcher: GitFetcher, hello: Repository, tmp_path: Path) -> None:
    hello.git("commit", "--allow-empty", "-qm", "Red \x1b[31m alert")
    said: list[str] = []

    found = await fetcher.fetch(GitSource(url=hello.url), tmp_path / "work", said.append)

    assert "\x1b" not in found.subject + "".join(said)


async def test_a_git_that_is_too_old_is_refused(hello: Repository, tmp_path: Path) -> None:
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.30.2\n")
    old.chmod(0o755)

    with pytest.raises(Unavailable, match=r"2\.37"):
        await GitFetcher(
            tmp_path / "mirrors", SourcePolicy(allow_local=True, environment=PATH), program=str(old)
        ).fetch(GitSource(url=hello.url), tmp_path / "work", silent)


async def test_a_machine_without_git_says_so(hello: Repository, tmp_path: Path) -> None:
    fetcher = GitFetcher(tmp_path / "mirrors", SourcePolicy(allow_local=True), program=str(tmp_path / "none"))

    with pytest.raises(Unavailable, match="could not be started"):
        await fetcher.fetch(GitSource(url=hello.url), tmp_path / "work", silent)
