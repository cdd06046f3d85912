"""What a sandbox sees of the host's files: the system without its secrets, and nothing that belongs to anyone."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

HOME = "/home/build"
WORKSPACE = "/workspace"
HOST_NAME = "buildyard"
SLIRP_DNS = "10.0.2.3"

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix/store", "/gnu/store")
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


def system_mounts(read_only_paths: Iterable[Path], hidden_paths: Iterable[Path]) -> tuple[str, ...]:
    """Bubblewrap's options for the parts that all jobs see alike. Hidden paths win over read-only ones."""
    hidden = {os.path.realpath(path) for path in hidden_paths}
    options: list[str] = []
    shown: list[str] = []
    for path in _SYSTEM:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
            shown.append(path)
    options += _extra_mounts(read_only_paths, hidden, shown)
    if os.path.isdir(_CPUS):
        options += [*open_folders("/sys", "/sys/devices", "/sys/devices/system"), "--ro-bind", _CPUS, _CPUS]
    for path in (*_SECRETS, *sorted(hidden)):
        options += _mask(path, shown)
    return tuple(options)


def _extra_mounts(paths: Iterable[Path], hidden: set[str], shown: list[str]) -> Iterator[str]:
    """Show further paths, under their own name and, if that is a symbolic link, under the real one too."""
    for path in dict.fromkeys(name for given in paths for name in (os.path.realpath(given), os.path.abspath(given))):
        real = os.path.realpath(path)
        if os.access(real, os.R_OK) and not _is_below(path, shown) and not _is_below(real, hidden):
            yield from (
                *open_folders(*reversed([os.fspath(each) for each in Path(path).parents][:-1])),
                "--ro-bind",
                real,
                path,
            )
            shown.append(path)


def open_folders(*paths: str) -> tuple[str, ...]:
    """The options that make empty folders that everyone may enter, unlike those bubblewrap makes by itself."""
    return tuple(word for path in paths for word in ("--perms", "0755", "--dir", path))


def _is_below(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of the folders or lies in one."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _mask(path: str, shown: list[str]) -> tuple[str, ...]:
    """Put something empty over a path, if it is there to be seen."""
    if not _is_below(path, shown) or not os.path.lexists(path) or os.path.islink(path):
        return ()
    return ("--tmpfs", path) if os.path.isdir(path) else ("--ro-bind", "/dev/null", path)


def write_system_files(folder: Path, uid: int, gid: int) -> tuple[str, ...]:
    """Write the sandbox's own user, group and host tables below `folder`; the options that lay them over the host's."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "passwd": [*_system_entries("/etc/passwd"), f"build:x:{uid}:{gid}:Build:{HOME}:/bin/sh"],
        "group": [*_system_entries("/etc/group"), f"build:x:{gid}:"],
        "hosts": [*_lines("/etc/hosts"), f"127.0.0.1 localhost {HOST_NAME}"],
    }
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
        _write(folder / "resolv.conf", [f"nameserver {SLIRP_DNS}"])
        return ("--ro-bind", os.fspath(folder / "resolv.conf"), real)
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
