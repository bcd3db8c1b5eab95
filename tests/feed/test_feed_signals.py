"""A signal handler that raises while a subscription waits or catches up: a program that goes on has every event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEClient
from sseclient_dual.testing import HANG, ReceivedRequest, Reply, SSEServer, stream
from support.raising_handlers import by_loop, by_recv, data_of_interrupted_reading, needs_raising_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual import SSEEvent
    from support.apis import Consumer

COUNT = 15_000
pytestmark = needs_raising_handlers


def answer(request: ReceivedRequest) -> Reply:
    first = int(request.last_event_id or 0) + 1
    body = "".join(f"id: {number}\ndata: {number}\n\n" for number in range(first, COUNT + 1))
    return stream(*(body[i : i + 3000] for i in range(0, len(body), 3000)), HANG)


@pytest.mark.parametrize("read", [by_loop, by_recv])
@pytest.mark.parametrize("replay", [COUNT, 1], ids=["from the ring", "by catch-ups"])
def test_the_exception_of_a_signal_handler_loses_no_event(
    read: Callable[[Consumer, list[SSEEvent], int], None], replay: int
) -> None:
    with SSEServer(default=answer) as server, SSEClient() as client:
        feed = client.share(server.url, replay=replay, last_event_id="0")
        with feed.subscribe("0") as subscription:
            data = data_of_interrupted_reading(read, subscription, COUNT)
        assert feed.stats.gaps == 0
    assert data == [str(number) for number in range(1, COUNT + 1)]
