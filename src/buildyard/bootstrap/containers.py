"""Turns settings into what speaks to the container engine."""

from collections.abc import Callable
from pathlib import Path

from buildyard.adapters.containers.archives import load_archive
from buildyard.adapters.containers.engine import ContainerEngine
from buildyard.adapters.executors.container import ContainerOptions
from buildyard.settings import BadSettings, Settings


def container_options(settings: Settings) -> ContainerOptions:
    """How the executor uses the engine. Raises BadSettings for an address that Buildyard does not speak to."""
    chosen = settings.container
    return ContainerOptions(
        address=_address(settings),
        image=chosen.image,
        pull=chosen.pull,
        auth_file=Path(chosen.auth_file) if chosen.auth_file else None,
        read_only_paths=tuple(Path(path) for path in chosen.read_only_paths),
    )


def _address(settings: Settings) -> str:
    address = settings.container_address
    if not address.startswith(("unix:///", "tcp://")):
        raise BadSettings(f"DOCKER_HOST={address} is no address of this machine: set BUILDYARD_CONTAINER_HOST")
    return address


async def load_image(settings: Settings, file: Path, name: str, say: Callable[[str], None]) -> str:
    """Load an archive into the engine of the settings; the name by which jobs can use the image.

    Raises Invalid for a file that is no image, Unavailable if the engine does not do its part.
    """
    engine = ContainerEngine(_address(settings))
    try:
        return await load_archive(engine, file, name, say)
    finally:
        await engine.close()
