"""Files of short logs that were sealed, emptied and used again for new ones.

Making and deleting files is what costs most in a short log's life: several times all its writes on ext4.
"""

import os
from contextlib import suppress
from pathlib import Path

from buildyard.adapters.files import Handle

_MOST = 64
_SHORT = 1024 * 1024


class Spares:
    """Open, empty pairs of files below `folder`; what an earlier process left there is deleted at the first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._pairs: list[tuple[str, Handle, Handle]] = []
        self._made = 0

    def take(self, path: str) -> tuple[Handle, Handle] | None:
        """Move an empty pair to `path` (`.log` and `.idx`), if there is one and the folder exists."""
        if not self._pairs:
            return None
        name, data, records = self._pairs.pop()
        try:
            os.rename(f"{name}.log", f"{path}.log")
            os.rename(f"{name}.idx", f"{path}.idx")
        except OSError:
            for stale in (f"{name}.log", f"{name}.idx", f"{path}.log", f"{path}.idx"):
                with suppress(FileNotFoundError):
                    os.unlink(stale)
            return None
        return data, records

    def give(self, path: str, data: Handle, records: Handle) -> bool:
        """Take over the files of a deleted log if they are short and wanted; nobody may read them any more."""
        if len(self._pairs) >= _MOST or data.size > _SHORT or records.size > _SHORT:
            return False
        if not self._made:
            self._clear()
        name = f"{self._folder}/{self._made}"
        for handle, suffix in ((data, "log"), (records, "idx")):
            os.ftruncate(handle.fd, 0)
            os.rename(f"{path}.{suffix}", f"{name}.{suffix}")
        self._made += 1
        self._pairs.append((name, data, records))
        return True

    def close(self) -> None:
        """Delete the spare files."""
        self._pairs.clear()
        if self._made:
            self._clear()

    def _clear(self) -> None:
        os.makedirs(self._folder, exist_ok=True)
        for name in os.listdir(self._folder):
            os.unlink(f"{self._folder}/{name}")
