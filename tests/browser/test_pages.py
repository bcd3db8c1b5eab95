"""Open the pages of ``docs/examples`` in a real browser, whose `EventSource` reads a relayed stream.

``make test-browser`` installs the browser and runs these tests; ``make test`` does not include them.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect, sync_playwright

from servers.relays import COMMANDS, Relay
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, status, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Request

OPTIONS = [
    "--no-sandbox",  # root cannot use the sandbox
    "--no-proxy-server",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path is not None, "needs Chromium: make test-browser, or apt-get install chromium"
    with sync_playwright() as playwright:  # the browser gets a new profile
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=COMMANDS)
def relay(request: pytest.FixtureRequest) -> Iterator[Relay]:
    """Run the test once per relay."""
    with Relay(request.param) as relay:
        yield relay


class Tab:
    """A tab with the page; `requests` has its requests for the stream."""

    def __init__(self, page: Page, relay: Relay) -> None:
        self.page = page
        self.requests: list[Request] = []
        page.on("request", self._note)
        page.goto(relay.page)

    def _note(self, request: Request) -> None:
        if request.url.endswith("/events"):
            self.requests.append(request)

    def shows(self, *events: str, state: str = "open") -> None:
        """Wait until the page shows exactly these events and this state."""
        expect(self.page.locator("li")).to_have_text([*events])
        expect(self.page.locator("#state")).to_have_text(state)


@contextmanager
def opened(browser: Browser, relay: Relay) -> Iterator[Tab]:
    """Open the page in a new tab, and close the tab at exit."""
    page = browser.new_page()
    try:
        yield Tab(page, relay)
    finally:
        page.close()


def test_events_arrive_immediately_until_the_tab_is_closed(browser: Browser, relay: Relay) -> None:
    gate = Gate()
    script = stream("data: <b>Příliš</b>\ndata: žluťoučký\n\n", gate, "data: кінь 🐎\n\n", HANG)
    with SSEServer(script, port=relay.upstream_port) as upstream:
        with opened(browser, relay) as tab:
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
        with opened(browser, relay) as tab:
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
        with opened(browser, relay) as tab:
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
        with opened(browser, relay) as tab:
            tab.shows(state="closed")
    assert len(upstream.requests) == len(tab.requests) == 1
