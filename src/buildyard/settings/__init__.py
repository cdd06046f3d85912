"""Every setting of a server, worker and command line, read once from one TOML file and `BUILDYARD_*` variables.

A variable wins over the file.
"""

from buildyard.settings.model import ExecutorName, Secret, Settings, is_loopback, url_of
from buildyard.settings.reading import CONFIG_VARIABLE, BadSettings, as_variables, process_environment, read_settings

__all__ = [
    "CONFIG_VARIABLE",
    "BadSettings",
    "ExecutorName",
    "Secret",
    "Settings",
    "as_variables",
    "is_loopback",
    "process_environment",
    "read_settings",
    "url_of",
]
