"""A signal handler that raises while a subscription waits or catches up: a program that goes on has every event."""

from __future__ import annotations

import gc
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient, SSEEvent
from sseclient_dual.testing import HANG, ReceivedRequest, Reply, SSEServer, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual import Subscription

COUNT = 15_000
pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interval timers are POSIX"),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="not promised: Python 3.10 runs handlers after each call"),
]


class HandlerError(Exception):
    pass


def by_loop(subscription: Subscription, seen: list[SSEEvent]) -> None:
    for event in subscription:
        seen += (event,)  # not a call, so that no handler runs before the event is stored
        if len(seen) == COUNT:
            return


def by_recv(subscription: Subscription, seen: list[SSEEvent]) -> None:
    while len(seen) < COUNT:
        event = subscription.recv(10)
        seen += (event,)


def answer(request: ReceivedRequest) -> Reply:
    first = int(request.last_event_id or 0) + 1
    body = "".join(f"id: {number}\ndata: {number}\n\n" for number in range(first, COUNT + 1))
    return stream(*(body[i : i + 3000] for i in range(0, len(body), 3000)), HANG)


@pytest.mark.usefixtures("untraced", "restore_gc")
@pytest.mark.parametrize("read", [by_loop, by_recv])
@pytest.mark.parametrize("replay", [COUNT, 1], ids=["from the ring", "by catch-ups"])
def test_the_exception_of_a_signal_handler_loses_no_event(
    read: Callable[[Subscription, list[SSEEvent]], None], replay: int
) -> None:
    gc.disable()  # the handler must not interrupt a garbage collection
    armed = False

    def handler(*_: Any) -> None:
        if armed:
            raise HandlerError

    seen: list[SSEEvent] = []
    interrupted = 0
    previous = signal.signal(signal.SIGALRM, handler)
    try:
        with SSEServer(default=answer) as server, SSEClient() as client:
            feed = client.share(server.url, replay=replay, last_event_id="0")
            with feed.subscribe("0") as subscription:
                signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
                while len(seen) < COUNT:
                    try:
                        armed = True
                        read(subscription, seen)
                        armed = False
                    except HandlerError:
                        armed = False
                        interrupted += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert feed.stats.gaps == 0
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupted > 10
    assert [event.data for event in seen] == [str(number) for number in range(1, COUNT + 1)]
