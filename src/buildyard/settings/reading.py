"""Reads settings from the file and the environment, and says exactly what is wrong with them."""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from buildyard.settings.model import Secret, Settings, is_loopback

CONFIG_VARIABLE = "BUILDYARD_CONFIG"
CONFIG_FILE = "buildyard.toml"
KNOWN_BESIDE = frozenset({CONFIG_VARIABLE, "BUILDYARD_REQUIRE"})
"""Variables that are no settings but belong to Buildyard: the file's place, and what tests require."""


class BadSettings(Exception):
    """A setting is unknown, malformed or not allowed; the message says which, where it was read, and what would do."""


def process_environment() -> dict[str, str]:
    """A copy of this process's environment: the one place where it is read."""
    return dict(os.environ)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings of a file (the one that `environment` names, or the data folder's) and of variables.

    Raises BadSettings for the first thing that is wrong.
    """
    path = _config_path(environment)
    values = _from_file(path) if path else {}
    for variable, (key, kind) in _variables().items():
        if variable in environment:
            values[key] = _parse(environment[variable], kind, f"variable {variable}")
    settings = _build(values, environment)
    _check(settings)
    return settings


def _config_path(environment: Mapping[str, str]) -> Path | None:
    if named := environment.get(CONFIG_VARIABLE):
        return Path(named)
    path = Path(environment.get("BUILDYARD_DATA") or "data") / CONFIG_FILE
    return path if path.is_file() else None


def _build(values: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    parts: dict[str, Any] = {}
    for part in fields(Settings):
        if is_dataclass(part.type) and isinstance(part.type, type):
            prefix = f"{part.name}."
            given = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
            parts[part.name] = part.type(**given)
    if "data" in values:
        parts["data"] = values["data"].absolute()
    known = set(_variables()) | KNOWN_BESIDE
    return Settings(
        **parts,
        job_environment=_passing(environment, parts["worker"].pass_environment),
        source_environment=_passing(environment, (*parts["sources"].pass_environment, "PATH", "HOME")),
        container_places=_container_places(environment),
        unknown_variables=tuple(sorted(n for n in environment if n.startswith("BUILDYARD_") and n not in known)),
    )


def _container_places(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Where a container engine may be, the first wins: where Docker's own clients look, then the usual sockets."""
    if named := environment.get("DOCKER_HOST"):
        return (named,)
    own = environment.get("XDG_RUNTIME_DIR")
    sockets = ("/run/podman/podman.sock", f"{own}/podman/podman.sock" if own else "", "/var/run/docker.sock")
    return tuple(f"unix://{path}" for path in sockets if path)


def as_variables(settings: Settings, *parts: str) -> dict[str, str]:
    """The variables that give another process these settings: the data folder and the named parts of them."""
    found = {}
    for key, (setting, _) in setting_keys().items():
        part, _, name = key.rpartition(".")
        if part in parts or key == "data":
            value = getattr(getattr(settings, part), name) if part else getattr(settings, name)
            found[setting.metadata["variable"]] = _as_text(value)
    return found


def _as_text(value: Any) -> str:
    match value:
        case Secret():
            return value.reveal()
        case tuple():
            return ",".join(value)
        case dict():
            return ",".join(f"{name}={item}" for name, item in value.items())
        case bool():
            return "1" if value else "0"
        case _:
            return str(value)


def _passing(environment: Mapping[str, str], patterns: tuple[str, ...]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def _check(settings: Settings) -> None:
    """Rules between settings."""
    server = settings.server
    if settings.build_server.auth == "open" and settings.reached_as:
        listens = not is_loopback(server.host)
        exposing = "server.host (BUILDYARD_HOST)" if listens else "server.public_url (BUILDYARD_PUBLIC_URL)"
        raise BadSettings(
            f"build_server.auth = open (BUILDYARD_BUILD_SERVER_AUTH) is allowed only on a loopback address, "
            f"but {exposing} names {settings.reached_as}: use token"
        )
    if not 0 <= server.port <= 65535:
        raise BadSettings(f"server.port (BUILDYARD_PORT) must lie between 0 and 65535, not {server.port}")
    for name, url in (("server.public_url (BUILDYARD_PUBLIC_URL)", server.public_url),
                      ("client.url (BUILDYARD_URL)", settings.client.url)):  # fmt: skip
        if url and not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?|unix:///[^\s]+", url):
            raise BadSettings(f"{name} must be an address like http://host:8010, not {url!r}")
    _check_work(settings)
    _check_manifests(settings)
    _check_mail(settings)
    scheme = settings.database_url.split(":", 1)[0]
    if scheme not in ("sqlite", "postgresql", "postgres"):
        raise BadSettings(
            f"database.url (BUILDYARD_DATABASE_URL) must begin with sqlite:/// or postgresql://, not {scheme}"
        )
    if settings.blobs.url and not settings.blobs.url.startswith("s3://"):
        raise BadSettings(f"blobs.url (BUILDYARD_BLOBS_URL) must begin with s3://, not {settings.blobs.url!r}")


def _check_work(settings: Settings) -> None:
    """Numbers and addresses that make no sense."""
    if settings.worker.slots < 0 or settings.worker.drain_seconds < 0:
        raise BadSettings("worker.slots (BUILDYARD_WORKERS) and worker.drain_seconds must not be negative")
    if settings.container.host and not settings.container.host.startswith(("unix:///", "tcp://")):
        raise BadSettings(
            "container.host (BUILDYARD_CONTAINER_HOST) must be unix:///path or tcp://host:port, "
            f"not {settings.container.host!r}"
        )
    if settings.server.unsupported_seconds < 0:
        raise BadSettings("server.unsupported_seconds (BUILDYARD_UNSUPPORTED_SECONDS) must not be negative")
    if not 1 <= settings.server.lease_seconds <= 86_400:
        raise BadSettings("server.lease_seconds (BUILDYARD_LEASE_SECONDS) must lie between 1 and 86400")
    for kept in fields(settings.retention):
        value = getattr(settings.retention, kept.name)
        most = 36_500 if kept.name.endswith("_days") else 2**40 if kept.name.endswith("_bytes") else 10_000_000
        if not 0 <= value <= most:
            where = f"retention.{kept.name} ({kept.metadata['variable']})"
            raise BadSettings(f"{where} must lie between 0 and {most}, not {value}")


def _check_manifests(settings: Settings) -> None:
    """Times of jobs made of manifests: at most a week."""
    for name, least in (("timeout_minutes", 1), ("shell_minutes", 0), ("failed_minutes", 0)):
        if not least <= getattr(settings.sourcehut, name) <= 10_080:
            variable = next(one for one in fields(settings.sourcehut) if one.name == name).metadata["variable"]
            raise BadSettings(f"sourcehut.{name} ({variable}) must lie between {least} and 10080")


def _check_mail(settings: Settings) -> None:
    """Mail needs a sender, and a password is not sent in the clear."""
    mail = settings.mail
    if not 1 <= settings.telling.tries <= 100:
        raise BadSettings("telling.tries (BUILDYARD_TELLING_TRIES) must lie between 1 and 100")
    if not 0.1 <= settings.telling.timeout_seconds <= 600:
        raise BadSettings("telling.timeout_seconds (BUILDYARD_TELLING_TIMEOUT_SECONDS) must lie between 0.1 and 600")
    if not mail.host:
        return
    if not re.fullmatch(r"[^\s@<>\x00-\x1f]+@[A-Za-z0-9.-]+", mail.sender) or not mail.sender.isascii():
        raise BadSettings(f"mail.sender (BUILDYARD_MAIL_FROM) must be a mail address, not {mail.sender!r}")
    if not 0 <= mail.port <= 65535:
        raise BadSettings(f"mail.port (BUILDYARD_MAIL_PORT) must lie between 0 and 65535, not {mail.port}")
    if mail.user and mail.security == "none" and not is_loopback(mail.host):
        raise BadSettings("mail.user (BUILDYARD_MAIL_USER) needs mail.security = starttls or tls, but on loopback")


# --- the file -----------------------------------------------------------------------------------


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as exc:
        raise BadSettings(f"cannot read {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BadSettings(f"{path}: {exc}") from exc
    kinds = {key: kind for key, (_, kind) in setting_keys().items()}
    values: dict[str, Any] = {}
    for key, value in _flat(document, "", kinds):
        where = f"{path}, line {_line_of(key, text)}"
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, 1)
            raise BadSettings(f"{where}: unknown setting {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        values[key] = _convert(value, kinds[key], f"{where}: {key}")
    return values


def _flat(table: Mapping[str, Any], prefix: str, kinds: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings of a document as dotted keys; tables that are a setting's value stay whole."""
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in kinds:
            yield from _flat(value, f"{key}.", kinds) if value else [(key, value)]
        else:
            yield key, value


def _line_of(key: str, text: str) -> int:
    """The line that sets `key`, or that opens the nearest table around it; 1 if it cannot be told."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            table = f"{_bare(header[1])}."
            found.setdefault(table[:-1], number)
        elif assignment := re.match(r"\s*([\w\"'.\s-]+?)\s*=", line):
            found.setdefault(table + _bare(assignment[1]), number)
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        if (number := found.get(".".join(parts[:length]), 0)) > 0:
            return number
    return 1


def _bare(key: str) -> str:
    return re.sub(r"[\"'\s]", "", key)


# --- values -------------------------------------------------------------------------------------


def setting_keys() -> dict[str, tuple[Field[Any], Any]]:
    """Every setting by its dotted key: its field and its type."""
    keys: dict[str, tuple[Field[Any], Any]] = {}
    for part in fields(Settings):
        if part.metadata:
            keys[part.name] = (part, get_type_hints(Settings)[part.name])
        elif is_dataclass(part.type) and isinstance(part.type, type):
            hints = get_type_hints(part.type)
            keys |= {f"{part.name}.{setting.name}": (setting, hints[setting.name]) for setting in fields(part.type)}
    return keys


def _variables() -> dict[str, tuple[str, Any]]:
    return {setting.metadata["variable"]: (key, kind) for key, (setting, kind) in setting_keys().items()}


WORDS = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}


def _parse(text: str, kind: Any, where: str) -> Any:
    """A variable's text as the setting's type."""
    if kind is bool:
        word = text.strip().lower()
        if word not in WORDS:
            raise BadSettings(f"{where} must be 1, 0, true, false, on or off, not {text!r}")
        return WORDS[word]
    if kind is int:
        return _size(text, where)
    if kind is float:
        try:
            return float(text)
        except ValueError as exc:
            raise BadSettings(f"{where} must be a number, not {text!r}") from exc
    if get_origin(kind) is tuple:
        return tuple(item.strip() for item in text.split(",") if item.strip())
    if get_origin(kind) is dict:
        pairs = [item.partition("=") for item in text.split(",") if item.strip()]
        return {name.strip(): value.strip() for name, _, value in pairs}
    return _convert(text, kind, where)


def _convert(value: Any, kind: Any, where: str) -> Any:
    """A value of the file as the setting's type."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise BadSettings(f"{where} must be one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    for fitting, convert in _CONVERSIONS.get(get_origin(kind) or kind, ()):
        if isinstance(value, fitting) and (kind is bool or not isinstance(value, bool)):
            return convert(value, where)
    raise BadSettings(f"{where} must be {kind_text(kind)}, not {value!r}")


def _strings(value: list[Any], where: str) -> tuple[str, ...]:
    if not all(isinstance(item, str) for item in value):
        raise BadSettings(f"{where} must be a list of texts, not {value!r}")
    return tuple(value)


def _size(text: str, where: str) -> int:
    """A whole number, or a size such as `32MiB`."""
    match = re.fullmatch(r"\s*(-?\d+)\s*(?:([KMGT])i?B)?\s*", text)
    if not match:
        raise BadSettings(f"{where} must be a whole number or a size like 32MiB, not {text!r}")
    return int(match[1]) << (10 * " KMGT".index(match[2] or " "))


def _same(value: Any, _where: str) -> Any:
    return value


_CONVERSIONS: dict[Any, tuple[tuple[type, Callable[[Any, str], Any]], ...]] = {
    bool: ((bool, _same),),
    int: ((int, _same), (str, _size)),
    float: ((float, _same), (int, lambda value, _where: float(value))),
    str: ((str, _same),),
    Path: ((str, lambda value, _where: Path(value)),),
    Secret: ((str, lambda value, _where: Secret(value)),),
    tuple: ((list, _strings),),
    dict: ((dict, lambda value, _where: {str(name): str(item) for name, item in value.items()}),),
}


def kind_text(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f"`{word}`" for word in get_args(kind))
    return {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        tuple: "a list of texts",
        dict: "a table of texts",
    }.get(get_origin(kind) or kind, "text")
