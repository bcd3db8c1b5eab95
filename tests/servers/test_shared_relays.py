"""The relays of ``docs/examples``, each a separate process: many browsers share one upstream connection.

`project.test_examples` has the streams of single browsers; `browser.test_pages` uses real browsers.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from servers.relays import COMMANDS, Relay
from sseclient_dual import SSEClient, SSEConnection
from sseclient_dual.testing import CUT, SSEServer, status, stream
from support.journals import Journal
from support.policies import QUICK
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")]

BROWSERS = 20
SUFFIX = " é✓"  # of the ids, which servers decode as Latin-1


@pytest.fixture(params=COMMANDS)
def relay(request: pytest.FixtureRequest) -> Iterator[Relay]:
    """Run the test once per relay, with a new process, because its feed keeps events."""
    with Relay(request.param) as relay:
        yield relay


def connected(client: SSEClient, relay: Relay) -> list[SSEConnection]:
    """Connect as browsers do, and wait for a heartbeat in each: by then, all have their position in the feed."""
    browsers = [client.connect(f"{relay.page}events") for _ in range(BROWSERS)]
    with ThreadPoolExecutor(BROWSERS) as pool:  # many servers send the head with the first heartbeat
        list(pool.map(SSEConnection.open, browsers))
    wait_until(lambda: all(browser.stats.comments for browser in browsers), "the heartbeats")
    return browsers


def read(conn: SSEConnection, first: int, last: int) -> None:
    """Read the events with these numbers, each exactly once."""
    assert [next(conn).data for _ in range(first, last + 1)] == [str(number) for number in range(first, last + 1)]
    assert conn.last_event_id == f"{last}{SUFFIX}"
    assert conn.stats.queued == conn.stats.duplicates == 0


def test_twenty_browsers_share_one_connection_and_get_each_event_once(relay: Relay) -> None:
    journal = Journal(suffix=SUFFIX, retry=10)
    journal.published = 10
    with SSEServer(default=journal, port=relay.upstream_port) as upstream, SSEClient(policy=QUICK) as client:
        browsers = connected(client, relay)
        journal.wait_for_answers(1)
        journal.publish(10)
        for browser in browsers:
            read(browser, 11, 20)

        upstream.refuse(drop=True)
        journal.publish(10)  # while the relay has no upstream
        for browser in browsers[::3]:
            browser.restart()  # its Last-Event-ID is in the feed
        upstream.listen()
        for browser in browsers:
            read(browser, 21, 30)
        upstream.wait_for_connections(1)
        assert [request.last_event_id for request in upstream.requests] == [None, f"20{SUFFIX}"]

        new = client.connect(f"{relay.page}events")
        read(new, 21, 30)  # the last ten events
        returning = client.connect(f"{relay.page}events", last_event_id=f"5{SUFFIX}")
        read(returning, 6, 30)  # the first of them are not kept
        journal.publish(10)
        for browser in [*browsers, new, returning]:
            read(browser, 31, 40)
            browser.close()
        upstream.wait_for_connections(0)  # all browsers have left
        assert [request.last_event_id for request in upstream.requests[2:]] == [f"5{SUFFIX}"]


def test_a_refusal_by_the_upstream_is_not_the_end_and_a_204_is(relay: Relay) -> None:
    replies = status(403), stream("retry: 10\nid: 1\ndata: a\n\n", CUT), status(204)
    with SSEServer(*replies, port=relay.upstream_port) as upstream, SSEClient(policy=QUICK) as client:
        browser = client.connect(f"{relay.page}events")
        assert [event.data for event in browser] == ["a"]
        assert browser.status == 204
        assert browser.stats.reconnects == 2  # after the 403 and after the end of the stream
        assert list(client.connect(f"{relay.page}events")) == []
        assert len(upstream.requests) == 3


@pytest.mark.parametrize("name", ["flask-gthread", "flask-gevent"])
def test_with_a_preloaded_app_each_worker_has_a_connection_of_its_own(name: str) -> None:
    """With gevent, the feed exists before gevent patches the modules that it uses."""
    journal = Journal(suffix=SUFFIX, retry=10)
    with (
        Relay(name, "--preload", "--workers", "2") as relay,
        SSEServer(default=journal, port=relay.upstream_port) as upstream,
        SSEClient(policy=QUICK) as client,
    ):
        browsers = connected(client, relay)
        workers = len(upstream.requests)
        assert workers in {1, 2}  # each browser chooses one by chance
        journal.wait_for_answers(workers)
        journal.publish(10)
        for browser in browsers:
            read(browser, 1, 10)
        assert len(upstream.requests) == workers
