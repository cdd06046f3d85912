"""Short sealed logs on the local disk, a thousand to a file, since making a file costs more than writing a short log.

    000/012.pack   the sealed objects (see `sealed`) of logs 12000 to 12999, in the order they were sealed
    000/012.at     for each of those logs, by number, a 16-byte entry: where its object begins (u64), its length (u32),
                   CRC-32 of log, beginning and length (u32); zeros: there is none

An entry is written only after its object is on disk, and is on disk itself before the log counts as sealed. What a
crash left in a pack without an entry is never read. A pack is emptied when the last of its logs is removed.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from buildyard.adapters.files import Handle, open_handle, sync_folder
from buildyard.adapters.logs.cache import Cache
from buildyard.domain.errors import Unavailable
from buildyard.domain.ids import LogId

MOST = 16 * 1024
"""Longest object that is packed."""

_LOGS = 1000
_OPEN = 16
_ENTRY = Struct("<QII")
_NAMED = Struct("<QQI")
_ABSENT = bytes(_ENTRY.size)


class _Pack(NamedTuple):
    """The open files of a thousand logs."""

    objects: Handle
    entries: Handle


class Packs:
    """All packs below a folder. One object in one process at a time may add and remove; several may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._open: Cache[int, _Pack] = Cache(_OPEN)
        self._durable: set[str] = set()
        self._changing = threading.Lock()
        self._opening = threading.Lock()

    def find(self, log: LogId) -> bytes | None:
        """The sealed object of a log, if it is packed; Unavailable if its entry or its length is wrong."""
        pack = self._pack(log, make=False)
        if pack is None:
            return None
        place = log % _LOGS * _ENTRY.size
        entry = pack.entries.read(place, place + _ENTRY.size)
        if entry == _ABSENT or len(entry) < _ENTRY.size:
            return None
        start, length, check = _ENTRY.unpack(entry)
        data = pack.objects.read(start, start + length)
        if check != crc32(_NAMED.pack(log, start, length)) or len(data) < length:
            if pack.entries.read(place, place + _ENTRY.size) != entry:
                return self.find(log)  # it was removed meanwhile
            raise Unavailable(f"log {log} is damaged: its pack does not hold it")
        return data

    def add(self, objects: Sequence[tuple[LogId, bytes]]) -> None:
        """Store sealed objects durably. Blocks; after an OSError none of them counts."""
        by_pack: dict[int, list[tuple[LogId, bytes]]] = {}
        for log, data in objects:
            by_pack.setdefault(log // _LOGS, []).append((log, data))
        with self._changing:
            for few in by_pack.values():
                self._add(few)

    def remove(self, log: LogId) -> None:
        """Forget a log, packed or not. Blocks."""
        with self._changing:
            pack = self._pack(log, make=False)
            if pack is None or self.find(log) is None:
                return
            pack.entries.write(_ABSENT, log % _LOGS * _ENTRY.size)
            if not any(pack.entries.read(0, _LOGS * _ENTRY.size)):
                os.ftruncate(pack.objects.fd, 0)

    def close(self) -> None:
        """Close all files."""
        self._open.clear()

    def _add(self, objects: Sequence[tuple[LogId, bytes]]) -> None:
        pack = self._pack(objects[0][0], make=True)
        assert pack is not None
        start = pack.objects.size
        try:
            pack.objects.write(b"".join(data for _, data in objects), start)
            os.fdatasync(pack.objects.fd)
        except OSError:
            os.ftruncate(pack.objects.fd, start)
            raise
        written: list[LogId] = []
        try:
            for log, data in objects:
                written.append(log)
                entry = _ENTRY.pack(start, len(data), crc32(_NAMED.pack(log, start, len(data))))
                pack.entries.write(entry, log % _LOGS * _ENTRY.size)
                start += len(data)
            os.fdatasync(pack.entries.fd)
            self._make_durable(self._name(objects[0][0]))
        except OSError:
            for log in written:
                pack.entries.write(_ABSENT, log % _LOGS * _ENTRY.size)
            raise

    def _make_durable(self, name: str) -> None:
        """See to it that the names of a pack's files last, the first time."""
        if name in self._durable:
            return
        folder = os.path.dirname(name)
        for path in (folder, self._folder):
            sync_folder(path)
        self._durable.add(name)

    def _pack(self, log: LogId, *, make: bool) -> _Pack | None:
        """The open files of a log's pack; None if they are not there and not to be made."""
        with self._opening:
            known = self._open.get(log // _LOGS)
            if known is not None:
                return known
            name = self._name(log)
            flags = os.O_RDWR | (os.O_CREAT if make else 0)
            try:
                pack = _Pack(open_handle(f"{name}.pack", flags), open_handle(f"{name}.at", flags))
            except FileNotFoundError:
                return None
            self._open.put(log // _LOGS, pack)
            return pack

    def _name(self, log: LogId) -> str:
        return f"{self._folder}/{log // 1_000_000:03d}/{log // _LOGS % _LOGS:03d}"
