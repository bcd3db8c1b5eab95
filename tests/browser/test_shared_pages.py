"""Open pages of ``docs/examples`` in a real browser, which share one upstream connection of their relay."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from servers.relays import COMMANDS, Relay
from sseclient_dual.testing import SSEServer, status
from support.journals import Journal
from support.tabs import opened
from support.wires import wired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

PAGES = 20
KEPT = 1000  # events that a feed keeps by default


@pytest.fixture(params=COMMANDS)
def relay(request: pytest.FixtureRequest) -> Iterator[Relay]:
    """Run the test once per relay, with a new process, because its feed keeps events."""
    with Relay(request.param) as relay:
        yield relay


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


def test_twenty_pages_share_one_connection_and_show_each_event_once(browser: Browser, relay: Relay) -> None:
    journal = Journal(retry=10)
    with SSEServer(default=journal, port=relay.upstream_port) as upstream, ExitStack() as stack:
        tabs = [stack.enter_context(opened(browser, relay.page)) for _ in range(PAGES)]
        for tab in tabs:
            tab.shows()
        journal.wait_for_answers(1)
        for last in (5, 10, 15):
            journal.publish(5)
            for tab in tabs:
                tab.shows(*numbers(1, last))
            upstream.refuse(drop=True)
            upstream.listen()
            journal.wait_for_answers(1 + last // 5)
        upstream.wait_for_connections(1)
        assert [request.last_event_id for request in upstream.requests] == [None, "5", "10", "15"]
        assert [len(tab.requests) for tab in tabs] == [1] * PAGES
        stack.close()
        upstream.wait_for_connections(0)


def test_a_page_that_was_offline_resumes_by_a_catch_up(browser: Browser, relay: Relay) -> None:
    journal = Journal(retry=10)
    with SSEServer(default=journal, port=relay.upstream_port) as upstream, wired(relay.port) as wire:
        wired_page = relay.page.replace(str(relay.port), str(wire.port))
        with opened(browser, wired_page) as away, opened(browser, relay.page) as online:
            away.shows()
            online.shows()
            journal.wait_for_answers(1)
            journal.publish(5)
            away.shows(*numbers(1, 5))

            away.page.context.set_offline(True)  # lets no request through, but an open response go on
            wire.drop()
            away.shows(*numbers(1, 5), state="connecting")
            for last in range(5, 5 + 2 * KEPT, KEPT // 2):  # so that no page falls behind
                online.shows(*numbers(1, last))
                journal.publish(KEPT // 2)
            away.shows(*numbers(1, 5), state="connecting")
            away.page.context.set_offline(False)
            for tab in (away, online):
                tab.shows(*numbers(1, 5 + 2 * KEPT))

            journal.publish(5)
            for tab in (away, online):
                tab.shows(*numbers(1, 10 + 2 * KEPT))
            upstream.wait_for_connections(1)
        assert [request.last_event_id for request in upstream.requests] == [None, "5"]
        assert len(online.requests) == 1


def test_after_a_restart_of_the_relay_all_pages_resume(browser: Browser, relay: Relay) -> None:
    journal = Journal(retry=10)
    with SSEServer(default=journal, port=relay.upstream_port) as upstream, ExitStack() as stack:
        tabs = [stack.enter_context(opened(browser, relay.page)) for _ in range(3)]
        for tab in tabs:
            tab.shows()
        journal.wait_for_answers(1)
        journal.publish(5)
        for tab in tabs:
            tab.shows(*numbers(1, 5))
        relay.kill()
        journal.publish(5)
        relay.start()
        for tab in tabs:
            tab.shows(*numbers(1, 10))
        journal.publish(5)
        for tab in tabs:
            tab.shows(*numbers(1, 15))
        upstream.wait_for_connections(1)


def test_a_page_that_misses_events_begins_anew(browser: Browser, relay: Relay) -> None:
    journal = Journal(sends_ids=False, retry=10)
    with SSEServer(default=journal, port=relay.upstream_port) as upstream, opened(browser, relay.page) as tab:
        tab.shows()
        journal.wait_for_answers(1)
        journal.publish(5)
        tab.shows(*numbers(1, 5))
        upstream.refuse(drop=True)
        journal.publish(5)
        upstream.listen()
        journal.wait_for_answers(2)
        journal.publish(5)
        tab.shows(*numbers(11, 15))
        assert len(tab.requests) == 1


def test_a_204_ends_all_pages(browser: Browser, relay: Relay) -> None:
    journal = Journal(retry=10)
    with SSEServer(journal, default=status(204), port=relay.upstream_port) as upstream, ExitStack() as stack:
        tabs = [stack.enter_context(opened(browser, relay.page)) for _ in range(3)]
        for tab in tabs:
            tab.shows()
        journal.wait_for_answers(1)
        journal.publish(5)
        for tab in tabs:
            tab.shows(*numbers(1, 5))
        upstream.refuse(drop=True)
        upstream.listen()
        for tab in tabs:
            tab.shows(*numbers(1, 5), state="closed")
            assert len(tab.requests) == 2
        assert len(upstream.requests) == 2
