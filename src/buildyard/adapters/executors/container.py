"""The executor `container`: commands run in containers of an engine that speaks the Docker Engine API.

Each workspace has one container, made from the job's image, in which its commands run one after the other (see
`container_running`). Container, groups and folders bear the state folder's and the worker's marks, so that the next
worker finds what a killed one left.
"""

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from buildyard.adapters.containers.credentials import Credentials
from buildyard.adapters.containers.engine import ContainerEngine, EngineFacts, path_of
from buildyard.adapters.containers.images import Image, Images, Pull, bare_reference
from buildyard.adapters.executors.cgroups import Cgroups, Group, find_cgroups, remove_parents
from buildyard.adapters.executors.container_groups import (
    GroupPlace,
    find_place,
    group_of,
    limit_processes,
    remove_abandoned,
    remove_groups,
    remove_place,
)
from buildyard.adapters.executors.container_keeper import KEEPER, OWN_PIDS, Keeper
from buildyard.adapters.executors.container_running import Place
from buildyard.adapters.executors.container_services import Services
from buildyard.adapters.executors.container_workspace import ContainerWorkspace, Opened
from buildyard.adapters.executors.folders import Folders, make_folders, remove_folders
from buildyard.adapters.executors.process import sweep_state
from buildyard.adapters.executors.trees import MARKER_VARIABLE, identify, is_alive
from buildyard.domain.errors import Conflict, EngineError, NotFound, Unavailable
from buildyard.domain.specs import Limits
from buildyard.ports import Probe, Workspace, WorkspaceRequest

STRENGTH = 15
STATE_LABEL, OWNER_LABEL, KEY_LABEL = "buildyard.state", "buildyard.worker", "buildyard.workspace"
SERVICE_LABEL = "buildyard.service"
WORKSPACE, HOME, TEMPORARY = "/workspace", "/home/build", "/tmp"  # noqa: S108 - the container's own
CONTROL = "/.buildyard"
HOST_NAME = "buildyard"
_REMOVALS = 12
_FEWEST_PIDS = 64
"""Starting a container takes the engine's runtime some threads inside; a lower limit is set once it runs."""

_NO_SHELL = ('"/bin/sh"', "exec: /bin/sh", "`/bin/sh`")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOptions:
    """Which engine, and how it is used. `image` is for jobs that name none; empty: they are refused.

    `read_only_paths` of this machine show in every job's container, at the same places.
    """

    address: str
    image: str = ""
    pull: Pull = "missing"
    auth_file: Path | None = None
    read_only_paths: tuple[Path, ...] = ()


