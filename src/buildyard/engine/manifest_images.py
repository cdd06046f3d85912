"""Which container images the names of manifests stand for."""

import re
from collections.abc import Mapping

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_FAMILIES = {
    "alpine": "docker.io/library/alpine",
    "archlinux": "docker.io/library/archlinux",
    "debian": "docker.io/library/debian",
    "fedora": "docker.io/library/fedora",
    "nixos": "docker.io/nixos/nix",
    "rockylinux": "docker.io/rockylinux/rockylinux",
    "ubuntu": "docker.io/library/ubuntu",
}
"""Repositories whose tags are named as the releases are; engines would look for `alpine/edge` with somebody else."""

_TAGS = {("ubuntu", "lts"): "latest", ("nixos", "unstable"): "latest"}


def image_reference(name: str, images: Mapping[str, str]) -> str:
    """The reference for a name: the operator's, that of a well-known system (`debian/stable`), else the name itself."""
    if name in images:
        return images[name]
    family, _, release = name.partition("/")
    if family not in _FAMILIES or not _TAG.fullmatch(release or "latest"):
        return name
    return f"{_FAMILIES[family]}:{_TAGS.get((family, release), release or 'latest')}"
