"""Streams of numbered events for load, by the scripted server: as fast as they are taken, or a few and then silence.

It is a process of its own, given a port, so that what it needs does not count as the client's.
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

FEW, FEW_SIZE = 3, 100  # events before the silence, and their characters
PIECE = 64 * 1024  # characters that are sent at once, or a few more
stopped = threading.Event()


def numbered(number: int, size: int) -> SSEEvent:
    """Return the event of this number, so many characters long."""
    return SSEEvent(f"{number} ".ljust(size, "x"), id=str(number))


def allow_descriptors() -> None:
    """Allow this process as many open descriptors as it may have."""
    import resource  # noqa: PLC0415 - which Windows has not, where this file is imported all the same

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
    """Number events until told to stop; then say how many there were."""
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
