"""Start connections, each interrupted at a random moment by a signal handler that raises; print how many were.

It runs in a process of its own, because such a handler may damage the state of the standard library, too.

usage: python -m support.starts URL {open,recv,await} SEED
"""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import sys
from typing import TYPE_CHECKING

from sseclient_dual import SSEClient, connection
from support.leaks import forget_idle_workers, streams
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from types import FrameType

    from sseclient_dual import SSEConnection

TRIES = 170
DELAYS = (1e-5, 6e-4)  # seconds; a start takes less than the longest of them
EVENTS = [str(number) for number in range(20)]


class HandlerError(Exception):
    """Raised by the signal handler."""


class Alarm:
    """Raises `HandlerError` from a signal handler at a random moment after `start`, at most once.

    It does so only in the code of the connection: an event loop may lose the tasks whose steps an error interrupts.
    """

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)
        self.armed = False
        signal.signal(signal.SIGALRM, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        while self.armed and frame is not None:
            if frame.f_code.co_filename == connection.__file__:
                self.armed = False
                raise HandlerError
            frame = frame.f_back

    def start(self) -> None:
        self.armed = True
        signal.setitimer(signal.ITIMER_REAL, self._rng.uniform(*DELAYS))

    def stop(self) -> None:
        self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def by_open(conn: SSEConnection, alarm: Alarm) -> list[str]:
    alarm.start()
    conn.open(PATIENCE)
    return []


def by_recv(conn: SSEConnection, alarm: Alarm) -> list[str]:
    alarm.start()
    return [conn.recv(PATIENCE).data]


def by_await(conn: SSEConnection, alarm: Alarm) -> list[str]:
    async def main() -> None:
        try:
            alarm.start()
            await conn
        finally:
            alarm.stop()

    asyncio.run(main())
    return []


CALLS = {"open": by_open, "recv": by_recv, "await": by_await}


def main(url: str, how: str, seed: str) -> None:
    gc.disable()  # the handler must not interrupt a garbage collection
    alarm = Alarm(seed)
    interrupted = 0
    with SSEClient() as client:
        for number in range(TRIES):
            conn = client.connect(f"{url}{number}")
            seen: list[str] = []
            try:
                seen = CALLS[how](conn, alarm)
            except HandlerError:
                interrupted += 1
            alarm.stop()
            while len(seen) < len(EVENTS):
                seen.append(conn.recv(PATIENCE).data)
            assert seen == EVENTS, (number, seen)
            wait_until(lambda: streams() == 1, "one stream")
            conn.close()
            wait_until(lambda: not streams(), "the end of the stream")
            forget_idle_workers()
            if number % 50 == 0:
                gc.collect()
    sys.stdout.write(f"{interrupted}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
