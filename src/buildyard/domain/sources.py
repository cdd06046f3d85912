"""Rules for where source may come from: repository addresses, commits, branch names, network addresses."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote, unquote

from buildyard.domain.errors import Fault
from buildyard.domain.specs import GitSource, NamedSource

SETTING = "BUILDYARD_ALLOW_LOCAL_SOURCES"
"""The setting that a refusal of a local source names."""

MAX_URL = 2048
MAX_BRANCH = 250

_PORTS = {"https": 443, "http": 80, "git": 9418, "ssh": 22}
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^@/:]*)(?::(?P<password>[^@/]*))?@)?"
    r"(?P<host>\[[^\]/]*\]|[^:/@\[\]]*)(?::(?P<port>[0-9]{0,5}))?(?P<path>/.*)?"
)
_SCP = re.compile(r"(?P<user>[^@/:\s]+)@(?P<host>\[[^\]/]+\]|[^@:/\s\[\]]{2,}):(?P<path>[^:].*)")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*")
_NUMERIC_HOST = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*")
_USER = re.compile(r"[A-Za-z0-9_.~%!$&'()*+,;=][A-Za-z0-9_.~%!$&'()*+,;=-]*")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/@\s'\"]+@")
_SSH_USER = re.compile(r"ssh://[^@/:]*@")
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")

_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """What fetching may do. `allow_local`: files of this machine and private addresses.

    `environment` is what git and ssh are given besides their own variables (PATH, HOME, proxies); its reader
    has chosen which variables may pass.
    """

    allow_local: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A checked repository address. `scheme` is https, http, git, ssh or file; `port` is given for all but file.

    A `path` without a slash at its beginning is relative to the user's home, as in `user@host:path`.
    """

    scheme: str
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    path: str

    @property
    def bare(self) -> str:
        """The URL without a password and, but for ssh, without a user: fit for logs, arguments and files."""
        if self.scheme == "file":
            return f"file://{quote(self.path)}"
        user = f"{self.user}@" if self.scheme == "ssh" and self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if not self.path.startswith("/"):
            return f"{user}{host}:{self.path}"
        port = "" if _PORTS[self.scheme] == self.port else f":{self.port}"
        return f"{self.scheme}://{user}{host}{port}{self.path}"

    @property
    def full(self) -> str:
        """The URL with its credentials: what tells one cached repository from another."""
        if self.scheme == "ssh" or not (self.user or self.password):
            return self.bare
        userinfo = quote(self.user, safe="") + (f":{quote(self.password, safe='')}" if self.password else "")
        return self.bare.replace("://", f"://{userinfo}@", 1)


def check_source(source: GitSource, at: str, *, allow_local: bool) -> list[Fault]:
    """Everything wrong with a git source that can be seen without the network; `at` is its path in the request."""
    address = read_address(source.url, f"{at}.url", allow_local=allow_local)
    faults = [address] if isinstance(address, Fault) else []
    if source.commit:
        faults += check_commit(source.commit, f"{at}.commit")
    if source.branch:
        faults += check_branch(source.branch, f"{at}.branch")
    return faults


def check_commit(text: str, at: str) -> list[Fault]:
    """A commit is named by 7 to 64 lower-case hexadecimal digits."""
    if _COMMIT.fullmatch(text):
        return []
    return [Fault(at, "must be 7 to 64 lower-case hexadecimal digits", "commit")]


def is_exact(commit: str) -> bool:
    """Whether a checked commit is a whole object name (SHA-1 or SHA-256), not an abbreviation."""
    return len(commit) in (40, 64)


