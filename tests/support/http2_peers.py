"""A server of HTTP/2 whose script sends any frames; `sseclient_dual.testing.SSEServer` keeps to the protocol."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import h2.events
from h2.config import H2Configuration
from h2.connection import H2Connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Event = TypeVar("Event", bound=h2.events.Event)
STREAM_HEAD = [(b":status", b"200"), (b"content-type", b"text/event-stream")]


class Link:
    """An accepted connection, used by its script."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.h2 = H2Connection(
            H2Configuration(client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.events: list[h2.events.Event] = []

    def begin(self) -> None:
        """Send the server's settings."""
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what h2 has to send."""
        self.sock.sendall(self.h2.data_to_send())

    def wait_for(self, kind: type[Event]) -> Event:
        """Return the next event of a kind, and forget those before it."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if isinstance(event, kind):
                    return event
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError
            self.events = self.h2.receive_data(data)
            with suppress(ConnectionError):  # the client may have left; what it sent before still counts
                self.flush()

    def respond(self, head: list[tuple[bytes, bytes]] | None = None) -> int:
        """Wait for the next request, send a response head, and return the number of the stream."""
        number: int = self.wait_for(h2.events.RequestReceived).stream_id
        self.h2.send_headers(number, STREAM_HEAD if head is None else head)
        self.flush()
        return number

    def data(self, number: int, data: bytes, **options: bool | int) -> None:
        """Send a DATA frame."""
        self.h2.send_data(number, data, **options)  # type: ignore[arg-type]
        self.flush()

    def rest(self) -> bytes:
        """Return all bytes to the end of the connection."""
        received = b""
        with suppress(ConnectionError):
            while data := self.sock.recv(65536):
                received += data
        return received


class Http2Peer:
    """Runs the script for each connection, in a thread; errors of scripts are raised at the end.

    The end of the connection ends a script.
    """

    def __init__(self, script: Callable[[Link], object]) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._errors: list[BaseException] = []
        self._socks: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def connections(self) -> int:
        """The number of connections so far."""
        return len(self._socks)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                sock, _ = self._listener.accept()
                self._socks.append(sock)
                thread = threading.Thread(target=self._run, args=(sock,))
                self._threads.append(thread)
                thread.start()

    def _run(self, sock: socket.socket) -> None:
        try:
            with sock:
                self._script(Link(sock))
        except ConnectionError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised at the end
            self._errors.append(error)

    def __enter__(self) -> Http2Peer:  # noqa: PYI034 - Self came with Python 3.11
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for sock in self._socks:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        if self._errors:
            raise self._errors[0]
