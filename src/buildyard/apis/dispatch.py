"""Which API owns which path: one table of whole path segments, longest match first, then beginnings of a segment."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Mount:
    """A path (`/api/projects`) and all below it, owned by one application; `/~*` is all that begins with `/~`."""

    path: str
    owner: str
    app: ASGIApp


class Dispatcher:
    """Hands each request, with its path unchanged, to the application that owns the longest matching path."""

    def __init__(self, mounts: Iterable[Mount], fallback: ASGIApp) -> None:
        self._table: dict[tuple[str, ...], Mount] = {}
        for mount in mounts:
            key = tuple(mount.path.strip("/").split("/"))
            if key in self._table:
                raise ValueError(f"{mount.path} belongs to {self._table[key].owner} and to {mount.owner}")
            self._table[key] = mount
        self._deepest = max((len(key) for key in self._table), default=0)
        self._beginnings = [mount for mount in self._table.values() if mount.path.endswith("*")]
        self._fallback = fallback

    @property
    def owners(self) -> Mapping[str, str]:
        """Each path with its owner."""
        return {mount.path: mount.owner for mount in self._table.values()}

    def owner_of(self, path: str) -> ASGIApp:
        """The application that answers for a path."""
        segments = tuple(path.lstrip("/").split("/", self._deepest))
        for length in range(min(len(segments), self._deepest), 0, -1):
            mount = self._table.get(segments[:length])
            if mount is not None:
                return mount.app
        for mount in self._beginnings:
            if path.startswith(mount.path[:-1]):
                return mount.app
        return self._fallback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket; the life of the server is not the applications' matter."""
        if scope["type"] in ("http", "websocket"):
            await self.owner_of(scope["path"])(scope, receive, send)
