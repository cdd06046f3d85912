"""Where the things of a job are found: the addresses that answers name and that routes read."""

from urllib.parse import quote

_LOGS = "/logs"


def job_url(base: str, owner: str, build: int) -> str:
    """A job's page, for people. `base` is the server's public address, `owner` a name without `~`."""
    return f"{base}/~{quote(owner, safe='')}/job/{build}"


def setup_log_url(base: str, build: int) -> str:
    """What was written before a job's first task."""
    return f"{base}{_LOGS}/{build}/log"


def task_log_url(base: str, build: int, task: str) -> str:
    """What a task wrote."""
    return f"{base}{_LOGS}/{build}/{segment_of(task)}/log"


def artifact_url(base: str, build: int, uid: str, path: str) -> str:
    """A kept file; the end of its address is its name, for clients that save it under that."""
    return f"{base}{_LOGS}/{build}/artifacts/{uid}/{segment_of(path.rpartition('/')[2])}"


def segment_of(name: str) -> str:
    """A name as one segment of a path. Clients take `.` and `..` out of paths, so these get a mark before them."""
    return quote(f"~{name}" if _is_dots(name) else name, safe="")


def name_in(segment: str) -> str:
    """The name that a decoded segment stands for."""
    return segment[1:] if segment.startswith("~") and _is_dots(segment[1:]) else segment


def _is_dots(name: str) -> bool:
    return name in (".", "..")