class ContainerExecutor:
    """Implements `ports.Executor`."""

    def __init__(self, state: Path, options: ContainerOptions) -> None:
        self._state = state.absolute()
        self._options = options
        self._identity = identify(self._state)
        self._cgroups: Cgroups | None = find_cgroups(self._identity)
        self._engine = ContainerEngine(options.address)
        self._images = Images(self._engine, Credentials(options.auth_file), options.pull)
        self._facts: EngineFacts | None = None
        self._place = GroupPlace()
        self._network = ""
        self._shown = [os.fspath(path) for path in options.read_only_paths]
        self._owed: list[_Made] = []

    @property
    def name(self) -> str:
        """See `ports.Executor`."""
        return "container"

    async def probe(self) -> Probe:
        """See `ports.Executor`. Asks the engine; no container is made, for there may be no image yet."""
        try:
            facts = await self._ask()
        except EngineError as exc:
            remedy = f"no container engine at {self._options.address}: {exc} (Podman: podman system service; or Docker)"
            return Probe(name=self.name, usable=False, strength=STRENGTH, missing=(remedy,))
        notes: tuple[str, ...] = (
            f"{facts.name} {facts.version} at {self._options.address}",
            f"jobs run in containers as {_user_words(facts)}",
            f"jobs without an image get {self._options.image}" if self._options.image else "each job names its image",
        )
        if self._cgroups is not None:
            notes += (f"limits by cgroup (version {self._cgroups.version}): memory, pids, cpu",)
        return Probe(name=self.name, usable=True, strength=STRENGTH, notes=notes)

    async def _ask(self) -> EngineFacts:
        if self._facts is None:
            facts = await self._engine.facts()
            self._place = find_place(self._cgroups, facts.cgroup_driver)
            self._facts = facts
        return self._facts

    async def open(self, request: WorkspaceRequest) -> Workspace:
        """See `ports.Executor`. NotFound says what to do about an image that cannot be had."""
        user = None if os.getuid() == 0 else (os.getuid(), os.getgid())
        tag = self._identity.tag(f"{request.key}:{request.marker}")
        folders = make_folders(self._state, request.key, self._identity, tag, user)
        folders = replace(folders, at_home=request.at_home)
        made = _Made(folders)
        try:
            made.control.mkdir(mode=0o700)
            return await self._open(request, made)
        except BaseException:
            await asyncio.shield(self._release(made))
            raise

    async def _open(self, request: WorkspaceRequest, made: "_Made") -> Workspace:
        await self._ask()
        await self._remove_owed()
        image = await self._image(request)
        if self._place.path:
            made.group_path = f"{self._place.path}/{self._identity.owner}.{request.key}"
        await self._start(request, image, made)
        assert made.keeper is not None
        commands = Place(
            container=made.container,
            inside=HOME if request.at_home else WORKSPACE,
            control=made.control,
            control_inside=CONTROL,
            environment={"HOME": HOME, "TMPDIR": TEMPORARY},
            marker={MARKER_VARIABLE: self._identity.marker(request.marker)},
            image_variables=image.variables,
        )
        await self._start_services(request, made)
        group = await self._group(made.container, request.limits)
        return ContainerWorkspace(
            self._engine, Opened(request, made.folders, group, commands, made.keeper, lambda: self._release(made))
        )

    async def _start_services(self, request: WorkspaceRequest, made: "_Made") -> None:
        """Start what is to run beside the job, in its network, and wait until all of it is ready."""
        if not request.services:
            return
        common: dict[str, Any] = {
            "NetworkMode": f"container:{made.container}",
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none"},
            **({"CgroupParent": made.group_path} if made.group_path else {}),
        }
        labels = {**self._labels(request.key), SERVICE_LABEL: "1"}
        remove = partial(remove_container, self._engine)
        services = made.services = Services(self._engine, remove, common, labels)
        for each in request.services:
            image = await self._images.ensure(each.image, request.say)
            request.say(f"service {each.name}: {bare_reference(each.image)}, {image.id.removeprefix('sha256:')[:12]}")
            await _whole(services.start(each, image, f"{made.container}-{each.name}"))
        await services.ready()

    async def _image(self, request: WorkspaceRequest) -> Image:
        address = request.image or self._options.image
        if not address:
            raise NotFound("the job names no image, and BUILDYARD_CONTAINER_IMAGE names none for such jobs")
        image = await self._images.ensure(address, request.say)
        request.say(f"image: {bare_reference(address)}, {image.id.removeprefix('sha256:')[:12]}")
        return image

    async def _start(self, request: WorkspaceRequest, image: Image, made: "_Made") -> None:
        """Make the container and start its keeper, with the first network that works here if any will do.

        The last is tried twice: an engine that starts many at once loses a namespace now and then.
        """
        networks = self._networks(request)
        networks.append(networks[-1])
        for number, network in enumerate(networks, 1):
            try:
                await self._start_with(request, image, made, network)
            except (Conflict, Unavailable) as exc:
                await self._remove_container(made)
                if any(words in str(exc) for words in _NO_SHELL):
                    raise NotFound(f"the image has no /bin/sh, which Buildyard needs to run steps: {exc}") from exc
                if number == len(networks):
                    raise Unavailable(f"cannot start a container: {exc}") from exc
            else:
                if request.network == "default":
                    self._network = network
                return

    def _networks(self, request: WorkspaceRequest) -> list[str]:
        """The engine's names for the networks that a request allows, the best first."""
        if request.network != "default":
            return [request.network]
        if self._network:
            return [self._network]
        podman = self._facts is not None and self._facts.name == "Podman"
        return ["default", *(["slirp4netns"] if podman else [])]

    async def _start_with(self, request: WorkspaceRequest, image: Image, made: "_Made", network: str) -> None:
        body = await self._container(request, image, made, network)
        name = f"buildyard-{self._identity.state}-{request.key}"
        made.container = name
        await _whole(self._engine.call("POST", path_of("containers", "create", name=name), body))
        stream = path_of("containers", made.container, "attach", stream=1, stdin=1, stdout=1, stderr=1)
        made.keeper = Keeper(await self._engine.upgrade(stream))
        await self._engine.call("POST", path_of("containers", made.container, "start"))
        await made.keeper.ready()

    async def _container(self, request: WorkspaceRequest, image: Image, made: "_Made", network: str) -> dict[str, Any]:
        facts = await self._ask()
        binds = {HOME: made.folders.home, TEMPORARY: made.folders.temporary}
        if not request.at_home:
            binds[WORKSPACE] = made.folders.files
        host: dict[str, Any] = {
            "Mounts": [
                *({"Type": "bind", "Source": os.fspath(source), "Target": target} for target, source in binds.items()),
                {"Type": "bind", "Source": os.fspath(made.control), "Target": CONTROL, "ReadOnly": True},
                *({"Type": "bind", "Source": shown, "Target": shown, "ReadOnly": True} for shown in self._shown),
            ],
            "NetworkMode": network,
            "ExtraHosts": [f"{service.name}:127.0.0.1" for service in request.services],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none"},
            **_limits(request.limits),
        }
        if made.group_path:
            host["CgroupParent"] = made.group_path
        return {
            "Image": image.id,
            "Entrypoint": ["/bin/sh", "-c", KEEPER],
            "Cmd": [],
            "User": _user(facts),
            "WorkingDir": "/",
            "Env": [f"{MARKER_VARIABLE}={self._identity.marker(request.marker)}"],
            "Labels": self._labels(request.key),
            "OpenStdin": True,
            "StdinOnce": True,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "HostConfig": host,
            **({} if network == "host" else {"Hostname": HOST_NAME}),
        }

    def _labels(self, key: str) -> dict[str, str]:
        return {STATE_LABEL: self._identity.state, OWNER_LABEL: self._identity.owner, KEY_LABEL: key}

    async def _group(self, container: str, limits: Limits) -> Group:
        """The container's cgroups, if a limit on it has to be watched."""
        if limits.memory_bytes is None and limits.pids is None:
            return Group({})
        found = await self._engine.call("GET", path_of("containers", container, "json"))
        group = group_of(int(found["State"]["Pid"]))
        if limits.pids is not None:
            limit_processes(group, limits.pids + OWN_PIDS)
        return group

    async def _release(self, made: "_Made") -> None:
        """End and remove everything; what fails does not keep the rest from being removed."""
        try:
            await self._remove_made(made)
        except EngineError:
            self._owed.append(made)
            raise
        finally:
            await remove_folders(made.folders)

    async def _remove_made(self, made: "_Made") -> None:
        if made.services is not None:
            await made.services.stop()
        await self._remove_container(made)
        await remove_groups(made.group_path)

    async def _remove_owed(self) -> None:
        """Remove what an engine that was away did not; what it still does not stays owed."""
        owed, self._owed = self._owed, []
        for made in owed:
            try:
                await self._remove_made(made)
            except EngineError:
                self._owed.append(made)

    async def _remove_container(self, made: "_Made") -> None:
        if made.container:
            await remove_container(self._engine, made.container)
            made.container = ""
        if made.keeper is not None:
            await made.keeper.close()
            made.keeper = None

    async def sweep(self) -> int:
        """See `ports.Executor`."""
        found = await self._engine.call(
            "GET", path_of("containers", "json", all=1, filters=_filter(self._identity.state))
        )
        abandoned = [each for each in found if not is_alive((each.get("Labels") or {}).get(OWNER_LABEL, ""))]
        abandoned.sort(key=lambda each: SERVICE_LABEL not in each["Labels"])  # they stand on the job's own container
        for container in abandoned:
            await remove_container(self._engine, container["Id"])
        await self._ask()
        count = len(abandoned)
        if self._place.path:
            count += await asyncio.to_thread(remove_abandoned, self._place.path)
        return count + await sweep_state(self._state, self._cgroups)

    async def close(self) -> None:
        """See `ports.Executor`."""
        await self._remove_owed()
        await asyncio.to_thread(remove_place, self._place)
        remove_parents(self._cgroups)
        await self._engine.close()


