"""One step as it is told to the server: its beginning, its log, its end. Secrets are taken out of all of it here."""

import asyncio

from buildyard.domain.states import Result, Stream
from buildyard.ports import Exit
from buildyard.protocol import StepFinished, StepGrant, StepStarted
from buildyard.worker.held import Ending, HeldAttempt
from buildyard.worker.masking import Mask, MaskedStream

QUIET_S = 0.5
"""After so long without output, a short end that was held back as the possible beginning of a secret is shown."""


class StepLog:
    """Writes one step's log; the attempt's log limit counts what programs print, not what Buildyard says."""

    def __init__(self, held: HeldAttempt, step: StepGrant) -> None:
        self._held = held
        self._step = step
        self._line_is_open = False
        self._masked: dict[Stream, MaskedStream] = {}
        self._rest: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The step's command is about to run."""
        self._held.reel.add(StepStarted(attempt=self._held.grant.attempt, token="", step=self._step.step))

    def say(self, text: str) -> None:
        """A line of Buildyard's own, on a line of its own. What a program had begun to print is over."""
        self._end_output()
        begin = "\n" if self._line_is_open else ""
        self._line_is_open = False
        line = f"{begin}{self._held.masked(text)}\n"
        self._held.reel.write(self._step.log, Stream.HEADER, line.encode(errors="backslashreplace"))

    def write(self, stream: Stream, data: bytes) -> None:
        """Output of a program; past the log limit the attempt is stopped."""
        mask = self._held.mask
        self._write(stream, data if mask is None else self._feed(mask, stream, data))

    def _write(self, stream: Stream, data: bytes) -> None:
        held = self._held
        if len(data) > held.log_left:
            data = data[: held.log_left]
            limit = size_words(held.grant.spec.limits.log_bytes)
            held.stop(Ending(result=Result.LOG_LIMIT, detail=f"log limit of {limit} reached"))
        if data:
            held.log_left -= len(data)
            self._line_is_open = not data.endswith(b"\n")
            held.reel.write(self._step.log, stream, data)

    def _feed(self, mask: Mask, stream: Stream, data: bytes) -> bytes:
        masked = self._masked.setdefault(stream, MaskedStream(mask))
        told = masked.feed(data)
        if self._rest is not None:
            self._rest.cancel()
        holding = any(each.is_holding for each in self._masked.values())
        self._rest = asyncio.get_running_loop().call_later(QUIET_S, self._show_rest) if holding else None
        return told

    def _show_rest(self) -> None:
        self._rest = None
        for stream, masked in self._masked.items():
            self._write(stream, masked.rest())

    def _end_output(self) -> None:
        """Write what masking still holds: no more will come."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        for stream, masked in self._masked.items():
            self._write(stream, masked.end())
        self._masked.clear()

    def finish(self, ended: Exit | Ending) -> None:
        """The step is over, as its command or what stopped it says."""
        self._end_output()
        self._held.reel.add(
            StepFinished(
                attempt=self._held.grant.attempt,
                token="",
                step=self._step.step,
                log=self._step.log,
                log_size=self._held.reel.size_of(self._step.log),
                result=ended.result,
                cause=ended.cause,
                detail=self._held.masked(ended.detail),
                exit_status=ended.status if isinstance(ended, Exit) else None,
            )
        )


def size_words(count: int) -> str:
    """A number of bytes for people: `1.5 MiB`."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.1f} {unit}".replace(".0 ", " ")
