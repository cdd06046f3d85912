"""Whose work is trusted: the one place that decides it."""

from buildyard.domain.builds import Build


def is_trusted(_build: Build) -> bool:
    """Whether a build may have what untrusted work must not: caches of trusted work, `process`, the host's network.

    True for all builds that exist: each was asked for by somebody who may run work in its project, with a source of
    their choice. Work that strangers can cause (pull requests of forks, say) is to be told apart here.
    """
    return True