@dataclass(slots=True)
class _Made:
    """What was made for a workspace so far."""

    folders: Folders
    group_path: str = ""
    container: str = ""
    keeper: Keeper | None = None
    services: Services | None = None

    @property
    def control(self) -> Path:
        """Where scripts for the keeper lie."""
        return self.folders.root / "control"


async def _whole(making: Coroutine[None, None, Any]) -> None:
    """Make something even if this is cancelled meanwhile, so that what was made is known and can be removed."""
    task = asyncio.ensure_future(making)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def remove_container(engine: ContainerEngine, container: str) -> None:
    """Kill and remove a container with its anonymous volumes. One that is gone is no error; one that is just ending
    by itself is tried again. Raises Unavailable if it stays.
    """
    pause = 0.02
    trouble: EngineError | None = None
    for _ in range(_REMOVALS):
        try:
            await engine.call("DELETE", path_of("containers", container, force=1, v=1))
        except NotFound:
            return
        except (Conflict, Unavailable) as exc:
            trouble = exc
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 2)
        else:
            return
    raise Unavailable(f"the container {container[:12]} cannot be removed: {trouble}")


def _limits(limits: Limits) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if limits.memory_bytes is not None:
        found |= {"Memory": limits.memory_bytes, "MemorySwap": limits.memory_bytes}
    if limits.pids is not None:
        found["PidsLimit"] = max(_FEWEST_PIDS, limits.pids + OWN_PIDS)
    if limits.cpus is not None:
        found |= {"CpuPeriod": 100_000, "CpuQuota": max(1000, round(limits.cpus * 100_000))}
    return found


def _user(facts: EngineFacts) -> str:
    """Whom commands run as, so that their files belong to the worker: root inside where that is the worker outside."""
    return "0:0" if os.getuid() == 0 or facts.rootless else f"{os.getuid()}:{os.getgid()}"


def _user_words(facts: EngineFacts) -> str:
    return "root of the container" if _user(facts) == "0:0" else f"the worker's user {_user(facts)}"


def _filter(state: str) -> str:
    return f'{{"label":["{STATE_LABEL}={state}"]}}'
