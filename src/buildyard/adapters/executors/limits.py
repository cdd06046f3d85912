"""What holds a job within its limits where there are no cgroups: resource limits and a choice of CPUs."""

import math
import os
import random

from buildyard.adapters.executors.cgroups import Cgroups
from buildyard.domain.specs import Limits


def choose_cpus(limits: Limits, cgroups: Cgroups | None) -> frozenset[int]:
    """The CPUs a job is bound to, if that is the only way to hold it to `limits.cpus`; empty for no bound."""
    if limits.cpus is None or (cgroups is not None and cgroups.enforces("cpu")):
        return frozenset()
    usable = sorted(os.sched_getaffinity(0))
    return frozenset(random.sample(usable, min(len(usable), math.ceil(limits.cpus))))


def limit_argv(prlimit: str | None, limits: Limits, cgroups: Cgroups | None, *, own_users: bool) -> tuple[str, ...]:
    """The wrapper that sets resource limits for what cgroups do not enforce.

    Processes can be counted so only in a user namespace of the job's own (`own_users`): elsewhere the kernel counts
    all processes of the user.
    """
    options = []
    if limits.memory_bytes is not None and not (cgroups and cgroups.enforces("memory")):
        options.append(f"--as={limits.memory_bytes}")
    if limits.pids is not None and own_users and not (cgroups and cgroups.enforces("pids")):
        options.append(f"--nproc={limits.pids}")
    return (prlimit, *options, "--") if prlimit and options else ()


def limit_notes(prlimit: str | None, cgroups: Cgroups | None, *, own_users: bool) -> tuple[str, ...]:
    """How memory, processes and CPU are limited on this machine, for people."""
    by_cgroup = [name for name in ("memory", "pids", "cpu") if cgroups is not None and cgroups.enforces(name)]
    notes = []
    if by_cgroup and cgroups is not None:
        notes.append(f"limits by cgroup (version {cgroups.version}): {', '.join(by_cgroup)}")
    if "memory" not in by_cgroup:
        notes.append("memory is limited per process, as address space" if prlimit else "memory is not limited")
    if "pids" not in by_cgroup:
        notes.append("processes are limited by rlimit" if own_users and prlimit else "processes are not limited")
    if "cpu" not in by_cgroup:
        notes.append("CPU is limited to whole CPUs by affinity")
    return tuple(notes)
