"""`restart()` from another thread at any moment: no event is lost, and the next attempt is not aborted."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEClient
from sseclient_dual.testing import HANG, ReceivedRequest, Reply, SSEServer, stream
from support.policies import QUICK

if TYPE_CHECKING:
    from support.apis import Api

pytestmark = pytest.mark.usefixtures("both_versions")


COUNT = 300


def numbered(request: ReceivedRequest) -> Reply:
    first = int(request.last_event_id or 0) + 1
    return stream(*(f"id: {number}\ndata: {number}\n\n" for number in range(first, first + 3)), HANG)


def test_a_storm_of_restarts_loses_and_doubles_nothing(api: Api) -> None:
    with SSEServer(default=numbered) as server, api.client(policy=QUICK) as client:
        with api.connect(client, server.url, method="POST", data=b"x", reconnect=None) as conn:
            seen: list[str] = []
            turns: queue.SimpleQueue[bool] = queue.SimpleQueue()

            def storm() -> None:
                while turns.get():
                    for _ in range(5):
                        conn.restart()

            thread = threading.Thread(target=storm)
            thread.start()
            try:
                # Each response has three events, so only restarts lead to the next ones. If a late restart aborted a
                # POST that was already sent, the stream would end with an error.
                while len(seen) < COUNT:
                    seen.append(api.recv(conn, 10).data)
                    if len(seen) % 3 == 0:
                        turns.put(True)
            finally:
                turns.put(False)
                thread.join()
            assert seen == [str(number) for number in range(1, COUNT + 1)]


def test_a_restart_before_the_start_does_nothing() -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url)
        conn.restart()
        assert next(conn).data == "x"
        assert conn.stats.reconnects == 0
        assert len(server.requests) == 1
