"""The first process of a job's container, which runs its commands one after the other, and the worker's end of it.

The keeper is a shell that takes lines from the worker: the path of a script and a mark. It runs the script, then kills
every other process of the container, in one system call that no fork escapes, until none is left, and prints the mark
on both streams, so that the worker knows that it has all output. While a script runs, a watcher beside it takes the
lines: each is the wish to kill. When the connection ends, for the worker closed it or died, watcher and keeper end
everything, themselves too. So a command costs two forks, what it installs stays for the next, and nothing survives.
"""

import asyncio
import secrets
from collections.abc import Callable

from buildyard.adapters.containers.engine import Connection
from buildyard.domain.errors import Unavailable
from buildyard.domain.states import Stream
from buildyard.ports import OutputSink

KEEPER = """exec 3<&0 4>&2 2>/dev/null
echo ready >&4; echo ready
while read -r script mark; do
    case $script in /*) ;; *) continue ;; esac
    (while read -r wish; do while kill -s KILL -- -1; do :; done; done; while kill -s KILL -- -1; do :; done) \\
        <&3 3<&- >/dev/null 4>&- &
    (exec /bin/sh "$script" </dev/null 2>&4 3<&- 4>&-)
    status=$?
    kill -s KILL -- -1
    wait
    while kill -s KILL -- -1; do (:); done
    echo "$mark $status"; echo "$mark $status" >&4
done
"""
"""The shell itself says nothing of its own, such as that a command was killed: its error output leads nowhere.
The watcher is killed with the rest once a script has ended, perhaps in the middle of a line: hence the `case`.
`wait` and `(:)` are for the dead whose parent the keeper has become: reaping them is a side effect of waiting."""

OWN_PIDS = 2
"""The keeper and its watcher."""

_READY_S = 60.0
_SAID = 2000


class MarkedStream:
    """One stream of the keeper: passes on what comes before a mark, and hears what the mark is followed by."""

    def __init__(self, mark: bytes, output: Callable[[bytes], None]) -> None:
        self._mark = mark
        self._output = output
        self._held = b""
        self.status: int | None = None

    def feed(self, data: bytes) -> None:
        """Take what came; the end of it that could be the beginning of the mark is held back."""
        data = self._held + data
        at = data.find(self._mark)
        if at >= 0:
            self._held, ready = data[at:], data[:at]
            word, end, _ = data[at + len(self._mark) :].partition(b"\n")
            if end:
                self.status = int(word or b"0")
        else:
            kept = next(
                (n for n in range(min(len(self._mark) - 1, len(data)), 0, -1) if data.endswith(self._mark[:n])), 0
            )
            ready, self._held = data[: len(data) - kept], data[len(data) - kept :]
        if ready:
            self._output(ready)


class _Script:
    """A script that the keeper runs: both its streams, and its end."""

    def __init__(self, mark: str, output: OutputSink) -> None:
        self._streams = {
            stream: MarkedStream(mark.encode(), lambda data, stream=stream: output(stream, data))  # type: ignore[misc]
            for stream in (Stream.OUTPUT, Stream.ERROR)
        }
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def feed(self, stream: Stream, data: bytes) -> None:
        self._streams[stream].feed(data)
        statuses = [each.status for each in self._streams.values()]
        if None not in statuses and not self.ended.done():
            self.ended.set_result(statuses[0] or 0)


def _nowhere(_stream: Stream, _data: bytes) -> None:
    """Output that nobody wants."""


class Keeper:
    """The worker's end of the connection to a container's keeper. Runs one script at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._said = b""
        self._script = _Script("ready", self._note)
        self._listening = asyncio.create_task(self._listen())

    @property
    def said(self) -> str:
        """What came before the keeper was ready, for messages about one that did not start."""
        return self._said.decode(errors="replace").strip()

    async def ready(self) -> None:
        """Wait until the container runs. Raises Unavailable if it ended at once."""
        try:
            async with asyncio.timeout(_READY_S):
                await self._script.ended
        except TimeoutError as exc:
            raise Unavailable(f"the container was not ready within {_READY_S:g} s") from exc

    async def run(self, script: str, output: OutputSink) -> int:
        """Run the script at a path of the container; its exit status, once everything else in there is dead.

        Cancelling this changes nothing in the container: kill, then wait for the end. Raises Unavailable if the
        container ends.
        """
        mark = secrets.token_hex(16)
        current = self._script = _Script(mark, output)
        if self._listening.done():
            self._give_up()
        await self._connection.write(f"{script} {mark}\n".encode())
        return await current.ended

    async def kill(self) -> None:
        """Kill everything in the container but the keeper, if a script runs. Kills what runs at that moment."""
        await self._connection.write(b"k\n")

    async def close(self) -> None:
        """End the connection, and with it everything in the container."""
        self._connection.close()
        self._listening.cancel()
        await asyncio.wait({self._listening})

    def _note(self, _stream: Stream, data: bytes) -> None:
        self._said = (self._said + data)[:_SAID]

    async def _listen(self) -> None:
        try:
            async for stream, data in self._connection.output():
                self._script.feed(stream, data)
        except Unavailable:
            pass
        finally:
            self._give_up()

    def _give_up(self) -> None:
        if not self._script.ended.done():
            self._script.ended.set_exception(Unavailable(f"the container ended {self.said}".strip()))
            self._script.ended.exception()


async def clear(keeper: Keeper, empty_script: str) -> None:
    """Kill everything in the container but the keeper, while no script runs, and wait for its death."""
    await keeper.run(empty_script, _nowhere)
