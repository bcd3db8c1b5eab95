"""A proxy that delays all bytes, as a long way does."""

from __future__ import annotations

import queue
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def delaying_proxy(port: int, delay: float) -> Iterator[int]:
    """Run a proxy of one connection to a port of this machine, and yield its own port.

    :param delay: seconds for each direction.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_relay, args=(listener, port, delay))
        thread.start()
        yield listener.getsockname()[1]
    thread.join()


def _relay(listener: socket.socket, port: int, delay: float) -> None:
    sock, _ = listener.accept()
    with sock, socket.create_connection(("127.0.0.1", port)) as other:
        threads: list[threading.Thread] = []
        for source, target in ((sock, other), (other, sock)):
            delayed: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threads.append(threading.Thread(target=_receive, args=(source, delayed, delay)))
            threads.append(threading.Thread(target=_send, args=(target, delayed)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _receive(source: socket.socket, delayed: queue.SimpleQueue[tuple[float, bytes]], delay: float) -> None:
    block = b"begin"
    while block:
        block = b""
        with suppress(OSError):
            block = source.recv(262_144)
        delayed.put((time.monotonic() + delay, block))


def _send(target: socket.socket, delayed: queue.SimpleQueue[tuple[float, bytes]]) -> None:
    while True:
        due, block = delayed.get()
        time.sleep(max(0.0, due - time.monotonic()))
        with suppress(OSError):
            if not block:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(block)
