"""`buildyard worker`: a worker in this process, for a server anywhere."""

import asyncio
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from buildyard.cli import spare_rich
from buildyard.cli.exits import ExitCode
from buildyard.settings import BadSettings, Settings, process_environment, read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What was asked for on the command line; empty values leave the settings as they are."""

    server: str
    token: str = ""
    token_file: Path | None = None
    folder: Path | None = None
    slots: int | None = None
    name: str = ""
    labels: tuple[str, ...] = ()
    drain_seconds: float | None = None


def worker_command(options: WorkerOptions) -> int:
    """Work until told to stop; the exit code."""
    from buildyard.bootstrap.logging import set_up_logging
    from buildyard.bootstrap.worker import WorkerPlace, work

    try:
        settings = _settings(options)
        set_up_logging(settings)
        place = WorkerPlace(
            server=options.server,
            token=_token(options, settings),
            folder=options.folder or settings.data / "worker",
            drain_seconds=options.drain_seconds,
        )
        return asyncio.run(work(settings, place, _say))
    except BadSettings as exc:
        _say(f"buildyard worker: {exc}")
        return ExitCode.USAGE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _settings(options: WorkerOptions) -> Settings:
    settings = read_settings(process_environment())
    worker = replace(
        settings.worker,
        slots=options.slots or settings.worker.slots,
        name=options.name or settings.worker.name,
        labels=options.labels or settings.worker.labels,
    )
    return replace(settings, worker=worker)


def _token(options: WorkerOptions, settings: Settings) -> str:
    if options.token_file is not None:
        try:
            return options.token_file.read_text().strip()
        except OSError as exc:
            raise BadSettings(f"cannot read {options.token_file}: {exc.strerror}") from exc
    token = options.token or settings.client.token.reveal()
    if not token:
        raise BadSettings("a worker needs a token with the scope runner: --token-file, or BUILDYARD_TOKEN")
    return token


def _embedded() -> int:
    """How `serve` starts its worker: SERVER FOLDER DRAIN_SECONDS, the rest by variables; without Typer, to be small."""
    server, folder, drain_seconds = sys.argv[1:]
    spare_rich()
    options = WorkerOptions(server=server, folder=Path(folder), drain_seconds=float(drain_seconds))
    return worker_command(options)


if __name__ == "__main__":
    sys.exit(_embedded())
