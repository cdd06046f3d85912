"""Who sent a delivery: signatures and tokens of the forges, compared in constant time.

A hook may have several secrets, and all are always tried, so that time tells nothing about which one fits.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from buildyard.domain.errors import Forbidden, Unauthenticated
from buildyard.domain.hooks import SIGNED_BY, Forge
from buildyard.domain.ids import SECOND, Moment

TOLERANCE = 300 * SECOND
"""How far the time of a signature that carries one may be from ours."""


@dataclass(frozen=True, slots=True)
class Request:
    """A delivery as it came: headers by lower-case name, the exact bytes, our time."""

    headers: Mapping[str, str]
    body: bytes
    now: Moment


def verified(forge: Forge, request: Request, secrets: Iterable[str]) -> str:
    """The key by which a repeat of this delivery is known; raises Unauthenticated or Forbidden.

    Where the signature covers the body alone, the key is the body's: who replays a captured delivery cannot make it
    look new by other headers.
    """
    match forge:
        case Forge.GITHUB:
            return _hex(request, ("x-hub-signature-256",), secrets)
        case Forge.GITEA | Forge.FORGEJO:
            return _hex(request, ("x-forgejo-signature", "x-gitea-signature", "x-hub-signature-256"), secrets)
        case Forge.BITBUCKET | Forge.BITBUCKET_SERVER:
            return _hex(request, ("x-hub-signature", "x-hub-signature-256"), secrets)
        case Forge.GITLAB:
            return _gitlab(request, secrets)


def _hex(request: Request, names: tuple[str, ...], secrets: Iterable[str]) -> str:
    given = next((request.headers[name] for name in names if request.headers.get(name)), "")
    if not given:
        raise Unauthenticated(f"the delivery is not signed: the header {names[0]} is missing; set the hook's secret")
    claimed = given.removeprefix("sha256=").strip().lower().encode("utf-8", "replace")
    if not _any(lambda secret: hmac.new(secret, request.body, "sha256").hexdigest().encode(), claimed, secrets):
        raise Forbidden("the signature fits none of the hook's secrets")
    return f"body:{hashlib.sha256(request.body).hexdigest()}"


def _any(make: Callable[[bytes], bytes], claimed: bytes, secrets: Iterable[str]) -> bool:
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(make(secret.encode()), claimed)
    return found


def _gitlab(request: Request, secrets: Iterable[str]) -> str:
    """A signature counts before a token; signing tokens never count as tokens, which go over the wire as they are."""
    signing = [one for one in secrets if one.startswith(SIGNED_BY)]
    if "webhook-signature" in request.headers and signing:
        return _signed(request, signing)
    token = request.headers.get("x-gitlab-token", "")
    if not token:
        raise Unauthenticated("the delivery has no token: the header X-Gitlab-Token is missing; set the hook's secret")
    plain = [one for one in secrets if not one.startswith(SIGNED_BY)]
    if not _any(lambda secret: secret, token.encode("latin-1", "replace"), plain):
        raise Forbidden("the token is none of the hook's secrets")
    told = request.headers.get("idempotency-key") or request.headers.get("x-gitlab-event-uuid") or ""
    return f"body:{hashlib.sha256(told.encode('utf-8', 'replace') + b'.' + request.body).hexdigest()}"


def _signed(request: Request, secrets: Iterable[str]) -> str:
    """Signatures of the Standard Webhooks specification, over id, time and body."""
    key = request.headers.get("webhook-id", "")
    stamp = request.headers.get("webhook-timestamp", "")
    if not key or not (stamp.isascii() and stamp.isdecimal() and len(stamp) < 16):
        raise Unauthenticated("a signed delivery needs the headers webhook-id and webhook-timestamp")
    content = f"{key}.{stamp}.".encode("utf-8", "replace") + request.body
    claims = [
        text.removeprefix("v1,").encode("utf-8", "replace")
        for text in request.headers["webhook-signature"].split()[:16]
        if text.startswith("v1,")
    ]
    made = [base64.b64encode(hmac.new(_signing_key(one), content, "sha256").digest()) for one in secrets]
    fits = [hmac.compare_digest(one, claim) for one in made for claim in claims]
    if not any(fits):
        raise Forbidden("the signature fits none of the hook's secrets")
    if abs(int(stamp) * SECOND - request.now) > TOLERANCE:
        raise Forbidden("the signature is too old, or the clocks of the forge and of this server differ")
    return f"id:{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()}"


def _signing_key(secret: str) -> bytes:
    """The key in a signing token; tokens were checked when the hook was read."""
    return base64.b64decode(secret.removeprefix(SIGNED_BY), validate=True)
