"""A project of others with a C extension: its source archive from the package index, put into a repository."""

import subprocess
import sys
import tarfile
from pathlib import Path

from e2e.running import environment
from needs import need

PROJECT = "simplejson"
PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
SPEEDUPS = "import simplejson.decoder as d; assert d.c_scanstring; print('with speedups', d.__file__)"


def sdist(folder: Path) -> Path:
    """The newest source archive that the package index has."""
    argv = [str(PYTHON), "-m", "pip", "download", "--quiet", "--no-binary", ":all:", "--no-deps", "--dest", folder]
    done = subprocess.run([*argv, PROJECT], env=environment({}), capture_output=True, text=True, check=False)
    need(done.returncode == 0, f"{PROJECT} from the package index: {done.stderr[-300:]}")
    (archive,) = folder.glob("*.tar.gz")
    return archive


def repository(archive: Path, folder: Path) -> str:
    """A git repository with what the archive holds; its commit."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    git = ["git", "-C", str(root), "-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], check=True)
    subprocess.run([*git, "add", "--all", "--force"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", f"Import {archive.name}"], check=True)
    found = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    root.rename(folder / "repository")
    return found.stdout.strip()
