"""Where a log's files lie, and disk errors in the domain's words."""

from collections.abc import Iterator
from contextlib import contextmanager

from buildyard.domain.errors import Unavailable
from buildyard.domain.ids import LogId


def shard(log: LogId) -> str:
    """Where a log lies below the folder, without suffix: at most a thousand logs share a folder (`000/012/345`)."""
    return f"{log // 1_000_000:03d}/{log // 1000 % 1000:03d}/{log % 1000:03d}"


@contextmanager
def disk_errors(log: LogId) -> Iterator[None]:
    """Turn what the operating system reports into Unavailable, naming the log."""
    try:
        yield
    except OSError as exc:
        raise Unavailable(f"the log store failed on log {log}: {exc.strerror or exc}") from exc
