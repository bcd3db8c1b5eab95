"""A feed in forked children, as of a preloading web server."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient
from sseclient_dual.testing import SSEServer
from support.forks import held, in_child
from support.journals import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def test_a_feed_made_before_the_fork_works_in_each_child() -> None:
    journal = Journal()
    journal.published = 3
    with SSEServer(default=journal) as server, SSEClient() as client:
        feed = client.share(server.url, last_event_id="0")

        def receive() -> None:
            with feed.subscribe() as subscription:
                assert [next(subscription).data for _ in range(3)] == ["1", "2", "3"]
            feed.close()

        assert [in_child(receive) for _ in range(2)] == [0, 0]
        with feed.subscribe() as subscription:
            assert [next(subscription).data for _ in range(3)] == ["1", "2", "3"]
    assert len(server.requests) == 3


def test_a_feed_in_use_at_the_fork_begins_anew_in_the_child_and_continues_in_the_parent() -> None:
    journal = Journal()
    journal.published = 3
    with SSEServer(default=journal) as server, SSEClient() as client:
        feed = client.share(server.url, last_event_id="0")
        with feed.subscribe() as subscription, feed.subscribe("unknown 0") as waiting:
            assert next(subscription).data == "1"
            journal.wait_for_answers(1)

            def receive() -> None:
                assert feed.stats.subscribers == 0
                uses: list[Callable[[], Any]] = [
                    lambda: next(subscription),
                    subscription.recv,
                    lambda: asyncio.run(subscription.arecv()),
                ]
                for use in uses:
                    with pytest.raises(RuntimeError, match="belongs to the parent process"):
                        use()
                asyncio.run(subscription.aclose())
                waiting.close()
                with feed.subscribe() as own:
                    assert [next(own).data for _ in range(3)] == ["1", "2", "3"]
                client.close()

            assert in_child(receive) == 0
            assert [next(subscription).data for _ in range(2)] == ["2", "3"]
            journal.publish()
            assert next(subscription).data == "4"


def test_a_child_closes_its_copies_of_the_parents_connections() -> None:
    journal = Journal()
    journal.published = 3
    with SSEServer(default=journal) as server, SSEClient() as client:
        feed = client.share(server.url)
        with feed.subscribe(), feed.subscribe("0") as subscription:
            assert next(subscription).data == "1"
            journal.wait_for_answers(2)

            ports = {request.client_address[1] for request in server.requests}

            def check() -> None:
                assert not ports & open_ports()

            assert ports <= open_ports()
            assert in_child(check) == 0
            assert next(subscription).data == "2"


def open_ports() -> set[int]:
    """Return the local ports of this process's TCP sockets."""
    ports = set()
    for path in list(Path("/dev/fd").iterdir()):
        with suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as sock:
            if sock.family == socket.AF_INET:
                ports.add(sock.getsockname()[1])
    return ports


@pytest.mark.parametrize("name", ["ring", "turns"])
def test_a_child_does_not_wait_for_a_lock_that_a_thread_of_the_parent_holds(name: str) -> None:
    journal = Journal()
    journal.published = 2
    with SSEServer(default=journal) as server, SSEClient() as client:
        feed = client.share(server.url)
        with feed.subscribe(), feed.subscribe("0") as subscription:
            assert next(subscription).data == "1"
            locks = {"ring": feed._upstream.ring.lock, "turns": feed._upstream._turns._lock}
            thread, release = held(locks[name])

            def use() -> None:
                subscription.close()
                with feed.subscribe("0") as own:
                    assert next(own).data == "1"
                feed.close()

            try:
                assert in_child(use) == 0
            finally:
                release.set()
                thread.join()
