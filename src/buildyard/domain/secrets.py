"""What secrets are: their kinds, their names, and how a job that names one gets it."""

import re
from dataclasses import dataclass, field
from enum import StrEnum

from buildyard.domain.errors import Fault
from buildyard.domain.paths import check_path, normal
from buildyard.domain.specs import SecretUse

SHORTEST_MASKED = 4
"""A shorter text is not looked for in logs: it would be found everywhere."""

MOST_BYTES = 64 * 1024
FILE_MODE = 0o600

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_RESERVED = ("BUILDYARD", "LD_", "GCONV_PATH", "GLIBC_TUNABLES", "LOCPATH", "MALLOC_")
"""What Buildyard says itself, and what would make the programs around a job load something."""


class SecretKind(StrEnum):
    """What a secret is; it decides how jobs get it unless they say otherwise."""

    VARIABLE = "variable"
    FILE = "file"
    SSH_KEY = "ssh_key"
    PGP_KEY = "pgp_key"
    REGISTRY = "registry"


INSTALL = "install"
"""How a job is given a secret that it wants where programs look for it: keys with the others, files at their paths."""

PATHS = {
    SecretKind.VARIABLE: ".secrets/{name}",
    SecretKind.FILE: ".secrets/{name}",
    SecretKind.SSH_KEY: ".ssh/{name}",
    SecretKind.PGP_KEY: ".secrets/{name}",
    SecretKind.REGISTRY: ".docker/config.json",
}
"""Where a secret is put as a file, below the job's home folder, if neither it nor the job says so."""


@dataclass(frozen=True, slots=True)
class SecretValue:
    """Bytes that no log and no `repr` shows; `reveal` is the one way to them."""

    _data: bytes = field(repr=False)

    def reveal(self) -> bytes:
        """The bytes themselves."""
        return self._data


@dataclass(frozen=True, slots=True, kw_only=True)
class Handing:
    """How a job gets a secret: in a variable, or as a file at a path below its home, whose path is in the variable.

    No variable stands for a file alone.
    """

    variable: str
    path: str = ""
    mode: int = FILE_MODE


INSTALLED = {SecretKind.SSH_KEY: ".ssh/{uid}", SecretKind.PGP_KEY: ".secrets/{uid}.asc"}
"""Where keys that are to be installed are put, whatever path they have."""


def handing(use: SecretUse, kind: SecretKind, *, path: str, mode: int, uid: str = "") -> Handing:
    """What a job's wish and the secret's own kind, path and mode come to."""
    if use.given == INSTALL and kind is not SecretKind.VARIABLE:
        if kind in INSTALLED:
            return Handing(variable="", path=INSTALLED[kind].format(uid=uid))
        return Handing(variable="", path=use.path or path or PATHS[kind].format(name=use.name), mode=mode)
    variable = use.variable or re.sub(r"[^A-Za-z0-9_]", "_", use.name)
    given = "" if use.given == INSTALL else use.given
    if (given or ("env" if kind is SecretKind.VARIABLE else "file")) == "env":
        return Handing(variable=variable)
    where = use.path or path or PATHS[kind].format(name=use.name)
    return Handing(variable=variable, path=where, mode=mode if use.mode is None else use.mode)


def value_fault(kind: SecretKind, data: bytes) -> str:
    """Why this cannot be the value of a secret; empty if it can."""
    if len(data) > MOST_BYTES:
        return f"must not be longer than {MOST_BYTES // 1024} KiB"
    if len(data.strip()) < SHORTEST_MASKED:
        return f"must have at least {SHORTEST_MASKED} characters: a shorter one could not be masked in logs"
    if kind is SecretKind.VARIABLE and b"\0" in data:
        return "must not hold NUL bytes, which no variable can; make it a file"
    return ""


def name_fault(name: str) -> str:
    """Why this cannot be the name of a secret; empty if it can."""
    if not _NAME.fullmatch(name):
        return "must begin with a letter or _ and have at most 100 letters, digits, _, . and -"
    return ""


def variable_fault(name: str) -> str:
    """Why this cannot be the variable that a job gets a secret in; empty if it can."""
    if not _VARIABLE.fullmatch(name):
        return "is not a name for a variable (letters, digits and _)"
    if name.startswith(_RESERVED):
        return "is a variable that jobs cannot be given"
    return ""


def home_path(path: str) -> str:
    """A path below the job's home folder as it is kept: `~/.netrc` is `.netrc`."""
    return normal(path.removeprefix("~/"))


def path_faults(path: str, field_name: str) -> list[Fault]:
    """What is wrong with a path below the job's home folder."""
    return check_path(path.removeprefix("~/"), field_name)
