"""Buildyard: a self-hosted server that builds, tests and runs software."""

from importlib.metadata import version

__version__ = version("buildyard")
