"""The worker process from its start to its exit status."""

import asyncio
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from buildyard.client.worker import WorkerClient
from buildyard.domain.errors import Conflict, Forbidden, Invalid, Unauthenticated, Unavailable
from buildyard.ports import Executor, SourceFetcher
from buildyard.worker.bench import Bench
from buildyard.worker.config import WorkerConfig
from buildyard.worker.folder import hold
from buildyard.worker.service import Worker

log = structlog.get_logger()

STOPPED = 0
FAILED = 1
UNAUTHENTICATED = 3
REFUSED = 4
FOLDER_IN_USE = 5
"""Exit statuses: stopped as wished; this machine does not do its part; the token is not accepted; the server
refuses or has removed this worker; another worker holds the state folder."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run_worker(
    config: WorkerConfig,
    executors: Mapping[str, Executor],
    fetcher: SourceFetcher,
    client: WorkerClient,
    *,
    say: Callable[[str], None],
) -> int:
    """Work until SIGTERM or SIGINT, then drain; a second one kills what runs. Answers with the exit status.

    The executors are swept before the server hears of this process, so that the processes of a dead predecessor
    are dead when the server learns of its death. `say` takes words for the person who started the worker.
    """
    try:
        with hold(config.folder) as folder:
            session = secrets.token_hex(16)
            bench = Bench(
                config=config, executors=executors, fetcher=fetcher, client=client, folder=folder, session=session
            )
            await _sweep(executors)
            return await _serve(bench, say)
    except Conflict as exc:
        return _give_up(say, str(exc), FOLDER_IN_USE)
    except Unavailable as exc:
        return _give_up(say, str(exc), FAILED)
    finally:
        for executor in executors.values():
            await executor.close()
        await client.close()


async def _sweep(executors: Mapping[str, Executor]) -> None:
    for name, executor in executors.items():
        if count := await executor.sweep():
            log.warning("swept", executor=name, things=count)


async def _serve(bench: Bench, say: Callable[[str], None]) -> int:
    worker = Worker(bench)
    try:
        with _signals(worker):
            await worker.run()
    except Unauthenticated as exc:
        return _give_up(say, f"the server does not accept this worker's token: {exc}", UNAUTHENTICATED)
    except (Forbidden, Invalid) as exc:
        return _give_up(say, f"the server refuses this worker: {exc}", REFUSED)
    return STOPPED


def _give_up(say: Callable[[str], None], words: str, status: int) -> int:
    log.error("worker_ended", error=words, status=status)
    say(words)
    return status


@contextmanager
def _signals(worker: Worker) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        (worker.interrupt if worker.is_draining else worker.drain)()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
