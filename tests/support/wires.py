"""A wire between a client and a server of this machine, whose connections a test can break."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from support.tunnels import pump, shut_down

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOST = "127.0.0.1"


class Wire:
    """Forwards connections from `port` to the port `target`; made by `wired`."""

    def __init__(self, listener: socket.socket, target: int) -> None:
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._target = target
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()  # guards the rest
        self._sockets: set[socket.socket] = set()

    def accept(self) -> None:
        """Accept connections until the listener is shut down."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._forward, args=[client])
                self._threads.append(thread)
                thread.start()

    def drop(self) -> None:
        """Break all connections."""
        with self._lock:
            for sock in self._sockets:
                shut_down(sock)

    def join(self) -> None:
        """Wait until all connections are closed."""
        for thread in self._threads:
            thread.join()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.create_connection((_HOST, self._target)) as server:
            with self._lock:
                self._sockets |= {client, server}
            back = threading.Thread(target=pump, args=(server, client))
            back.start()
            pump(client, server)
            back.join()
            with self._lock:
                self._sockets -= {client, server}


@contextmanager
def wired(target: int) -> Iterator[Wire]:
    """Forward connections to the port `target`, and break them at exit."""
    with socket.create_server((_HOST, 0)) as listener:
        wire = Wire(listener, target)
        accepting = threading.Thread(target=wire.accept)
        accepting.start()
        try:
            yield wire
        finally:
            shut_down(listener)
            accepting.join()
            wire.drop()
            wire.join()
