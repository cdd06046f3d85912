"""What a worker is told when it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """A worker's identity, its state folder and its habits.

    `executor` is the one for jobs that ask for none. `variables` reach every step (the allowlist of pip, npm
    and proxy variables, read by settings). `host_network`: trusted jobs may ask for the host's network. `drain_s`
    is how long running jobs may go on after the first signal; None: to their end. `patience_s` is how long a job
    waits for a file transfer with a server that is away. A server of another version is asked again after
    `incompatible_s`. At most `kept_workspaces` are kept after the ends of their jobs, with `kept_bytes` together.
    """

    name: str
    folder: Path
    slots: int
    executor: str
    version: str
    system: str
    host: str = ""
    labels: tuple[str, ...] = ()
    host_network: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    drain_s: float | None = None
    flush_s: float = 5.0
    patience_s: float = 60.0
    incompatible_s: float = 30.0
    kept_workspaces: int = 4
    kept_bytes: int = 10 * 1024**3
