"""Decides where git may connect, checks it, and pins the connection to the address that was checked.

How each scheme is pinned: http and https by curl's own table of addresses (`http.curloptResolve`, git 2.37), ssh by
`-o Hostname=ADDRESS` with the host key looked up under the name, git:// by connecting to the address and sending
the name in the protocol. Behind an HTTP proxy the proxy resolves names: then a name is refused if it resolves to a
private address here, and otherwise left to the proxy, which is the operator's.
"""

import base64
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from buildyard.adapters.addresses import public_addresses
from buildyard.adapters.sources.ssh_keys import Identities
from buildyard.domain.errors import Invalid, Unavailable
from buildyard.domain.sources import SETTING, Address, SourcePolicy

_SSH = (
    "ssh -F none -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 "
    "-o StrictHostKeyChecking=accept-new -o ForwardAgent=no -o ClearAllForwardings=yes -o PermitLocalCommand=no"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How to reach a checked address: the URL git is given, and the settings, variables and options that pin it.

    `reader` tells those apart who may read different things there.
    """

    address: Address
    url: str
    protocol: str
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    reader: str = ""


async def find_route(address: Address, policy: SourcePolicy) -> Route:
    """Resolve and check the host. Raises Invalid for a private address, Unavailable for a name without addresses."""
    if address.scheme == "file":
        if not policy.allow_local:
            raise Invalid(f"files of the server are not allowed as a source (setting {SETTING})")
        trusting = ("--upload-pack", "git -c 'safe.directory=*' upload-pack")
        return Route(address=address, url=address.path, protocol="file", options=trusting)
    proxied = _is_proxied(address, policy.environment)
    checked = await _checked_addresses(address, policy, proxied=proxied)
    return pinned(address, checked)


def pinned(address: Address, addresses: Sequence[str]) -> Route:
    """The way to a network address that connects to one of `addresses` only; empty: to wherever its name leads."""
    match address.scheme:
        case "ssh":
            return _ssh_route(address, addresses)
        case "git":
            return _git_route(address, addresses)
        case _:
            return _http_route(address, addresses)


async def _checked_addresses(address: Address, policy: SourcePolicy, *, proxied: bool) -> list[str]:
    """The public addresses of the host, to be pinned; none if any is allowed."""
    if policy.allow_local:
        return []
    try:
        return await public_addresses(address.host, address.port)
    except Unavailable:
        if proxied:
            return []
        raise


def _is_proxied(address: Address, environment: Mapping[str, str]) -> bool:
    """Whether curl will take a proxy for this address, by the variables it reads."""
    if address.scheme not in ("http", "https"):
        return False
    names = (f"{address.scheme}_proxy", "HTTPS_PROXY" if address.scheme == "https" else "", "all_proxy", "ALL_PROXY")
    if not any(environment.get(name) for name in names if name):
        return False
    without = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    ends = [each.strip().lstrip(".").lower() for each in without.split(",") if each.strip()]
    return not any(end == "*" or f".{address.host}".endswith(f".{end}") for end in ends)


def _http_route(address: Address, addresses: Sequence[str]) -> Route:
    settings = {}
    if addresses and address.host not in addresses:
        pinned = ",".join(f"[{each}]" if ":" in each else each for each in addresses)
        settings["http.curloptResolve"] = f"{address.host}:{address.port}:{pinned}"
    secrets: tuple[str, ...] = ()
    if address.user or address.password:
        login = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        settings["http.extraHeader"] = f"Authorization: Basic {login}"
        secrets = tuple(text for text in (address.password or address.user, login) if len(text) > 3)
    return Route(address=address, url=address.bare, protocol=address.scheme, settings=settings, secrets=secrets)


def _ssh_route(address: Address, addresses: Sequence[str]) -> Route:
    command = _SSH
    if addresses and address.host not in addresses:
        alias = address.host if address.port == 22 else f"[{address.host}]:{address.port}"
        command += f" -o Hostname={shlex.quote(addresses[0])} -o HostKeyAlias={shlex.quote(alias)}"
    variables = {"GIT_SSH_COMMAND": command, "GIT_SSH_VARIANT": "ssh"}
    return Route(address=address, url=address.bare, protocol="ssh", environment=variables)


def with_identities(route: Route, identities: Identities) -> Route:
    """The same way with these keys, and no others, where ssh is spoken."""
    if not identities.paths or route.address.scheme != "ssh":
        return route
    named = "".join(f" -i {path}" for path in identities.paths)
    command = f"{route.environment['GIT_SSH_COMMAND']} -o IdentitiesOnly=yes -o IdentityAgent=none{named}"
    return replace(route, environment={**route.environment, "GIT_SSH_COMMAND": command}, reader=identities.digest)


def _git_route(address: Address, addresses: Sequence[str]) -> Route:
    if not addresses or address.host in addresses:
        return Route(address=address, url=address.bare, protocol="git")
    host = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    name = re.fullmatch(r"git://([^/]*)/.*", address.bare)
    return Route(
        address=address,
        url=f"git://{host}:{address.port}{address.path}",
        protocol="git",
        environment={"GIT_OVERRIDE_VIRTUAL_HOST": name[1] if name else address.host},
    )
