"""What lets a loop go on after a round that failed."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from buildyard.domain.errors import EngineError

log = structlog.get_logger()


@contextmanager
def survived(event: str, **about: object) -> Iterator[None]:
    """Log what fails inside as `event`, and go on after it; what nobody expected with its traceback."""
    try:
        yield
    except EngineError as exc:
        log.warning(event, **about, error=str(exc))
    except Exception:
        log.exception(event, **about)