def check_branch(text: str, at: str) -> list[Fault]:
    """The rules of `git check-ref-format --branch` for a branch, a tag or a full name (`refs/…`), and a length."""
    segments = text.split("/")
    wrong = (
        not text
        or len(text.encode("utf-8", "replace")) > MAX_BRANCH
        or text.startswith("-")
        or text.endswith((".", "/"))
        or text in ("@", "HEAD")
        or _BAD_REF.search(text) is not None
        or any(segment.startswith(".") or segment.endswith(".lock") or not segment for segment in segments)
        or any("\ud800" <= character <= "\udfff" for character in text)
    )
    return [Fault(at, "is not a name that git allows for a branch or tag", "branch")] if wrong else []


def input_name(source: NamedSource) -> str:
    """What one of several sources is called among those of its evaluation: the same words mean the same place."""
    return f"{source.folder} {source.git.url} {source.git.commit or source.git.branch}".strip()


def read_address(text: str, at: str, *, allow_local: bool) -> Address | Fault:
    """Read a repository's URL, `user@host:path` or absolute local path; or say what is wrong with it.

    Host names are not resolved here: see `is_private` for what is to be done with their addresses.
    """
    if not text or len(text) > MAX_URL:
        return Fault(at, f"must have 1 to {MAX_URL} characters", "url")
    if _UNSAFE.search(text) or text.startswith("-") or "\ud800" <= max(text) <= "\udfff":
        return Fault(at, "must not begin with - or hold spaces, backslashes or control characters", "url")
    if text.startswith("/"):
        return _file(text, at, allow_local=allow_local)
    if match := _URL.fullmatch(text):
        return _from_url(match, at, allow_local=allow_local)
    if (match := _SCP.fullmatch(text)) and "://" not in text:
        login = _Login(match["user"], "")
        return _network("ssh", match["host"], 22, login, match["path"], at, allow_local=allow_local)
    return Fault(at, "is not a repository address (https://, http://, git://, ssh:// or user@host:path)", "url")


def read_http_url(text: str, at: str, *, allow_local: bool) -> Address | Fault:
    """Read the http(s) address that a message is sent to: no credentials, a path and a query of its own.

    As with `read_address`, host names are still to be resolved, and their addresses checked.
    """
    if not text or len(text) > MAX_URL:
        return Fault(at, f"must have 1 to {MAX_URL} characters", "url")
    match = None if _UNSAFE.search(text) or not text.isascii() or "#" in text else _URL.fullmatch(_with_path(text))
    if match is None or match["scheme"].lower() not in ("http", "https"):
        return Fault(at, "must be an address like https://host/path, in plain ASCII, without #", "url")
    if match["user"] is not None:
        return Fault(at, "must hold no user and no password", "url")
    address = _from_url(match, at, allow_local=allow_local)
    return replace(address, path=address.path.removeprefix("/.")) if isinstance(address, Address) else address


def _with_path(url: str) -> str:
    """A URL whose path is not empty, for `_network` asks for one; `/.` is taken away again."""
    return re.sub(r"^([A-Za-z]+://[^/?]*)/?", r"\1/./", url, count=1)


def check_http_url(text: str, at: str, *, allow_local: bool) -> list[Fault]:
    """What is wrong with the address of a message, as far as it can be seen without the network."""
    found = read_http_url(text, at, allow_local=allow_local)
    return [found] if isinstance(found, Fault) else []


@dataclass(frozen=True, slots=True)
class _Login:
    user: str
    password: str


def _from_url(match: re.Match[str], at: str, *, allow_local: bool) -> Address | Fault:
    scheme = match["scheme"].lower()
    if scheme == "file":
        if match["host"] not in ("", "localhost") or match["user"] or match["port"]:
            return Fault(at, "a file URL is written file:///absolute/path", "url")
        return _file(unquote(match["path"] or ""), at, allow_local=allow_local)
    if scheme not in _PORTS:
        return Fault(at, f"the scheme {scheme}:// is not allowed (https, http, git and ssh are)", "url")
    port = int(match["port"] or _PORTS[scheme])
    if not 0 < port < 65536:
        return Fault(at, "the port must lie between 1 and 65535", "url")
    login = _Login(match["user"] or "", match["password"] or "")
    return _network(scheme, match["host"], port, login, match["path"] or "", at, allow_local=allow_local)


