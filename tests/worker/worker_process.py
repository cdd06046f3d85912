"""A worker as a process of its own: `python worker_process.py URL FOLDER TOKEN DRAIN_S`."""

import asyncio
import sys
from pathlib import Path

from buildyard.adapters.executors.process import ProcessExecutor
from buildyard.adapters.sources.folder import FolderFetcher
from buildyard.client.worker import WorkerClient
from buildyard.worker.config import WorkerConfig
from buildyard.worker.main import run_worker
from buildyard.worker.unpacking import unpack


async def main(url: str, folder: str, token: str, drain_s: str) -> int:
    config = WorkerConfig(
        name="w1",
        folder=Path(folder),
        slots=2,
        executor="process",
        version="test",
        system="x86_64-linux",
        drain_s=float(drain_s) if drain_s else None,
        flush_s=2.0,
    )
    client = WorkerClient(url, token)
    executors = {"process": ProcessExecutor(config.folder, use_cgroups=False)}
    return await run_worker(config, executors, FolderFetcher(client.read_blob, unpack), client, say=print)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
