"""Forks while another thread holds a lock of a connection or client: the child never waits for it."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEClient, SSEError
from sseclient_dual.testing import HANG, SSEServer, stream
from support.forks import held, in_child
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from sseclient_dual import SSEConnection
    from sseclient_dual.waiting import Lock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork"),
]


def locks_of(conn: SSEConnection, client: SSEClient) -> dict[str, Lock]:
    reader = conn._reader
    return {
        "connection": conn._lock,
        "reader": reader._lock,
        "handoff": reader.handoff._lock,
        "client": client._lock,
    }


@pytest.mark.parametrize("name", ["connection", "reader", "handoff", "client"])
def test_a_child_does_not_wait_for_a_lock_that_a_thread_of_the_parent_holds(name: str) -> None:
    with SSEServer(default=stream("data: x\n\n", HANG)) as server, SSEClient() as client:
        fresh, opened = client.connect(server.url), client.connect(server.url)
        next(opened)

        def work() -> None:
            assert fresh.recv(PATIENCE).data == "x"
            with pytest.raises(RuntimeError, match="before the fork"):
                opened.recv(PATIENCE)
            opened.close()
            fresh.close()
            client.close()

        for conn in (fresh, opened):
            thread, release = held(locks_of(conn, client)[name])
            try:
                assert in_child(work) == 0
            finally:
                release.set()
                thread.join()
        assert fresh.recv(PATIENCE).data == "x"


def test_forks_while_connections_start_and_close() -> None:
    over = threading.Event()
    with SSEServer(default=stream("data: x\n\n", HANG)) as server, SSEClient() as client:
        latest: list[SSEConnection] = [client.connect(server.url)]

        def churn() -> None:
            while not over.is_set():
                latest[0] = conn = client.connect(server.url)
                conn.recv(PATIENCE)
                conn.close()

        def work() -> None:
            conn = latest[0]
            with suppress(RuntimeError, SSEError):  # it belongs to the parent, or is closed
                conn.recv(PATIENCE)
            conn.close()
            client.close()

        thread = threading.Thread(target=churn)
        thread.start()
        try:
            deadline = time.monotonic() + 5
            for _ in range(100):
                assert in_child(work) == 0
                if time.monotonic() > deadline:
                    break
        finally:
            over.set()
            thread.join()
