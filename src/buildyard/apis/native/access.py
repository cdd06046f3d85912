"""Routes for users and tokens."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.native import mapping
from buildyard.apis.native.auth import actor_of
from buildyard.apis.native.schemas import decoded
from buildyard.client import messages
from buildyard.client.native import BASE
from buildyard.domain.access import Actor
from buildyard.domain.errors import Invalid, NotFound
from buildyard.domain.ids import SECOND, Moment, TokenId
from buildyard.engine import identity
from buildyard.engine.engine import Engine, system_clock
from buildyard.engine.projects import find_project, list_projects
from buildyard.engine.sign_in import PasswordGate, make_user, set_password


class AccessRoutes:
    """The handlers, with the engine they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate, body_bytes: int) -> None:
        self._engine = engine
        self._gate = gate
        self._body_bytes = body_bytes

    async def _actor(self, request: Request) -> Actor:
        return await actor_of(request, self._engine, self._gate)

    async def list_users(self, request: Request) -> Response:
        """Everyone."""
        users = await self._engine.read(identity.list_users, await self._actor(request))
        return _answer(messages.Users(users=[mapping.user(user) for user in users]))

    async def create_user(self, request: Request) -> Response:
        """Make a user."""
        actor = await self._actor(request)
        wanted = await decoded(request, messages.NewUser, limit=self._body_bytes)
        user = await make_user(
            self._engine,
            self._gate,
            actor,
            wanted.username,
            wanted.password,
            email=wanted.email,
            full_name=wanted.full_name,
            administrator=wanted.administrator,
        )
        return _answer(mapping.user(user), 201)

    async def set_password(self, request: Request) -> Response:
        """Change a password."""
        actor = await self._actor(request)
        wanted = await decoded(request, messages.NewPassword, limit=self._body_bytes)
        await set_password(self._engine, self._gate, actor, request.path_params["username"], wanted.password)
        return Response(status_code=204)

    async def list_tokens(self, request: Request) -> Response:
        """A user's tokens, or everyone's."""
        actor = await self._actor(request)
        whose = request.query_params.get("user") or None
        tokens = await self._engine.read(identity.list_tokens, actor, whose)
        names = (
            {} if whose else {user.id: user.username for user in await self._engine.read(identity.list_users, actor)}
        )
        slugs = {project.id: project.slug for project in await self._engine.read(list_projects, actor)}
        found = [
            mapping.token(
                token,
                names.get(token.user, whose or ""),
                project=None if token.project is None else slugs.get(token.project, "?"),
            )
            for token in tokens
        ]
        return _answer(messages.Tokens(tokens=found))

    async def create_token(self, request: Request) -> Response:
        """Make a token."""
        actor = await self._actor(request)
        wanted = await decoded(request, messages.NewToken, limit=self._body_bytes)
        made = await self._engine.run(
            identity.create_token,
            actor,
            wanted.user,
            tuple(dict.fromkeys(wanted.scopes)),
            name=wanted.name,
            project_uid=await self._project_uid(actor, wanted.project),
            labels=tuple(wanted.labels),
            expires_at=_expiry(wanted.expires_in_s),
        )
        return _answer(mapping.token(made.token, wanted.user, project=wanted.project, secret=made.secret), 201)

    async def _project_uid(self, actor: Actor, slug: str | None) -> str | None:
        if slug is None:
            return None
        project = await self._engine.read(find_project, actor, slug)
        if project is None:
            raise NotFound(f"project {slug} not found")
        return project.uid

    async def revoke_token(self, request: Request) -> Response:
        """End a token."""
        actor = await self._actor(request)
        await self._engine.run(identity.revoke_token, actor, TokenId(request.path_params["token"]))
        return Response(status_code=204)


def _answer(message: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(message), status, {"cache-control": "no-store"}, media_type="application/json")


def _expiry(seconds: int | None) -> Moment | None:
    if seconds is None:
        return None
    if not 0 < seconds < 100 * 366 * 86_400:
        raise Invalid("expires_in_s must be positive, and at most a hundred years")
    return Moment(system_clock() + seconds * SECOND)


def access_routes(engine: Engine, gate: PasswordGate, body_bytes: int) -> list[Route]:
    """The routes of this module."""
    routes = AccessRoutes(engine, gate, body_bytes)
    return [
        Route(f"{BASE}/users", routes.list_users, methods=["GET"]),
        Route(f"{BASE}/users", routes.create_user, methods=["POST"]),
        Route(f"{BASE}/users/{{username}}/password", routes.set_password, methods=["PUT"]),
        Route(f"{BASE}/tokens", routes.list_tokens, methods=["GET"]),
        Route(f"{BASE}/tokens", routes.create_token, methods=["POST"]),
        Route(f"{BASE}/tokens/{{token:int}}", routes.revoke_token, methods=["DELETE"]),
    ]
