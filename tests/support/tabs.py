"""Tabs of a real browser that show the page of ``docs/examples``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Request


class Tab:
    """A tab with the page; `requests` has its requests for the stream."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.requests: list[Request] = []
        page.on("request", self._note)
        page.goto(url)

    def _note(self, request: Request) -> None:
        if request.url.endswith("/events"):
            self.requests.append(request)

    def shows(self, *events: str, state: str = "open") -> None:
        """Wait until the page shows exactly these events and this state."""
        expect(self.page.locator("li")).to_have_text([*events])
        expect(self.page.locator("#state")).to_have_text(state)


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Tab]:
    """Open the page in a new tab, and close the tab at exit.

    Each tab has a profile of its own, and thus its own connections: a browser opens six to a server with HTTP/1.1.
    """
    page = browser.new_page()
    try:
        yield Tab(page, url)
    finally:
        page.close()
