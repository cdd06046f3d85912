"""Whose work is trusted: the one place that decides it."""

from buildyard.domain.builds import Build


def is_trusted(build: Build) -> bool:
    """Whether a build may have what untrusted work must not: caches of trusted work, `process`, the host's network.

    Work that somebody asked for who may run work in its project is trusted, whatever its source. Work that
    strangers can cause (pull requests of forks, say, and what follows from them) was marked when it was made.
    """
    return build.trusted
