"""Where a host's name leads, checked: the addresses that a connection may be made to."""

import asyncio
import socket

from buildyard.domain.errors import Invalid, Unavailable
from buildyard.domain.sources import SETTING, is_private


async def public_addresses(host: str, port: int) -> list[str]:
    """The public addresses of a host; connect to these only, for its name may lead elsewhere the next time.

    Raises Invalid if any of its addresses is private, Unavailable if it has none.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except (OSError, UnicodeError) as exc:
        raise Unavailable(f"the host {host} was not found") from exc
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if private := [each for each in addresses if is_private(each)]:
        raise Invalid(f"{host} has the private address {private[0]}, which is not allowed (setting {SETTING})")
    return addresses
