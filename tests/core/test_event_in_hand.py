"""A signal handler that raises while events are handed over: a program that goes on has every event."""

from __future__ import annotations

import gc
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient
from sseclient_dual.testing import HANG, SSEServer, stream
from support.checkpoints import Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual import SSEConnection, SSEEvent

COUNT = 30_000
pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interval timers are POSIX"),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="not promised: Python 3.10 runs handlers after each call"),
]


class HandlerError(Exception):
    pass


def by_loop(conn: SSEConnection, seen: list[SSEEvent]) -> None:
    for event in conn:
        seen += (event,)  # not a call, so that no handler runs before the event is stored
        if len(seen) == COUNT:
            return


def by_recv(conn: SSEConnection, seen: list[SSEEvent]) -> None:
    while len(seen) < COUNT:
        event = conn.recv(10)
        seen += (event,)


@pytest.mark.usefixtures("untraced", "restore_gc")
@pytest.mark.parametrize("read", [by_loop, by_recv])
@pytest.mark.parametrize("checkpoint", [None, Memory()], ids=["", "checkpoint"])
def test_the_exception_of_a_signal_handler_loses_no_event(
    read: Callable[[SSEConnection, list[SSEEvent]], None], checkpoint: Memory | None
) -> None:
    gc.disable()  # the handler must not interrupt a garbage collection
    armed = False

    def handler(*_: Any) -> None:
        if armed:
            raise HandlerError

    seen: list[SSEEvent] = []
    interrupted = 0
    body = "".join(f"data: {number}\n\n" for number in range(1, COUNT + 1))
    previous = signal.signal(signal.SIGALRM, handler)
    try:
        with SSEServer(stream(*(body[i : i + 3000] for i in range(0, len(body), 3000)), HANG)) as server:
            with SSEClient() as client, client.connect(server.url, checkpoint=checkpoint) as conn:
                signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0002)
                while len(seen) < COUNT:
                    try:
                        armed = True
                        read(conn, seen)
                        armed = False
                    except HandlerError:
                        armed = False
                        interrupted += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupted > 10
    assert [event.data for event in seen] == [str(number) for number in range(1, COUNT + 1)]
