"""The sending side of a connection of HTTP/2, which its streams share."""

from __future__ import annotations

import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

from .steps import CUT, Ending, GoAway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .sockets import Link

DATA: Final = 0x0
PING: Final = 0x6
ACK: Final = 0x1
_GOAWAY: Final = 0x7


class Sender:
    """The state of h2, and the link that carries its bytes."""

    def __init__(self, link: Link, *, max_concurrent_streams: int) -> None:
        self.link: Final = link
        self.lock: Final = threading.Lock()  # guards the rest, and the order of the bytes sent
        self.h2: Final = H2Connection(H2Configuration(client_side=False, validate_outbound_headers=False))
        limit = {SettingCodes.MAX_CONCURRENT_STREAMS: max_concurrent_streams}
        self.h2.local_settings = Settings(client=False, initial_values=limit)
        self.last_stream: int | None = None
        """The last stream of a GOAWAY frame sent."""
        self._missing = 0  # bytes of a frame that is not complete,
        self._unfinished = 0  # of this stream
        self._waiting = b""  # what others send until then

    @contextmanager
    def sending(self) -> Iterator[H2Connection]:
        """Hold the lock; then send what h2 has to send."""
        with self.lock:
            yield self.h2
            self.send(self.h2.data_to_send())

    def send(self, data: bytes) -> None:
        """Send bytes, with the lock held; or let them wait for the end of half a frame, whose data they would be."""
        self._waiting += data
        if not self._missing:
            data, self._waiting = self._waiting, b""
            self.link.send(data)

    def send_half(self, size: int, stream: int, data: bytes) -> None:
        """Send the beginning of a DATA frame."""
        with self.lock:
            self.link.send(frame_head(size, DATA, 0, stream) + data)
            self._missing, self._unfinished = max(0, size - len(data)), stream

    def send_unframed(self, stream: int, data: bytes) -> None:
        """Send bytes between two frames, or more of half a frame of this stream."""
        with self.lock:
            if self._missing and stream == self._unfinished:
                self.link.send(data)
                self._missing = max(0, self._missing - len(data))
                data = b""
            self.send(data)

    def go_away(self, step: GoAway) -> None:
        """Send a GOAWAY frame. h2 would refuse to send anything after it."""
        with self.lock:
            self.last_stream = self.h2.highest_inbound_stream_id if step.last_stream is None else step.last_stream
            self.send(frame_head(8, _GOAWAY, 0, 0) + struct.pack(">LL", self.last_stream, step.code))

    def disconnect(self, ending: Ending | None = None) -> None:
        """End the connection, cleanly or not, in the middle of all its streams."""
        with self.lock:
            if ending is None:
                self.link.finish()
            elif ending is CUT:
                self.link.cut()
            else:
                self.link.reset()
            self.link.stop_receiving()


def frame_head(size: int, kind: int, flags: int, stream: int) -> bytes:
    """Return the first bytes of a frame (RFC 9113, section 4.1)."""
    return struct.pack(">LBL", size << 8 | kind, flags, stream)
