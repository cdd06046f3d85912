"""Sets up how a process writes its own log: text or JSON, to standard error or a file."""

import logging
import sys
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import Processor

from buildyard.settings import Settings

ROTATE_BYTES = 16 * 1024 * 1024


def set_up_logging(settings: Settings, file: Path | None = None) -> None:
    """Called once, at the start of a process. A file is added to; one grown too large is put aside first."""
    stream = sys.stderr if file is None else open_log(file)
    level = logging.getLevelNamesMapping()[settings.server.log_level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_renderers(settings, stream),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=stream, format="%(levelname)s %(name)s: %(message)s")


def _renderers(settings: Settings, stream: TextIO) -> list[Processor]:
    if settings.server.log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]


def open_log(file: Path) -> TextIO:
    """A log file to add to, mode 0600."""
    if file.exists() and file.stat().st_size > ROTATE_BYTES:
        file.replace(file.with_suffix(".old.log"))
    file.touch(mode=0o600)
    return file.open("a", buffering=1, encoding="utf-8")
