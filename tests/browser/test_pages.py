"""Open the pages of ``docs/examples`` in a real browser, whose `EventSource` reads a relayed stream.

The streams here are those of one page each; `test_shared_pages` has the feed that all pages share.
``make test-browser`` installs the browser and runs these tests; ``make test`` does not include them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servers.relays import COMMANDS, Relay
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, status, stream
from support.tabs import opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@pytest.fixture(scope="module", params=COMMANDS)
def relay(request: pytest.FixtureRequest) -> Iterator[Relay]:
    """Run the test once per relay."""
    with Relay(request.param) as relay:
        yield relay


def test_events_arrive_immediately_until_the_tab_is_closed(browser: Browser, relay: Relay) -> None:
    gate = Gate()
    script = stream("data: <b>Příliš</b>\ndata: žluťoučký\n\n", gate, "data: кінь 🐎\n\n", HANG)
    with SSEServer(script, port=relay.upstream_port) as upstream:
        with opened(browser, relay.user_page) as tab:
            tab.shows("<b>Příliš</b> žluťoučký")
            gate.open()
            tab.shows("<b>Příliš</b> žluťoučký", "кінь 🐎")
            upstream.wait_for_connections(1)
        upstream.wait_for_connections(0)


def test_the_page_does_not_notice_an_upstream_restart(browser: Browser, relay: Relay) -> None:
    replies = [
        stream("retry: 10\nid: №1\ndata: a\n\n", "id: №2\ndata: b\n\n", HANG),
        stream("id: №2\ndata: b\n\n", "id: №3\ndata: c\n\n", CUT),
        stream("id: №1\ndata: a\n\n", "id: №2\ndata: b\n\n", "id: №3\ndata: c\n\n", "id: №4\ndata: d\n\n", HANG),
    ]
    with SSEServer(*replies, port=relay.upstream_port) as upstream:
        with opened(browser, relay.user_page) as tab:
            tab.shows("a", "b")
            upstream.refuse(drop=True)
            upstream.wait_for_connections(0)
            tab.shows("a", "b")
            upstream.listen()
            tab.shows("a", "b", "c", "d")
            assert len(tab.requests) == 1
        upstream.wait_for_connections(0)
    assert [request.last_event_id for request in upstream.requests] == [None, "№2", "№3"]


def test_after_a_restart_of_the_relay_the_browser_resumes(browser: Browser, relay: Relay) -> None:
    replies = stream("retry: 100\nid: №1\ndata: a\n\n", HANG), stream("id: №2\ndata: b\n\n", HANG)
    with SSEServer(*replies, port=relay.upstream_port) as upstream:
        with opened(browser, relay.user_page) as tab:
            tab.shows("a")
            relay.kill()
            tab.shows("a", state="connecting")
            relay.start()
            tab.shows("a", "b")
        upstream.wait_for_connections(0)
    assert [request.last_event_id for request in upstream.requests] == [None, "№1"]


@pytest.mark.parametrize("code", [403, 204])
def test_a_refusal_or_a_204_ends_the_stream_for_good(browser: Browser, relay: Relay, code: int) -> None:
    with SSEServer(status(code), port=relay.upstream_port) as upstream:
        with opened(browser, relay.user_page) as tab:
            tab.shows(state="closed")
    assert len(upstream.requests) == len(tab.requests) == 1
