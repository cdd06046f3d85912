"""Images from files: archives that engines write themselves, and tar files of root file systems."""

import asyncio
import os
import tarfile
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from buildyard.adapters.containers.engine import ContainerEngine, path_of
from buildyard.adapters.containers.images import bare_reference, json_lines, split_reference
from buildyard.domain.errors import Invalid, Unavailable

_PIECE = 1024 * 1024
_SAY_EVERY_S = 2.0
_MARKS = frozenset({"manifest.json", "oci-layout"})
_LOADED = ("Loaded image ID: ", "Loaded image: ", "Loaded image(s): ")


async def load_archive(engine: ContainerEngine, file: Path, name: str, say: Callable[[str], None]) -> str:
    """Give an engine the image in a file; the name that it has then.

    An archive of `docker save` or `podman save` brings its name, and gets `name` besides if given. Any other tar file
    is a root file system, and needs a name. Raises Invalid for what is neither.
    """
    reference = bare_reference(name)
    if "@" in reference:
        raise Invalid("an image cannot be named by a digest: use NAME:TAG")
    is_saved = await asyncio.to_thread(_is_saved, file)
    if not is_saved and not reference:
        raise Invalid(f"{file} is a root file system and says no name for its image: give one")
    path = path_of("images", "load") if is_saved else path_of("images", "create", fromSrc="-")
    answers = await _send(engine, path, file, say)
    loaded = _loaded(answers) if is_saved else _imported(answers)
    if reference:
        repository, tag = split_reference(reference)
        await engine.call("POST", path_of("images", loaded, "tag", repo=repository, tag=tag))
    return reference or loaded


def _is_saved(file: Path) -> bool:
    """Whether a tar file is an archive of images; Invalid if it is no tar file."""
    try:
        with tarfile.open(file) as tar:
            return any(entry.name.removeprefix("./") in _MARKS for entry in tar)
    except (OSError, tarfile.TarError) as exc:
        raise Invalid(f"{file} is no tar file that can be read: {exc}") from exc


async def _send(engine: ContainerEngine, path: str, file: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Stream a file to the engine; what it answered."""

    total = await asyncio.to_thread(os.path.getsize, file)

    async def body() -> AsyncGenerator[bytes]:
        sent, said_at = 0, time.monotonic()
        with await asyncio.to_thread(file.open, "rb") as opened:
            while piece := await asyncio.to_thread(opened.read, _PIECE):
                yield piece
                sent += len(piece)
                if time.monotonic() - said_at > _SAY_EVERY_S:
                    said_at = time.monotonic()
                    say(f"{sent * 100 // max(1, total)} % of {file} is sent")

    answers = []
    async with engine.open("POST", path, body, headers={"Content-Type": "application/x-tar"}) as pieces:
        async for line in json_lines(pieces):
            if line.get("error"):
                raise Unavailable(str(line["error"]))
            answers.append(line)
    return answers


def _loaded(answers: list[dict[str, Any]]) -> str:
    """The name or id of the image that an engine says it has loaded."""
    for answer in answers:
        text = str(answer.get("stream", "")).strip()
        for start in _LOADED:
            if text.startswith(start):
                return text.removeprefix(start).split(",")[0].strip()
    raise Unavailable("the container engine does not say which image it loaded")


def _imported(answers: list[dict[str, Any]]) -> str:
    """The id of the image that an engine says it has made."""
    for answer in answers:
        if str(answer.get("status", "")).startswith("sha256:"):
            return str(answer["status"])
    raise Unavailable("the container engine does not say which image it made")
