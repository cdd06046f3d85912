"""Exit codes, and how an error becomes one."""

import json
import sys
from collections.abc import Callable, Coroutine
from enum import IntEnum
from typing import Any

from buildyard.domain.errors import EngineError, Forbidden, Invalid, Unavailable
from buildyard.settings import BadSettings


class ExitCode(IntEnum):
    """What the exit status of every command means."""

    OK = 0
    BUILD_FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_ALLOWED = 4
    REFUSED = 5
    INTERRUPTED = 130


MEANING = {
    ExitCode.OK: "done; with `run`, `show` and `logs --follow`: the build succeeded",
    ExitCode.BUILD_FAILED: "the build ended otherwise; with `yard diff`: there is something to change",
    ExitCode.USAGE: "wrong arguments or settings",
    ExitCode.UNREACHABLE: "the server cannot be reached or did not answer",
    ExitCode.NOT_ALLOWED: "not signed in, or not allowed",
    ExitCode.REFUSED: "the server refused: not found, not valid, a conflict, over a limit",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C",
}


def carry_out(command: Callable[[], Coroutine[Any, Any, int | None]], *, as_json: bool) -> int:
    """Run a command to its exit code; what it raises on purpose is told on standard error, as JSON if asked."""
    import asyncio

    try:
        return asyncio.run(command()) or ExitCode.OK
    except EngineError as exc:
        _tell(exc, as_json=as_json)
        return code_of(exc)
    except BadSettings as exc:
        _tell(exc, as_json=as_json)
        return ExitCode.USAGE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _leave_pipe()
        return ExitCode.OK


def code_of(error: EngineError) -> ExitCode:
    """The exit code for an error."""
    match error:
        case Unavailable():
            return ExitCode.UNREACHABLE
        case Forbidden():
            return ExitCode.NOT_ALLOWED
        case _:
            return ExitCode.REFUSED


def _tell(error: Exception, *, as_json: bool) -> None:
    faults = error.faults if isinstance(error, Invalid) else ()
    if as_json:
        told = {"error": str(error), "faults": [{"path": f.path, "message": f.message, "code": f.code} for f in faults]}
        sys.stderr.write(json.dumps(told, ensure_ascii=False) + "\n")
        return
    sys.stderr.write(f"buildyard: {error}\n")
    for fault in faults:
        sys.stderr.write(f"  {fault.path}: {fault.message}\n" if fault.path else f"  {fault.message}\n")


def _leave_pipe() -> None:
    """The reader of our output has gone (`| head`): keep Python from complaining about it at its end."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
