"""What a sandbox sees of the host's files: the system without its secrets, and nothing that belongs to anyone."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HOME = "/home/build"
WORKSPACE = "/workspace"
HOST_NAME = "buildyard"
TEMPORARY = "/tmp"  # noqa: S108 - the sandbox's own
SLIRP_DNS = "10.0.2.3"

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix/store", "/gnu/store")
_RESOLVER = "resolv.conf"
_OWN_FOLDERS = ("/proc", "/dev", "/var/tmp", HOME, WORKSPACE)  # noqa: S108 - the sandbox's own
_CPUS = "/sys/devices/system/cpu"
_SECRETS = (
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/security/opasswd",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh/ssh_host_dsa_key",
    "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssh/ssh_host_rsa_key",
    "/etc/ssl/private",
    "/etc/pki/tls/private",
    "/etc/letsencrypt",
    "/etc/krb5.keytab",
    "/etc/wireguard",
    "/etc/openvpn",
    "/etc/ipsec.secrets",
    "/etc/NetworkManager/system-connections",
    "/etc/wpa_supplicant",
    "/etc/ppp/chap-secrets",
    "/etc/ppp/pap-secrets",
    "/etc/docker",
    "/etc/containers/auth.json",
    "/etc/kubernetes",
    "/etc/rancher",
    "/etc/mysql/debian.cnf",
    "/etc/buildyard",
)


@dataclass(frozen=True, slots=True)
class SystemView:
    """Bubblewrap's options for what all jobs see alike: `first` before the job's own folders are shown, `then` after.

    `hidden` are paths that would be seen then and must not be; they may come to exist later.
    `in_temporary` are the places, relative to /tmp, where something is shown inside the job's own /tmp.
    """

    first: tuple[str, ...]
    then: tuple[str, ...]
    hidden: tuple[str, ...]
    in_temporary: tuple[str, ...]


def view_system(read_only_paths: Iterable[Path], hidden_paths: Iterable[Path]) -> SystemView:
    """What jobs see of this machine. Hidden paths win over read-only ones."""
    hidden = {os.path.realpath(path) for path in hidden_paths}
    first: list[str] = []
    shown: list[str] = []
    for path in _SYSTEM:
        if os.path.islink(path):
            first += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            first += ["--ro-bind", path, path]
            shown.append(path)
    if os.path.isdir(_CPUS):
        first += [*open_folders("/sys", "/sys/devices", "/sys/devices/system"), "--ro-bind", _CPUS, _CPUS]
    extra = _further_paths(read_only_paths, hidden, shown)
    then: list[str] = []
    for path in extra:
        parents = [os.fspath(each) for each in Path(path).parents][-2::-1]
        then += [*open_folders(*parents), "--ro-bind", os.path.realpath(path), path]
    visible = tuple(path for path in (*_SECRETS, *sorted(hidden)) if _is_below(path, [*shown, *extra]))
    in_temporary = tuple(os.path.relpath(path, TEMPORARY) for path in extra if _is_below(path, [TEMPORARY]))
    return SystemView(tuple(first), tuple(then), visible, in_temporary)


def _further_paths(paths: Iterable[Path], hidden: set[str], shown: Iterable[str]) -> list[str]:
    """The paths to show besides the system: under their own names and, where these are links, under the real ones too.

    Left out is what is shown already, is to be hidden, cannot be read, or would lie in folders that the job can change.
    In the job's /tmp only folders are shown.
    """
    found: list[str] = []
    for given in paths:
        real = os.path.realpath(given)
        for path in dict.fromkeys((real, os.path.abspath(given))):
            barred = _is_below(path, (*shown, *found, *_OWN_FOLDERS)) or _is_below(real, hidden)
            fits = os.path.isdir(real) or not _is_below(path, [TEMPORARY])
            if fits and not barred and os.access(real, os.R_OK):
                found.append(path)
    return found


def make_mount_points(temporary: Path, places: Iterable[str]) -> None:
    """Make the folders in the job's /tmp on which something will be shown, replacing whatever the job put there.

    Bubblewrap, which may be root, would follow a symbolic link there. Nothing of the job may run meanwhile.
    """
    for place in places:
        at = temporary
        for part in Path(place).parts:
            at = at / part
            if at.is_symlink() or (at.exists() and not at.is_dir()):
                at.unlink()
            at.mkdir(mode=0o755, exist_ok=True)


def open_folders(*paths: str) -> tuple[str, ...]:
    """The options that make empty folders that everyone may enter, unlike those bubblewrap makes by itself."""
    return tuple(word for path in paths for word in ("--perms", "0755", "--dir", path))


def _is_below(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of the folders or lies in one."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def mask(paths: Iterable[str]) -> tuple[str, ...]:
    """The options that put something empty over the paths that exist now."""
    options: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            options += ["--tmpfs", path]
        elif os.path.exists(path):
            options += ["--ro-bind", "/dev/null", path]
    return tuple(options)


def write_system_files(folder: Path, uid: int, gid: int) -> tuple[str, ...]:
    """Write the sandbox's own user, group and host tables below `folder`; the options that lay them over the host's."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "passwd": [*_system_entries("/etc/passwd"), f"build:x:{uid}:{gid}:Build:{HOME}:/bin/sh"],
        "group": [*_system_entries("/etc/group"), f"build:x:{gid}:"],
        "hosts": [*_lines("/etc/hosts"), f"127.0.0.1 localhost {HOST_NAME}"],
    }
    _write(folder / _RESOLVER, [f"nameserver {SLIRP_DNS}"])
    options: list[str] = []
    for name, lines in tables.items():
        _write(folder / name, lines)
        if os.path.isfile(f"/etc/{name}"):
            options += ["--ro-bind", os.fspath(folder / name), f"/etc/{name}"]
    return tuple(options)


def resolver_mounts(folder: Path, *, user_mode: bool) -> tuple[str, ...]:
    """The options that let names be resolved: through slirp4netns, or as the host does where /etc links away."""
    real = os.path.realpath("/etc/resolv.conf")
    if not os.path.lexists("/etc/resolv.conf"):
        return ()
    if user_mode:
        return ("--ro-bind", os.fspath(folder / _RESOLVER), real)
    return ("--ro-bind", real, real) if real != "/etc/resolv.conf" and os.path.isfile(real) else ()


def _write(file: Path, lines: list[str]) -> None:
    """Replace a file at once, as another worker may be reading it."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.write_text("".join(f"{line}\n" for line in lines))
    draft.chmod(0o644)
    draft.replace(file)


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text().splitlines()
    except OSError:
        return []


def _system_entries(file: str) -> list[str]:
    """The lines of a user or group table that belong to the system, not to people."""
    found = []
    for line in _lines(file):
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdecimal() and (int(fields[2]) < 1000 or int(fields[2]) == 65534):
            found.append(line)
    return found
