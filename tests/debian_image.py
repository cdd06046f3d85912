"""An image with a real apt and dpkg, and a small repository of packages inside: made of this machine's own programs."""

import hashlib
import subprocess
from pathlib import Path

from needs import need, need_program
from podman import Podman, import_image, make_root_tar

IMAGE = "localhost/buildyard-debian:latest"
REPOSITORY = "file:/srv/packages ./"
"""What a manifest names to have the repository; it is signed by nobody, and apt is told so in the image."""

PACKAGE = "buildyard-greeting"
_PROGRAMS = (
    "apt-get", "diff", "dpkg", "dpkg-deb", "dpkg-split", "ldconfig", "mktemp", "start-stop-daemon", "tar",
    "update-alternatives",
)  # fmt: skip
_CONTROL = f"""Package: {PACKAGE}
Version: 1.0
Architecture: all
Maintainer: Tests <tests@example.org>
Description: says hello
"""


def import_debian(podman: Podman, folder: Path) -> None:
    """Make the image; `folder` is for what it is made of."""
    methods = Path("/usr/lib/apt/methods")
    need(methods.is_dir(), "apt")
    need_program("dpkg-deb")
    _make_repository(folder / "packages")
    empty = folder / "empty"
    empty.mkdir()
    (folder / "settings").write_text('APT::Get::AllowUnauthenticated "1";\nAcquire::AllowInsecureRepositories "1";\n')
    (folder / "status").touch()
    folders = (
        "etc/apt/sources.list.d", "etc/apt/preferences.d", "var/cache/apt/archives/partial",
        "var/lib/apt/lists/partial", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers",
        "var/log/apt",
    )  # fmt: skip
    trees = {
        **dict.fromkeys(folders, empty),
        "etc/apt/apt.conf.d/99tests": folder / "settings",
        "var/lib/dpkg/status": folder / "status",
        "var/lib/dpkg/available": folder / "status",
        "usr/lib/apt/methods": methods,
        "usr/share/dpkg": Path("/usr/share/dpkg"),
        "srv/packages": folder / "packages",
    }
    make_root_tar(folder / "debian.tar", more=_PROGRAMS, trees=trees)
    import_image(podman, folder / "debian.tar", IMAGE)


def _make_repository(folder: Path) -> None:
    """One package whose program says hello, and the list of it."""
    root = folder.with_name("root")
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(_CONTROL)
    (root / "usr" / "bin").mkdir(parents=True)
    program = root / "usr" / "bin" / PACKAGE
    program.write_text("#!/bin/sh\necho hello from a package\n")
    program.chmod(0o755)
    folder.mkdir()
    file = folder / f"{PACKAGE}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, file], check=True, capture_output=True)
    data = file.read_bytes()
    more = f"Filename: ./{file.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    (folder / "Packages").write_text(_CONTROL + more)
