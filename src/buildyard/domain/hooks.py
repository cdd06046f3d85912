"""Hooks: the doors at which forges report, and the secrets by which they are known."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from enum import StrEnum

HOOK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
SHORTEST_SECRET = 8
SIGNED_BY = "whsec_"
"""How GitLab's signing tokens begin; the rest is the key in Base64."""


class Forge(StrEnum):
    """Which forge's words a hook speaks."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"
    FORGEJO = "forgejo"
    BITBUCKET = "bitbucket"
    BITBUCKET_SERVER = "bitbucket-server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One door. Each of `secrets` opens it, so that they can be changed one after the other.

    It starts only triggers of these `projects` (slugs); none named: of all.
    """

    name: str
    forge: Forge
    secrets: tuple[str, ...] = field(repr=False)
    projects: frozenset[str] = frozenset()


def secret_fault(secret: str) -> str:
    """What is wrong with a hook's secret, or nothing."""
    if len(secret) < SHORTEST_SECRET:
        return f"must have at least {SHORTEST_SECRET} characters"
    if not secret.startswith(SIGNED_BY):
        return ""
    try:
        key = base64.b64decode(secret.removeprefix(SIGNED_BY), validate=True)
    except (binascii.Error, ValueError):
        return f"is no signing token: after {SIGNED_BY} must follow Base64"
    return "" if len(key) >= SHORTEST_SECRET else f"must hold at least {SHORTEST_SECRET} bytes"
