"""Routes for secrets. None answers with a value, or repeats one in an error."""

from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.native.auth import actor_of
from buildyard.apis.native.schemas import decoded
from buildyard.client import messages
from buildyard.client.native import BASE
from buildyard.domain.access import Actor
from buildyard.domain.errors import Fault, Invalid
from buildyard.domain.ids import iso
from buildyard.domain.secrets import FILE_MODE, SecretKind, SecretValue
from buildyard.engine import secret_keys, secrets
from buildyard.engine.engine import Engine
from buildyard.engine.secrets import NewSecret, Place
from buildyard.engine.sign_in import PasswordGate

if TYPE_CHECKING:
    from buildyard.store.secrets import SecretView


def secret(view: "SecretView") -> messages.Secret:
    """A secret as its wire type."""
    found = view.secret
    scope = (
        "account" if found.scope.account is not None else "pipeline" if found.scope.pipeline is not None else "project"
    )
    return messages.Secret(
        uid=found.uid,
        name=found.name,
        kind=found.kind.value,
        scope=scope,
        account=view.account_name,
        project=view.project_slug,
        pipeline=view.pipeline_slug,
        path=found.path,
        mode=f"{found.mode:04o}",
        created_at=iso(found.created_at),
        updated_at=iso(found.updated_at),
        used_at=None if found.used_at is None else iso(found.used_at),
    )


def new_secret(wanted: messages.NewSecret) -> NewSecret:
    """What is to be set. Raises Invalid for a kind that there is not."""
    try:
        kind = SecretKind(wanted.kind)
    except ValueError:
        message = f"there is no such kind of secret; there are {', '.join(SecretKind)}"
        raise Invalid(message, (Fault("kind", message, "unknown_kind"),)) from None
    mode = FILE_MODE if wanted.mode is None else wanted.mode
    return NewSecret(name=wanted.name, value=SecretValue(wanted.value), kind=kind, path=wanted.path, mode=mode)


def place_of(request: Request) -> Place:
    """The place that the query names; all its parts may be empty."""
    account, project, pipeline = (request.query_params.get(name, "") for name in ("account", "project", "pipeline"))
    return Place(account=account, project=project, pipeline=pipeline)


def _answer(message: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(message), 200, {"cache-control": "no-store"}, media_type="application/json")


class SecretRoutes:
    """The handlers, with the engine they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate, body_bytes: int) -> None:
        self._engine = engine
        self._gate = gate
        self._body_bytes = body_bytes

    async def _actor(self, request: Request) -> Actor:
        return await actor_of(request, self._engine, self._gate)

    async def list_secrets(self, request: Request) -> Response:
        """The secrets of a place, or all that the actor may manage."""
        place = place_of(request)
        views = await self._engine.read(
            secrets.list_secrets, await self._actor(request), place if place != Place() else None
        )
        return _answer(messages.Secrets(secrets=[secret(view) for view in views]))

    async def set_secret(self, request: Request) -> Response:
        """Make a secret, or give it another value."""
        actor = await self._actor(request)
        wanted = await decoded(request, messages.NewSecret, limit=self._body_bytes)
        place = Place(account=wanted.account, project=wanted.project, pipeline=wanted.pipeline)
        view = await self._engine.run(secrets.set_secret, actor, place, new_secret(wanted), self._engine.keys)
        return _answer(secret(view))

    async def remove_secret(self, request: Request) -> Response:
        """Delete a secret."""
        actor = await self._actor(request)
        await self._engine.run(secrets.remove_secret, actor, place_of(request), request.path_params["secret"])
        return Response(status_code=204)

    async def rotate_key(self, request: Request) -> Response:
        """Encrypt all secrets with a new key."""
        actor = await self._actor(request)
        await decoded(request, messages.Reason, limit=self._body_bytes)
        done = await secret_keys.rotate_key(self._engine, actor)
        return _answer(messages.KeyRotated(key=done.key, rewritten=done.rewritten, damaged=done.damaged))


def secret_routes(engine: Engine, gate: PasswordGate, body_bytes: int) -> list[Route]:
    """The routes of this module."""
    routes = SecretRoutes(engine, gate, body_bytes)
    return [
        Route(f"{BASE}/secrets", routes.list_secrets, methods=["GET"]),
        Route(f"{BASE}/secrets", routes.set_secret, methods=["PUT"]),
        Route(f"{BASE}/secrets/rotate-key", routes.rotate_key, methods=["POST"]),
        Route(f"{BASE}/secrets/{{secret}}", routes.remove_secret, methods=["DELETE"]),
    ]
