"""Finds the server and the credentials, and opens the connection."""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from buildyard.client.native import NativeClient
from buildyard.domain.errors import Unauthenticated
from buildyard.settings import Settings, process_environment, read_settings


@asynccontextmanager
async def connected() -> AsyncGenerator[NativeClient]:
    """A client for the server of the settings."""
    settings = read_settings(process_environment())
    client = NativeClient(settings.client_url, authorization(settings))
    try:
        yield client
    except Unauthenticated as exc:
        raise Unauthenticated(
            f"{exc} (set BUILDYARD_TOKEN, or BUILDYARD_DATA to the data folder of a local server)"
        ) from exc
    finally:
        await client.close()


def authorization(settings: Settings) -> str:
    """The `Authorization` header: a token, else the administrator's password, else the local operator's token."""
    if settings.client.token:
        return f"Bearer {settings.client.token.reveal()}"
    if settings.server.admin_password:
        pair = f"admin:{settings.server.admin_password.reveal()}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"
    try:
        return f"Bearer {settings.operator_token.read_text().strip()}"
    except OSError:
        return ""
