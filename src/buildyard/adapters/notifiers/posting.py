"""One HTTP POST to an address that people chose: checked, pinned, without redirects, its answer kept up to a limit."""

import asyncio
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from buildyard.adapters.addresses import public_addresses
from buildyard.client.http import HttpClient, Reply
from buildyard.domain.errors import EngineError, Fault, Invalid, Unavailable
from buildyard.domain.notifications import is_final
from buildyard.domain.sources import read_http_url
from buildyard.ports import ANSWER_BYTES, Outcome
from buildyard.version import VERSION

HEADER_BYTES = 16 * 1024

_UNKEPT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


async def post(url: str, headers: Mapping[str, str], body: bytes, *, allow_local: bool, timeout_s: float) -> Outcome:
    """POST a JSON body; an answer of 2xx is a delivery. Never raises but for cancelling."""
    request = plain(body, ANSWER_BYTES)
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(url, headers, body, request, allow_local=allow_local)
    except TimeoutError:
        return Outcome(delivered=False, error=f"no answer within {timeout_s:g} s", request=request)
    except EngineError as exc:
        return Outcome(delivered=False, final=isinstance(exc, Invalid), error=str(exc), request=request)


async def _exchange(url: str, headers: Mapping[str, str], body: bytes, request: str, *, allow_local: bool) -> Outcome:
    address = read_http_url(url, "url", allow_local=allow_local)
    if isinstance(address, Fault):
        raise Invalid(f"{address.path} {address.message}")
    addresses = [] if allow_local else await public_addresses(address.host, address.port)
    host = f"[{address.host}]" if ":" in address.host else address.host
    client = HttpClient(
        f"{address.scheme}://{host}:{address.port}",
        {"User-Agent": f"buildyard/{VERSION}", "Content-Type": "application/json", "Connection": "close"},
        addresses=addresses,
    )
    try:
        async with client.open("POST", address.path, body, headers=headers, streams=False) as reply:
            return _outcome(reply, await _beginning(reply), request)
    finally:
        await client.close()


async def _beginning(reply: Reply) -> bytes:
    """The first ANSWER_BYTES of the answer; one that breaks off has been given nevertheless."""
    data = b""
    try:
        async for piece in reply.pieces():
            data += piece
            if len(data) >= ANSWER_BYTES:
                break
    except (OSError, EOFError, Unavailable):
        return data
    return data[:ANSWER_BYTES]


def _outcome(reply: Reply, body: bytes, request: str) -> Outcome:
    delivered = 200 <= reply.status < 300
    return Outcome(
        delivered=delivered,
        final=not delivered and is_final(reply.status),
        status=reply.status,
        error="" if delivered else _complaint(reply.status),
        request=request,
        headers=plain("\n".join(f"{name}: {value}" for name, value in reply.headers.items()).encode(), HEADER_BYTES),
        body=plain(body, ANSWER_BYTES),
        retry_after_s=_retry_after(reply.headers),
    )


def _complaint(status: int) -> str:
    redirected = " (redirects are not followed: name the address that it leads to)" if 300 <= status < 400 else ""
    return f"the answer was {status}{redirected}"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """How long the other side asks us to wait: `Retry-After`, or the end of a used-up quota."""
    wished = headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}", wished):
        return float(wished)
    if wished:
        try:
            return max(0.0, parsedate_to_datetime(wished).timestamp() - time.time())
        except ValueError:
            return None
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and re.fullmatch(r"\d{1,12}", reset):
        return max(0.0, float(reset) - time.time())
    return None


def plain(data: bytes, most: int) -> str:
    """Bytes as text that a database keeps, cut to `most` bytes."""
    return _UNKEPT.sub("\ufffd", data[:most].decode("utf-8", "replace"))
