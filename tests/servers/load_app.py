"""Streams of numbered events for load tests: endless at full speed, or a few events and then silence.

The server runs as a separate process on the given port, so that its memory and sockets do not count as the client's.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from sseclient_dual import SSEEvent
from sseclient_dual.testing import HANG, Reply, SSEServer, status, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual.testing import ReceivedRequest, Step

FEW, FEW_SIZE = 3, 100  # events before the silence; characters per event
PIECE = 64 * 1024  # approximate number of characters per send
stopped = threading.Event()


def numbered(number: int, size: int) -> SSEEvent:
    """Return the event with this number; its data has `size` characters."""
    return SSEEvent(f"{number} ".ljust(size, "x"), id=str(number))


def allow_descriptors() -> None:
    """Raise the limit of open descriptors to the maximum for this process."""
    import resource  # noqa: PLC0415 - missing on Windows, where this file is imported, too

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def answer(request: ReceivedRequest) -> Reply:
    if request.path == "/flood":
        return stream(flood(int(request.query["size"])))
    if request.path == "/few":
        return stream([numbered(number, FEW_SIZE) for number in range(1, FEW + 1)], HANG)
    stopped.set()
    return status(204)


def flood(size: int) -> Iterator[Step]:
    """Send numbered events until `stopped` is set; then send their number in an event of type ``end``."""
    number = 0
    while not stopped.is_set():
        numbers = range(number + 1, number + 2 + PIECE // size)
        yield b"".join(numbered(number, size).encode() for number in numbers)
        number = numbers[-1]
    yield SSEEvent(str(number), "end")


if __name__ == "__main__":
    allow_descriptors()
    with SSEServer(default=answer, port=int(sys.argv[1])):
        threading.Event().wait()
