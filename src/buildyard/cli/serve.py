"""`buildyard serve`: the server in this process, its worker in another, and an orderly end of both."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from buildyard.bootstrap.logging import set_up_logging
from buildyard.bootstrap.server import first_steps, open_engine, server_app
from buildyard.bootstrap.worker import Choice, choose_executor
from buildyard.bootstrap.yard import yard_in_force
from buildyard.cli.data_folder import held_data_folder, listen_tcp, listen_unix
from buildyard.cli.embedded import EmbeddedWorker, prepare_launch
from buildyard.cli.exits import ExitCode, code_of
from buildyard.domain.errors import EngineError
from buildyard.settings import BadSettings, Settings, process_environment, read_settings, url_of
from buildyard.version import VERSION

log = structlog.get_logger()

SOCKET_MESSAGE = 1024 * 1024
"""Longest message of a WebSocket."""

GRACE_S = 1
"""How long requests that are being answered may take when the server stops."""


def serve_command(run: Path | None, matrix: tuple[str, ...]) -> int:
    """Serve until told to stop; the exit code."""
    try:
        settings = read_settings(process_environment())
        with held_data_folder(settings), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            set_up_logging(settings, settings.data / "server.log" if run else None)
            return runner.run(_serve(settings, run, matrix))
    except BadSettings as exc:
        sys.stderr.write(f"buildyard serve: {exc}\n")
        return ExitCode.USAGE
    except EngineError as exc:
        sys.stderr.write(f"buildyard serve: {exc}\n")
        sys.stderr.writelines(f"  {fault.path}: {fault.message}\n" for fault in getattr(exc, "faults", ()))
        return code_of(exc)


def say(text: str) -> None:
    """A line for the person at the terminal, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def _serve(settings: Settings, run: Path | None, matrix: tuple[str, ...]) -> int:
    stop, hurry = asyncio.Event(), asyncio.Event()
    reread = asyncio.Event()
    with _signals(stop, hurry, reread), contextlib.ExitStack() as sockets:
        tcp = sockets.enter_context(listen_tcp(settings.server.host, settings.server.port))
        unix = sockets.enter_context(listen_unix(settings.socket))
        settings = replace(settings, server=replace(settings.server, port=tcp.getsockname()[1]))
        async with open_engine(settings) as engine:
            steps = await first_steps(engine, settings)
            async with (
                yard_in_force(engine, settings, reread) as book,
                _listening(server_app(engine, settings, book), [tcp, unix]),
            ):
                choice = await choose_executor(settings, settings.data / "run" / "probe")
                async with _worker(settings, choice, steps.worker_token, hurry):
                    _welcome(settings, choice, steps.admin_password)
                    async with _first_build(settings, run, matrix):
                        await stop.wait()
                    say("stopping")
    return ExitCode.OK


@contextlib.contextmanager
def _signals(stop: asyncio.Event, hurry: asyncio.Event, reread: asyncio.Event) -> Iterator[None]:
    """The first SIGTERM or SIGINT asks for an orderly stop, the second for one without waiting for jobs.

    SIGHUP asks to read the yard file again.
    """
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, reread.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


class _Listener(uvicorn.Server):
    """Uvicorn that leaves signals alone and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


def _socket_protocol(*arguments: Any, **options: Any) -> asyncio.Protocol:
    """Uvicorn's WebSockets, imported with the first of them, for their memory."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(*arguments, **options)


@contextlib.asynccontextmanager
async def _listening(app: ASGIApp, sockets: list[socket.socket]) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app,
        http="httptools",
        ws=_socket_protocol,  # type: ignore[arg-type]  # it is called like a class, and imports one when that is wanted
        ws_max_size=SOCKET_MESSAGE,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
        backlog=1024,
    )
    server = _Listener(config)
    serving = asyncio.create_task(server.serve(sockets))
    ready = asyncio.create_task(server.listening.wait())
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        ready.cancel()
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def _worker(settings: Settings, choice: Choice, token: str, hurry: asyncio.Event) -> AsyncIterator[None]:
    if settings.worker.slots == 0:
        yield
        return
    launch = await asyncio.to_thread(prepare_launch, settings, choice, token, say)
    worker = EmbeddedWorker(launch, settings.data / "worker")
    keeping = asyncio.create_task(worker.keep())
    try:
        yield
    finally:
        await worker.stop(keeping, settings.worker.drain_seconds, hurry)


def _welcome(settings: Settings, choice: Choice, admin_password: str) -> None:
    say(f"Buildyard {VERSION}, data in {settings.data}")
    for name in settings.unknown_variables:
        say(f"warning: the variable {name} names no setting")
    if settings.worker.slots:
        say(f"executor: {choice.name}, {settings.worker.slots} at a time ({choice.reason})")
        for text in choice.missing:
            say(f"  would be better with: {text}")
    else:
        say("executor: none here (BUILDYARD_WORKERS=0); start workers with: buildyard worker")
    if admin_password:
        say(f"administrator: user admin, password {admin_password} (shown this once)")
    say(f"listening on {url_of(settings.server.host, settings.server.port)}")


@contextlib.asynccontextmanager
async def _first_build(settings: Settings, folder: Path | None, matrix: tuple[str, ...]) -> AsyncIterator[None]:
    """Build a folder with the command line of a process of its own, while the server runs."""
    if folder is None:
        yield
        return
    process = _start_run(settings, folder, matrix)
    telling = asyncio.create_task(_tell_end(process, settings))
    try:
        yield
    finally:
        telling.cancel()
        if process.poll() is None:
            process.terminate()
        await asyncio.to_thread(process.wait)


def _start_run(settings: Settings, folder: Path, matrix: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    """In a session of its own, so that Ctrl-C reaches the server alone, which then ends it."""
    argv = [sys.executable, "-m", "buildyard.cli", "run", str(folder), "--logs", "all"]
    for axis in matrix:
        argv += ["--matrix", axis]
    environment = {
        **process_environment(),
        "BUILDYARD_URL": url_of(settings.server.host, settings.server.port),
        "BUILDYARD_DATA": str(settings.data),
    }
    return subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


async def _tell_end(process: "subprocess.Popen[bytes]", settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    pidfd = os.pidfd_open(process.pid)
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    code = process.wait()
    words: dict[int, str] = {ExitCode.OK: "succeeded", ExitCode.BUILD_FAILED: "failed"}
    say(f"the build {words.get(code, f'could not be followed (exit code {code})')}")
    say(f"still serving on {url_of(settings.server.host, settings.server.port)}; Ctrl-C stops")
