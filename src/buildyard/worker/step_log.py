"""One step as it is told to the server: its beginning, its log, its end."""

from buildyard.domain.states import Result, Stream
from buildyard.ports import Exit
from buildyard.protocol import StepFinished, StepGrant, StepStarted
from buildyard.worker.held import Ending, HeldAttempt


class StepLog:
    """Writes one step's log; the attempt's log limit counts what programs print, not what Buildyard says."""

    def __init__(self, held: HeldAttempt, step: StepGrant) -> None:
        self._held = held
        self._step = step
        self._line_is_open = False

    def start(self) -> None:
        """The step's command is about to run."""
        self._held.reel.add(StepStarted(attempt=self._held.grant.attempt, token="", step=self._step.step))

    def say(self, text: str) -> None:
        """A line of Buildyard's own, on a line of its own."""
        begin = "\n" if self._line_is_open else ""
        self._line_is_open = False
        self._held.reel.write(self._step.log, Stream.HEADER, f"{begin}{text}\n".encode(errors="backslashreplace"))

    def write(self, stream: Stream, data: bytes) -> None:
        """Output of a program; past the log limit the attempt is stopped."""
        held = self._held
        if len(data) > held.log_left:
            data = data[: held.log_left]
            limit = size_words(held.grant.spec.limits.log_bytes)
            held.stop(Ending(result=Result.LOG_LIMIT, detail=f"log limit of {limit} reached"))
        if data:
            held.log_left -= len(data)
            self._line_is_open = not data.endswith(b"\n")
            held.reel.write(self._step.log, stream, data)

    def finish(self, ended: Exit | Ending) -> None:
        """The step is over, as its command or what stopped it says."""
        self._held.reel.add(
            StepFinished(
                attempt=self._held.grant.attempt,
                token="",
                step=self._step.step,
                log=self._step.log,
                log_size=self._held.reel.size_of(self._step.log),
                result=ended.result,
                cause=ended.cause,
                detail=ended.detail,
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
