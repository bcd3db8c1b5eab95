"""A proxy before Redis that loses connections at the worst moments."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from support.processes import HOST

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

CUTS = ("before the command", "before the answer", "after the answer")


class CuttingProxy:
    """Forwards connections to a port, and cuts some of them: the client cannot know whether its command was executed.

    :param port: that of Redis.
    :param share: the share of commands at which it cuts.
    :param seed: of the random numbers.
    """

    def __init__(self, port: int, share: float, seed: int) -> None:
        self.cuts = dict.fromkeys(CUTS, 0)
        self._port = port
        self._share = share
        self._random = random.Random(seed)
        self._lock = threading.Lock()  # guards the rest
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"redis://{HOST}:{self._listener.getsockname()[1]}/0"

    def __enter__(self) -> Self:
        self._listener = socket.create_server((HOST, 0))
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        with self._lock:
            self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def redirect(self, port: int) -> None:
        """Cut all connections, and forward new ones to another port."""
        self._port = port
        self._cut()

    def _cut(self) -> None:
        with self._lock:
            for sock in self._sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    if self._closed:
                        client.close()
                        return
                    self._sockets.add(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        """Forward a command, and then its answer; a command or an answer of these tests is one piece."""
        with client, suppress(OSError), socket.create_connection((HOST, self._port)) as server:
            with self._lock:
                self._sockets.add(server)
            while command := client.recv(1 << 20):
                cut = self._random.choice(CUTS) if self._random.random() < self._share else ""
                if cut:
                    self.cuts[cut] += 1
                if cut == "before the command":
                    break
                server.sendall(command)
                answer = server.recv(1 << 20)
                if not answer or cut == "before the answer":
                    break
                client.sendall(answer)
                if cut:
                    break
        with self._lock:
            self._sockets -= {client, server} if "server" in locals() else {client}
