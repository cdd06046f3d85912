"""The frames in which a container engine sends output and error output over one connection."""

from buildyard.domain.states import Stream

_HEAD = 8
_STREAMS = {0: Stream.OUTPUT, 1: Stream.OUTPUT, 2: Stream.ERROR}


class FrameParser:
    """Takes bytes as they arrive and gives each frame's part of them at once, in order.

    A frame has a head of eight bytes: the stream, three zeros, and the length as a big-endian number. With
    `terminal` there are no frames: all is output.
    """

    def __init__(self, *, terminal: bool = False) -> None:
        self._terminal = terminal
        self._head = b""
        self._stream = Stream.OUTPUT
        self._left = 0

    def feed(self, data: bytes) -> list[tuple[Stream, bytes]]:
        """The output in `data`."""
        if self._terminal:
            return [(Stream.OUTPUT, data)] if data else []
        found: list[tuple[Stream, bytes]] = []
        at = 0
        while at < len(data):
            if self._left == 0:
                taken = data[at : at + _HEAD - len(self._head)]
                self._head += taken
                at += len(taken)
                if len(self._head) == _HEAD:
                    self._stream = _STREAMS.get(self._head[0], Stream.ERROR)
                    self._left = int.from_bytes(self._head[4:])
                    self._head = b""
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if found and found[-1][0] is self._stream:
                piece = found.pop()[1] + piece
            found.append((self._stream, piece))
        return found
