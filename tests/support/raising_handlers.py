"""Read from a connection or a subscription while a signal handler raises again and again."""

from __future__ import annotations

import gc
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual import SSEEvent
    from support.apis import Consumer

needs_raising_handlers = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interval timers are POSIX"),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="not promised: Python 3.10 runs handlers after each call"),
]


class HandlerError(Exception):
    """Raised by the handler."""


def by_loop(consumer: Consumer, seen: list[SSEEvent], count: int) -> None:
    for event in consumer:
        seen += (event,)  # not a call, so that no handler runs before the event is stored
        if len(seen) == count:
            return


def by_recv(consumer: Consumer, seen: list[SSEEvent], count: int) -> None:
    while len(seen) < count:
        event = consumer.recv(10)
        seen += (event,)


def data_of_interrupted_reading(
    read: Callable[[Consumer, list[SSEEvent], int], None], consumer: Consumer, count: int
) -> list[str]:
    """Read `count` events by `by_loop` or `by_recv`, on after each exception of the handler; return their data.

    Coverage must not trace this, because its locks must not be interrupted; nor may a garbage collection be.
    """
    armed = False

    def handler(*_: Any) -> None:
        if armed:
            raise HandlerError

    seen: list[SSEEvent] = []
    interrupted = 0
    trace = sys.gettrace()
    sys.settrace(None)
    gc.disable()
    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        while len(seen) < count:
            try:
                armed = True
                read(consumer, seen, count)
                armed = False
            except HandlerError:
                armed = False
                interrupted += 1
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        gc.enable()
        sys.settrace(trace)
    assert interrupted > 10
    return [event.data for event in seen]
