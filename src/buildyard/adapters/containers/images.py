"""Images on a worker: there already, pulled with words about progress, or loaded from an archive."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from buildyard.adapters.containers.credentials import Credentials
from buildyard.adapters.containers.engine import ContainerEngine, path_of
from buildyard.domain.errors import EngineError, Invalid, NotFound, Unavailable

Pull = Literal["missing", "always", "never"]
_SAY_EVERY_S = 2.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the engine has: its id, and the names of the variables that it sets."""

    id: str
    variables: frozenset[str]


def bare_reference(text: str) -> str:
    """The reference that an address of an image stands for."""
    return text.removeprefix("docker://").removeprefix("https://")


def split_reference(reference: str) -> tuple[str, str]:
    """Name and tag; a reference with a digest has no tag of its own, one without either is `latest`."""
    if "@" in reference:
        return reference, ""
    name, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        return reference, "latest"
    return name, tag


class Images:
    """The images of one engine. Jobs that want the same image at the same time share one pull."""

    def __init__(self, engine: ContainerEngine, credentials: Credentials, pull: Pull) -> None:
        self._engine = engine
        self._credentials = credentials
        self._pull = pull
        self._locks: dict[str, asyncio.Lock] = {}

    async def ensure(self, address: str, say: Callable[[str], None]) -> Image:
        """The image, pulled if the settings want that; NotFound says what can be done if it cannot be had."""
        reference = bare_reference(address)
        async with self._locks.setdefault(reference, asyncio.Lock()):
            found = await self._find(reference)
            if found is not None and self._pull != "always":
                return found
            if found is None and self._pull == "never":
                raise NotFound(_advice(reference, "and BUILDYARD_CONTAINER_PULL forbids to pull it"))
            try:
                await self._fetch(reference, say)
            except EngineError as exc:
                if found is None:
                    raise NotFound(_advice(reference, f"and cannot be pulled: {exc}")) from exc
                say(f"image {reference} cannot be pulled, the one that is here is used: {exc}")
                return found
            fetched = await self._find(reference)
            if fetched is None:
                raise NotFound(_advice(reference, "not even after it was pulled"))
            return fetched

    async def _find(self, reference: str) -> Image | None:
        try:
            found = await self._engine.call("GET", path_of("images", reference, "json"))
        except NotFound:
            return None
        variables = (found.get("Config") or {}).get("Env") or ()
        return Image(found["Id"], frozenset(variable.partition("=")[0] for variable in variables))

    async def _fetch(self, reference: str, say: Callable[[str], None]) -> None:
        name, tag = split_reference(reference)
        path = path_of("images", "create", fromImage=name, **({"tag": tag} if tag else {}))
        headers = self._credentials.header(reference)
        say(f"pulling image {reference}")
        begun = time.monotonic()
        progress = _Progress(reference, say)
        async with self._engine.open("POST", path, headers=headers) as pieces:
            async for line in json_lines(pieces):
                progress.take(line)
        say(f"image {reference} pulled: {progress.words}, in {time.monotonic() - begun:.1f} s")


def _advice(reference: str, why: str) -> str:
    return (
        f"image {reference} is not on this worker {why}; correct its name, give credentials for its registry "
        f"(BUILDYARD_CONTAINER_AUTH_FILE), or load it on the worker's machine: buildyard image load FILE --as NAME"
    )


@dataclass(slots=True)
class _Progress:
    """What a pull has told so far, by layer."""

    reference: str
    say: Callable[[str], None]
    said_at: float = field(default_factory=time.monotonic)
    layers: dict[str, bool] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """How much is here; engines count the image's own description among its parts."""
        done = sum(self.layers.values())
        size = f", {sum(self.sizes.values()) / _MIB:.1f} MiB" if any(self.sizes.values()) else ""
        return f"{done} of {len(self.layers)} parts{size}"

    def take(self, line: dict[str, Any]) -> None:
        """A line of the engine; Unavailable with its words if it is a failure."""
        if line.get("error"):
            raise Unavailable(str(line["error"]))
        status, layer = str(line.get("status", "")), str(line.get("id", ""))
        if layer and status.startswith(("Pulling fs", "Downloading", "Download c", "Extracting", "Pull c", "Already")):
            is_done = status.startswith(("Download c", "Pull c", "Already"))
            self.layers[layer] = self.layers.get(layer, False) or is_done
            current = (line.get("progressDetail") or {}).get("current")
            if status.startswith("Downloading") and isinstance(current, int):
                self.sizes[layer] = current
        if time.monotonic() - self.said_at > _SAY_EVERY_S:
            self.said_at = time.monotonic()
            self.say(f"pulling image {self.reference}: {self.words}")


async def json_lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a stream that has one on each line."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line.strip():
                yield _object(line)
    if rest.strip():
        yield _object(rest)


def _object(line: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as exc:
        raise Invalid(f"the container engine said {line[:200]!r}") from exc
