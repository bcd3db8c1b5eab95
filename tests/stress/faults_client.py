"""The script that `faults.py` runs with failing system calls: it consumes two streams with one of the APIs.

It prints a line for each stream: that all events have arrived, or the error that it got.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from urllib3 import Timeout

from sseclient_dual import ReconnectPolicy, SSEClient, SSEError

if TYPE_CHECKING:
    from sseclient_dual import SSEConnection, SSEEvent

COMPLETE = "all events"
LENGTH = 40  # events of a log, before the one of type ``end``
STREAMS = 2
_POLICY = ReconnectPolicy(retry_delay=10, min_retry_delay=0, max_retry_delay=50, jitter=0, max_retries=8)
_LIMIT = 5.0  # seconds for a connect, and for a read


class Check:
    """Checks the events of one stream."""

    def __init__(self) -> None:
        self.outcome = ""
        self._last = 0

    def is_last(self, event: SSEEvent) -> bool:
        """Check the next event, and return True at the end of the log."""
        if event.type == "end":
            assert self._last == LENGTH, f"the stream ended after event {self._last}"
            self.outcome = COMPLETE
            return True
        self._last += 1
        assert event.id == event.data == str(self._last), f"{event} instead of event {self._last}"
        return False


def consume(conns: list[SSEConnection]) -> list[Check]:
    """Consume the streams one after another."""
    checks = [Check() for _ in conns]
    for conn, check in zip(conns, checks, strict=True):
        try:
            with conn:
                for event in conn:
                    if check.is_last(event):
                        break
        except (SSEError, RuntimeError) as error:
            check.outcome = f"{type(error).__name__}: {error}"
    return checks


async def aconsume(conns: list[SSEConnection]) -> list[Check]:
    """Consume the streams at once."""
    checks = [Check() for _ in conns]

    async def one(conn: SSEConnection, check: Check) -> None:
        try:
            async with conn:
                async for event in conn:
                    if check.is_last(event):
                        break
        except (SSEError, RuntimeError) as error:
            check.outcome = f"{type(error).__name__}: {error}"

    await asyncio.gather(*map(one, conns, checks))
    return checks


def use_up_the_first_failures(authority: str) -> None:
    """Make calls that may fail, because `strace` counts by thread.

    This thread's own failures would hit another target than intended: the standard output, or a wake-up.
    """
    for _ in range(2):
        with suppress(OSError):
            os.write(1, b"")
    with suppress(OSError), socket.socket() as sock:
        sock.send(b"")
    with suppress(OSError):
        os.close(os.open(authority, os.O_RDONLY))
    with suppress(RuntimeError):
        threading.Thread(target=int).start()


def main(api: str, url: str, authority: str) -> None:
    """Consume the streams, and print the outcomes."""
    logging.getLogger("sseclient_dual").setLevel(logging.ERROR)  # failed attempts are expected
    use_up_the_first_failures(authority)
    verify: bool | str = authority if url.startswith("https") else True
    try:
        client = SSEClient(verify=verify, policy=_POLICY, timeout=Timeout(connect=_LIMIT, read=_LIMIT))
    except ValueError as error:
        print(*[f"ValueError: {error}"] * STREAMS, sep="\n")
        return
    with client:
        conns = [client.connect(url) for _ in range(STREAMS)]
        checks = asyncio.run(aconsume(conns), debug=False) if api == "async" else consume(conns)
    for check in checks:
        print(check.outcome or "ended without an error")


if __name__ == "__main__":
    main(*sys.argv[1:])
