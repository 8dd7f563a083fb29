"""A worker's side of the connection to its parent: frames in, frames out."""

import socket
import threading
from contextlib import suppress
from select import POLLIN, poll

from services.env.workers.wire import HEADER, MAX_FRAME_BYTES, Answer, frame


class Line:
    """The connection to the parent. Answers of several threads go out whole."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._poll = poll()
        self._poll.register(connection, POLLIN)

    def send(self, ready: list[Answer]) -> None:
        """Send answers in one frame; a parent that has gone wants none."""
        with self._sending, suppress(BrokenPipeError, ConnectionError):
            self._connection.sendall(frame(ready))

    def comes(self, within_s: float) -> bool:
        """Whether something can be received, or the parent has gone, within so long."""
        return bool(self._poll.poll(within_s * 1000))

    def receive(self) -> bytes:
        """The body of the next frame; b"" where the parent has gone."""
        head = _receive(self._connection, HEADER.size)
        if not head:
            return b""
        (length,) = HEADER.unpack(head)
        if length > MAX_FRAME_BYTES:
            raise ValueError(f"frame of {length} bytes is longer than {MAX_FRAME_BYTES}")
        return _receive(self._connection, length)


def _receive(connection: socket.socket, length: int) -> bytes:
    """Exactly `length` bytes; b"" where the other side closed."""
    parts = bytearray()
    while len(parts) < length:
        chunk = connection.recv(min(length - len(parts), 1 << 20))
        if not chunk:
            return b""
        parts += chunk
    return bytes(parts)
