"""What `make run` does: starts the server, which then builds this checkout with every Python that the machine has.

Jobs do not see home folders, so Pythons that live there are made known to them: by their folders, and on their PATH.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SYSTEM = ("/usr/", "/bin/", "/opt/")
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OLDEST, NEWEST = 11, 20
ELSEWHERE = (".pyenv/versions/*/bin", ".local/share/uv/python/*/bin")
"""Where tools that install Pythons for a person put them, in the home folder."""

ASK = "import json, sys; print(json.dumps([sys.version_info[:2], sys.base_prefix, sys.prefix]))"


@dataclass(frozen=True)
class Python:
    """An interpreter: its minor version and where it is installed."""

    version: str
    prefix: str


def ask(program: str) -> Python | None:
    """What an interpreter says of itself; None if it does not run or is too old."""
    try:
        said = subprocess.run([program, "-c", ASK], capture_output=True, check=True, timeout=30).stdout
        (major, minor), prefix, _ = json.loads(said)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Python(f"{major}.{minor}", prefix) if (major, minor) >= (3, OLDEST) else None


def find_pythons() -> list[Python]:
    """One Python of each version from 3.11 on, those of the system before others."""
    found: dict[str, Python] = {}
    folders = [*STANDARD_PATH.split(":"), *os.get_exec_path(), str(ROOT / ".venv" / "bin")]
    folders += [str(folder) for pattern in ELSEWHERE for folder in sorted(Path.home().glob(pattern))]
    for minor in range(OLDEST, NEWEST):
        for folder in folders:
            program = f"{folder}/python3.{minor}"
            if f"3.{minor}" in found:
                break
            python = ask(program) if os.access(program, os.X_OK) else None
            if python is not None and os.access(f"{python.prefix}/bin/python{python.version}", os.X_OK):
                found.setdefault(python.version, python)
    return list(found.values())


def is_hidden(prefix: str) -> bool:
    """Whether a sandbox does not show this folder by itself."""
    return not f"{prefix}/".startswith(SYSTEM)


def environment_for(pythons: list[Python]) -> dict[str, str]:
    """This process's environment, with what the server's jobs need to know added; what is set already stays."""
    own = ROOT / ".venv"
    base = ask(str(own / "bin" / "python"))
    prefixes = [python.prefix for python in pythons]
    shown = [prefix for prefix in [*prefixes, *([base.prefix] if base else [])] if is_hidden(prefix)]
    path = [STANDARD_PATH, *(f"{prefix}/bin" for prefix in prefixes if is_hidden(prefix)), f"{own}/bin"]
    environment = dict(os.environ)
    environment.setdefault("BUILDYARD_DATA", str(ROOT / "data"))
    environment.setdefault("BUILDYARD_WORKER_SEARCH_PATH", ":".join(path))
    already = [folder for folder in environment.get("BUILDYARD_SANDBOX_READ_ONLY_PATHS", "").split(",") if folder]
    environment["BUILDYARD_SANDBOX_READ_ONLY_PATHS"] = ",".join(dict.fromkeys([*already, *shown, str(own)]))
    return environment


def main() -> None:
    """Become the server."""
    pythons = find_pythons()
    argv = [str(ROOT / ".venv" / "bin" / "buildyard"), "serve", "--run", str(ROOT)]
    if pythons:
        argv += ["--matrix", "python=" + ",".join(python.version for python in pythons)]
    os.chdir(ROOT)
    sys.stdout.write(f"Pythons found: {', '.join(python.version for python in pythons) or 'only python3'}\n")
    sys.stdout.flush()
    os.execve(argv[0], argv, environment_for(pythons))


if __name__ == "__main__":
    main()
