"""Makes workers: their executors by what this machine can do, and their sources."""

import platform
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildyard.adapters.executors.container import ContainerExecutor
from buildyard.adapters.executors.dummy import DummyExecutor
from buildyard.adapters.executors.process import ProcessExecutor
from buildyard.adapters.executors.sandbox import SandboxExecutor
from buildyard.adapters.executors.workspace import STANDARD_PATH
from buildyard.adapters.sources.folder import AnyFetcher, FolderFetcher
from buildyard.adapters.sources.git import GitFetcher
from buildyard.bootstrap.containers import container_options
from buildyard.client.worker import WorkerClient
from buildyard.domain.sources import SourcePolicy
from buildyard.ports import Executor, Probe
from buildyard.settings import BadSettings, ExecutorName, Settings
from buildyard.version import VERSION
from buildyard.worker.config import WorkerConfig
from buildyard.worker.main import run_worker
from buildyard.worker.unpacking import unpack


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """Which server a worker works for, where it keeps its state, and how it ends."""

    server: str
    token: str
    folder: Path
    drain_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The executor that jobs get, why, and what would make it better."""

    name: ExecutorName
    reason: str
    missing: tuple[str, ...] = ()


def make_executor(name: ExecutorName, settings: Settings, state: Path) -> Executor:
    """An executor of this machine; `state` is a folder that it has for itself."""
    search_path = settings.worker.search_path or STANDARD_PATH
    match name:
        case "sandbox":
            return SandboxExecutor(
                state,
                read_only_paths=[Path(path) for path in settings.sandbox.read_only_paths],
                hidden_paths=[
                    settings.data,
                    settings.key_file,
                    *(Path(path) for path in settings.sandbox.hidden_paths),
                ],
                search_path=search_path,
            )
        case "process":
            return ProcessExecutor(state, search_path=search_path)
        case "container":
            return ContainerExecutor(state, container_options(settings))
        case "dummy":
            return DummyExecutor(state)
        case "auto":
            raise BadSettings("auto is a choice among executors, not one of them")


async def probe_executors(
    settings: Settings, state: Path, names: tuple[ExecutorName, ...] = ("sandbox", "process")
) -> dict[ExecutorName, Probe]:
    """Find out by trying what executors can do here, the strongest first."""
    found: dict[ExecutorName, Probe] = {}
    for name in names:
        executor = make_executor(name, settings, state / name)
        try:
            found[name] = await executor.probe()
        finally:
            await executor.close()
    return dict(sorted(found.items(), key=lambda item: -item[1].strength))


async def choose_executor(settings: Settings, state: Path) -> Choice:
    """The executor of the settings, or with `auto` the strongest that works here; BadSettings if none does."""
    wanted = settings.worker.executor
    if wanted == "dummy":
        return Choice("dummy", "plays scripted outcomes, as set by worker.executor (BUILDYARD_EXECUTOR)")
    if wanted != "auto":
        probe = (await probe_executors(settings, state, (wanted,)))[wanted]
        if not probe.usable:
            raise BadSettings(
                f"the executor {wanted} (BUILDYARD_EXECUTOR) does not work here: {'; '.join(probe.missing)}"
            )
        return Choice(wanted, "; ".join(("as set by BUILDYARD_EXECUTOR", *probe.notes)), probe.missing)
    missing: list[str] = []
    for name, probe in (await probe_executors(settings, state)).items():
        missing += probe.missing
        if probe.usable:
            return Choice(name, "; ".join(("the strongest that works here", *probe.notes)), tuple(missing))
    raise BadSettings("no executor works here: " + "; ".join(missing))


async def work(settings: Settings, place: WorkerPlace, say: Callable[[str], None]) -> int:
    """Run a worker until it is told to stop; its exit status, see `worker.main`."""
    choice = await choose_executor(settings, place.folder / "probe")
    say(f"executor: {choice.name} ({choice.reason})")
    client = WorkerClient(place.server, place.token)
    config = WorkerConfig(
        name=settings.worker.name,
        folder=place.folder,
        slots=max(1, settings.worker.slots),
        executor=choice.name,
        version=VERSION,
        system=f"{platform.machine()}-{platform.system().lower()}",
        host=socket.gethostname(),
        labels=settings.worker.labels,
        host_network=settings.worker.host_network,
        variables=settings.job_environment,
        drain_s=place.drain_seconds,
        kept_workspaces=settings.worker.kept_workspaces,
        kept_bytes=settings.worker.kept_bytes,
    )
    executors: Mapping[str, Executor] = {
        choice.name: make_executor(choice.name, settings, place.folder / "executors" / choice.name)
    }
    policy = SourcePolicy(allow_local=settings.sources.allow_local, environment=settings.source_environment)
    fetcher = AnyFetcher(
        GitFetcher(place.folder / "mirrors", policy),
        FolderFetcher(client.read_blob, lambda stream, folder: unpack(stream, folder)),
    )
    return await run_worker(config, executors, fetcher, client, say=say)