def _file(path: str, at: str, *, allow_local: bool) -> Address | Fault:
    if not allow_local:
        return Fault(at, f"files of the server are not allowed as a source (setting {SETTING})", "local_source")
    if not path.startswith("/") or path.startswith("//") or re.search(r"[\x00-\x1f\x7f]", path):
        return Fault(at, "a file URL is written file:///absolute/path", "url")
    return Address(scheme="file", path=path)


def _network(
    scheme: str, host: str, port: int, login: _Login, path: str, at: str, *, allow_local: bool
) -> Address | Fault:
    host = host.lower()
    literal = _literal(host)
    if isinstance(literal, str):
        return Fault(at, literal, "url")
    if literal is not None:
        host = str(literal)
    local = host == "localhost" or host.endswith(".localhost") or (literal is not None and is_private(host))
    if local and not allow_local:
        return Fault(at, f"the private address {host} is not allowed (setting {SETTING})", "local_source")
    if path in ("", "/") or "#" in path:
        return Fault(at, "must name a repository after the host, without #", "url")
    if scheme == "git" and (login.user or login.password):
        return Fault(at, "git:// takes no user and no password", "url")
    if scheme == "ssh" and (login.password or (login.user and not _USER.fullmatch(login.user))):
        return Fault(at, "ssh takes a plain user name and no password", "url")
    user, password = unquote(login.user), unquote(login.password)
    if re.search(r"[\x00-\x1f\x7f]", user + password):
        return Fault(at, "user and password must not hold control characters", "url")
    return Address(scheme=scheme, host=host, port=port, user=user, password=password, path=path)


def _literal(host: str) -> IPv4Address | IPv6Address | str | None:
    """The address that a host is written as; None for a name; text says what is wrong.

    Odd spellings of addresses (`0x7f.1`, `2130706433`), a dot at the end and characters outside ASCII are
    refused, for the programs that connect read them in ways of their own.
    """
    try:
        address = ip_address(host[1:-1] if host.startswith("[") else host)
    except ValueError:
        if _NUMERIC_HOST.fullmatch(host):
            return "write an address as four decimal numbers"
        named = _HOST.fullmatch(host) and len(host) <= 253
        return None if named else "the host must be a name in plain ASCII (xn--… for others) or an address"
    if isinstance(address, IPv6Address) and (address.scope_id or not host.startswith("[")):
        return "write an IPv6 address in brackets, without a zone"
    return address


def is_private(address: str) -> bool:
    """Whether an IP address is anything but a public unicast one (also behind IPv4-in-IPv6 forms)."""
    parsed = ip_address(address.split("%", 1)[0])
    if isinstance(parsed, IPv6Address):
        inner = _embedded(parsed)
        if inner is not None:
            return is_private(str(inner))
        if parsed in _NAT64_LOCAL or parsed.is_site_local:
            return True
    return not parsed.is_global or parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for: mapped, 6to4, Teredo, NAT64."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def resolve_relative(parent: Address, url: str) -> str:
    """A submodule's URL: `./x` and `../x` start from its parent's path on the same host, others stand for themselves.

    The answer is unchecked text, to be read with `read_address`.
    """
    if not url.startswith(("./", "../")):
        return url
    segments = parent.path.rstrip("/").split("/")
    for segment in url.split("/"):
        if segment == ".." and segments not in ([], [""]):
            segments.pop()
        elif segment not in ("", ".", ".."):
            segments.append(segment)
    return replace(parent, path="/".join(segments)).full


def shown_url(url: str) -> str:
    """A repository's address without credentials, for people; the user of ssh is none."""
    return url if _SSH_USER.match(url) else masked(url)


def masked(text: str) -> str:
    """Text with the user and password of every URL in it replaced by `***`."""
    return _USERINFO.sub(r"\1***@", text)
