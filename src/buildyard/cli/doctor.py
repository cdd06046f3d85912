"""`buildyard doctor`: what this machine can do, what is missing, and what to install."""

import asyncio
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from buildyard.bootstrap.worker import probe_executors
from buildyard.cli.connection import authorization
from buildyard.cli.exits import ExitCode
from buildyard.cli.output import console, file_size, print_json
from buildyard.client.native import NativeClient
from buildyard.domain.errors import EngineError, Unavailable
from buildyard.settings import ExecutorName, Settings, process_environment, read_settings
from buildyard.version import VERSION

OLD_SQLITE = (3, 35)
"""From here on SQLite has RETURNING."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at: `ok`, `note` (works, could be better) or `missing`; and what would mend it."""

    what: str
    state: str
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that something needs, and how its version is asked for."""

    name: str
    use: str
    package: str
    version: Sequence[str] = ("--version",)


PROGRAMS = (
    Program("git", "sources from git repositories", "git"),
    Program("bash", "steps, unless they name another shell", "bash"),
    Program("slirp4netns", "networks of sandboxes without the host's loopback", "slirp4netns"),
    Program("setpriv", "jobs that die with their worker, and sandboxes of a root worker", "util-linux"),
    Program("prlimit", "limits where there are no cgroups", "util-linux"),
)


async def doctor(*, as_json: bool) -> int:
    """Look at everything; REFUSED if no executor works here, else OK."""
    settings = read_settings(process_environment())
    findings = [_python(), _sqlite(), _disk(settings), _cgroups()]
    findings += await asyncio.gather(*(_program(program) for program in PROGRAMS))
    executors = await _executors(settings)
    findings += [*executors, await _containers(settings), await _server(settings)]
    if as_json:
        print_json({"version": VERSION, "system": platform.platform(), "findings": findings})
    else:
        _print(findings)
    return ExitCode.OK if any(finding.state != "missing" for finding in executors) else ExitCode.REFUSED


def _print(findings: list[Finding]) -> None:
    signs = {"ok": ("✓", "green"), "note": ("!", "yellow"), "missing": ("✗", "red")}
    screen = console()
    for finding in findings:
        sign, style = signs[finding.state]
        screen.print(f"[{style}]{sign}[/] [bold]{finding.what}[/]: ", end="")
        screen.print(finding.found, markup=False)
        if finding.remedy:
            screen.print(f"    → {finding.remedy}", markup=False)


def _python() -> Finding:
    where = f"{platform.python_version()} in {sys.prefix}"
    return Finding(what="Python", state="ok", found=where)


def _sqlite() -> Finding:
    if sqlite3.sqlite_version_info >= OLD_SQLITE:
        return Finding(what="SQLite", state="ok", found=sqlite3.sqlite_version)
    remedy = "a Python with a newer SQLite, or PostgreSQL by BUILDYARD_DATABASE_URL"
    return Finding(what="SQLite", state="missing", found=f"{sqlite3.sqlite_version} is too old", remedy=remedy)


def _disk(settings: Settings) -> Finding:
    folder = settings.data
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{file_size(free)} free for {settings.data}"
    if free > settings.limits.free_disk_bytes:
        return Finding(what="disk", state="ok", found=found)
    remedy = "free some space, or lower limits.free_disk_bytes: new work is refused"
    return Finding(what="disk", state="missing", found=found, remedy=remedy)


def _cgroups() -> Finding:
    root = Path("/sys/fs/cgroup")
    version = 2 if (root / "cgroup.controllers").exists() else 1 if (root / "memory").is_dir() else 0
    if version and os.getuid() == 0:
        return Finding(what="cgroups", state="ok", found=f"version {version}")
    found = f"version {version}, not writable for uid {os.getuid()}" if version else "none"
    remedy = "limits on memory and processes are then rlimits of each process; as root they hold for whole jobs"
    return Finding(what="cgroups", state="note", found=found, remedy=remedy)


async def _program(program: Program) -> Finding:
    path = shutil.which(program.name)
    if path is None:
        remedy = f"apt-get install {program.package}"
        return Finding(what=program.name, state="note", found=f"not there; for {program.use}", remedy=remedy)
    process = await asyncio.create_subprocess_exec(
        path, *program.version, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    said, _ = await process.communicate()
    first = said.decode(errors="replace").partition("\n")[0].strip()
    return Finding(what=program.name, state="ok", found=first or path)


async def _containers(settings: Settings) -> Finding:
    """The container engine, which is worth a note where it is not asked for."""
    finding = (await _executors(settings, ("container",)))[0]
    is_wanted = settings.worker.executor == "container"
    return finding if finding.state == "ok" or is_wanted else msgspec.structs.replace(finding, state="note")


async def _executors(settings: Settings, names: tuple[ExecutorName, ...] = ("sandbox", "process")) -> list[Finding]:
    with tempfile.TemporaryDirectory(prefix="buildyard-doctor-") as folder:
        probes = await probe_executors(settings, Path(folder), names)
    findings = []
    for name, probe in probes.items():
        state = "missing" if not probe.usable else "note" if probe.missing else "ok"
        found = "; ".join(probe.notes) if probe.usable else "does not work here"
        findings.append(Finding(what=f"executor {name}", state=state, found=found, remedy="; ".join(probe.missing)))
    return findings


async def _server(settings: Settings) -> Finding:
    client = NativeClient(settings.client_url, authorization(settings))
    try:
        await client.builds(limit=1)
    except Unavailable:
        remedy = "start one with: buildyard serve; or name one by BUILDYARD_URL"
        return Finding(what="server", state="note", found=f"none on {settings.client_url}", remedy=remedy)
    except EngineError as exc:
        remedy = "set BUILDYARD_TOKEN; make one with: buildyard token create"
        return Finding(what="server", state="note", found=f"{settings.client_url}: {exc}", remedy=remedy)
    finally:
        await client.close()
    return Finding(what="server", state="ok", found=settings.client_url)
