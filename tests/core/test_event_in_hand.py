"""A signal handler that raises while events are handed over: a program that goes on has every event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEClient
from sseclient_dual.testing import HANG, SSEServer, stream
from support.checkpoints import Memory
from support.raising_handlers import by_loop, by_recv, data_of_interrupted_reading, needs_raising_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual import SSEEvent
    from support.apis import Consumer

COUNT = 100_000
pytestmark = needs_raising_handlers


@pytest.mark.parametrize("read", [by_loop, by_recv])
@pytest.mark.parametrize("checkpoint", [None, Memory()], ids=["", "checkpoint"])
def test_the_exception_of_a_signal_handler_loses_no_event(
    read: Callable[[Consumer, list[SSEEvent], int], None], checkpoint: Memory | None
) -> None:
    body = "".join(f"data: {number}\n\n" for number in range(1, COUNT + 1))
    with SSEServer(stream(*(body[i : i + 3000] for i in range(0, len(body), 3000)), HANG)) as server:
        with SSEClient() as client, client.connect(server.url, checkpoint=checkpoint) as conn:
            data = data_of_interrupted_reading(read, conn, COUNT)
    assert data == [str(number) for number in range(1, COUNT + 1)]
