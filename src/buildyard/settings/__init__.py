"""Every setting of a server, worker and command line, read once from one TOML file and `BUILDYARD_*` variables.

A variable wins over the file.
"""

from buildyard.settings.model import Secret, Settings, is_loopback, url_of
from buildyard.settings.reading import BadSettings, process_environment, read_settings

__all__ = ["BadSettings", "Secret", "Settings", "is_loopback", "process_environment", "read_settings", "url_of"]
