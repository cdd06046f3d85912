"""Finds the server and the credentials, and opens the connection."""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from buildyard.client.native import NativeClient
from buildyard.domain.errors import Unauthenticated
from buildyard.settings import Settings, is_loopback, process_environment, read_settings


@asynccontextmanager
async def connected() -> AsyncGenerator[NativeClient]:
    """A client for the server of the settings."""
    settings = read_settings(process_environment())
    client = NativeClient(settings.client_url, authorization(settings))
    try:
        yield client
    except Unauthenticated as exc:
        raise Unauthenticated(
            f"{exc} (set BUILDYARD_TOKEN; or, for a server of this machine only, BUILDYARD_DATA to its data folder)"
        ) from exc
    finally:
        await client.close()


def authorization(settings: Settings) -> str:
    """The `Authorization` header: a token, else the administrator's password, else the local operator's token.

    The latter two open everything, so they go to no server but this machine's own.
    """
    if settings.client.token:
        return f"Bearer {settings.client.token.reveal()}"
    if not is_own_server(settings):
        return ""
    if settings.server.admin_password:
        pair = f"admin:{settings.server.admin_password.reveal()}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"
    try:
        return f"Bearer {settings.operator_token.read_text().strip()}"
    except OSError:
        return ""


def is_own_server(settings: Settings) -> bool:
    """Whether the address is one of this machine: loopback, where our server listens, or its socket."""
    if not settings.client.url:
        return True
    parts = urlsplit(settings.client.url)
    if parts.scheme == "unix":
        return parts.path == str(settings.socket)
    host = parts.hostname or ""
    return is_loopback(host) or host == settings.server.host
