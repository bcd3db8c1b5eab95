"""A client of HTTP/2 on a plain socket, built on h2, which does nothing by itself but acknowledge."""

from __future__ import annotations

import struct
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, StreamEnded

from support.dialling import dial

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from sseclient_dual.testing import SSEServer

_Event = TypeVar("_Event", bound=Event)


class Http2Client:
    """One connection.

    :param acknowledge: open the windows again by the data received.
    """

    def __init__(self, sock: socket.socket, *, acknowledge: bool = True) -> None:
        self.sock = sock
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.events: list[Event] = []
        self._acknowledge = acknowledge
        self.h2.initiate_connection()
        self.send()

    def send(self) -> None:
        """Send what h2 has to send."""
        self.sock.sendall(self.h2.data_to_send())

    def get(self, path: str = "/", *, body: bytes = b"", **fields: str) -> int:
        """Send a request; return the number of its stream."""
        number = self.h2.get_next_available_stream_id()
        head = {
            ":method": "POST" if body else "GET",
            ":path": path,
            ":scheme": "http",
            ":authority": "test",
            **fields,
        }
        self.h2.send_headers(number, list(head.items()), end_stream=not body)
        if body:
            self.h2.send_data(number, body, end_stream=True)
        self.send()
        return number

    def receive(self) -> bool:
        """Receive once; return False at the end of the connection."""
        data = self.sock.recv(65536)
        events = self.h2.receive_data(data)
        self.events += events
        for event in events:
            if isinstance(event, DataReceived) and self._acknowledge:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if data:
            with suppress(BrokenPipeError):  # the server may have ended the connection already
                self.send()
        return bool(data)

    def wait_for(self, kind: type[_Event], stream: int | None = None) -> _Event:
        """Return the first event of this kind that was or is received, of this stream if it is given."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and stream in {None, getattr(event, "stream_id", None)}:
                    return event
            assert self.receive(), f"the connection ended; {self.events}"

    def body(self, stream: int, size: int | None = None) -> bytes:
        """Return at least `size` bytes of a body; None for all of it."""
        if size is None:
            self.wait_for(StreamEnded, stream)
        while len(data := self._received(stream)) < (size or 0):
            assert self.receive(), f"the connection ended after {data!r}"
        return data

    def _received(self, stream: int) -> bytes:
        pieces = [event for event in self.events if isinstance(event, DataReceived) and event.stream_id == stream]
        return b"".join(event.data for event in pieces)

    def rest(self) -> None:
        """Receive to the end of the connection."""
        while self.receive():
            pass


@contextmanager
def dial_http2(server: SSEServer, **options: Any) -> Iterator[Http2Client]:
    """Yield a client that is connected by prior knowledge."""
    with dial(server) as sock:
        yield Http2Client(sock, **options)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return a frame (RFC 9113, section 4.1)."""
    return struct.pack(">LBL", len(payload) << 8 | kind, flags, stream) + payload
