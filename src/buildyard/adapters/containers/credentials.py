"""Credentials for registries, from a file in the format of Docker's config.json."""

import base64
import binascii
import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from buildyard.domain.errors import Invalid

_HUB = "docker.io"
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _File(msgspec.Struct, frozen=True):
    auths: dict[str, _Entry] = {}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the file is; it is read anew for each pull, so that a changed one counts. None: no credentials."""

    file: Path | None = field(default=None, repr=False)

    def header(self, reference: str) -> dict[str, str]:
        """The header that gives the engine what it needs for an image's registry, if the file knows that one.

        Raises Invalid for a file that cannot be read.
        """
        if self.file is None:
            return {}
        entries = {_host(name): entry for name, entry in _read(self.file).auths.items()}
        entry = entries.get(registry_of(reference))
        if entry is None:
            return {}
        name, password = _pair(entry, self.file)
        content = {"username": name, "password": password, "serveraddress": registry_of(reference)}
        if entry.identitytoken:
            content = {"identitytoken": entry.identitytoken, "serveraddress": registry_of(reference)}
        return {"X-Registry-Auth": base64.urlsafe_b64encode(msgspec.json.encode(content)).decode()}


def registry_of(reference: str) -> str:
    """The registry that a reference names: its part before the first slash if that looks like a host."""
    host, slash, _ = reference.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        return _HUB
    return _HUB if host in _HUB_NAMES else host


def _host(name: str) -> str:
    """The registry that a key of the file names; old files have whole addresses there."""
    host = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return _HUB if host in _HUB_NAMES else host


def _read(file: Path) -> _File:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError) as exc:
        raise Invalid(f"the registry credentials in {os.fspath(file)} cannot be read: {exc}") from exc


def _pair(entry: _Entry, file: Path) -> tuple[str, str]:
    if entry.username or not entry.auth:
        return entry.username, entry.password
    try:
        name, _, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise Invalid(f"the registry credentials in {os.fspath(file)} hold an `auth` that is not base64") from exc
    return name, password
