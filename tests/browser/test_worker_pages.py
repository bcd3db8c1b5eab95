"""Pages in a real browser, on a site with two workers: the worker that serves a page is killed."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from servers.running import Server, python
from sseclient_dual.testing import SSEServer
from support.journals import Journal
from support.redis_servers import RedisServer
from support.tabs import opened

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

    from support.tabs import Tab

COMMAND = "gunicorn --bind {host}:{port} --config servers/gunicorn_conf.py --workers 2 servers.redis_app:wsgi"
PAGES = 4


def worker_of(tab: Tab) -> int:
    """Return the process that serves the page's stream."""
    response = tab.requests[-1].response()
    assert response is not None
    return int(response.headers["x-worker"])


@pytest.mark.parametrize("kind", ["share", "redis"])
def test_pages_whose_worker_is_killed_show_each_event_once(browser: Browser, kind: str, tmp_path: Path) -> None:
    journal = Journal(retry=10)
    with ExitStack() as stack:
        upstream = stack.enter_context(SSEServer(default=journal))
        environment = {"UPSTREAM": upstream.url, "PYTHONPATH": "..:."}
        if kind == "redis":
            environment["REDIS"] = stack.enter_context(RedisServer(tmp_path / "data")).url
        site = stack.enter_context(Server(python(COMMAND), environment))
        tabs = [stack.enter_context(opened(browser, f"{site.url}/")) for _ in range(PAGES)]
        for tab in tabs:
            tab.shows()
        journal.wait_for_answers(1)
        last = 0
        for _ in range(5):
            journal.publish(5)
            last += 5
            expected = [str(number) for number in range(1, last + 1)]
            for tab in tabs:
                tab.shows(*expected)
            requests = len(tabs[0].requests)
            os.kill(worker_of(tabs[0]), signal.SIGKILL)
            journal.publish(5)
            last += 5
            tabs[0].shows(*expected, *(str(number) for number in range(last - 4, last + 1)))
            assert len(tabs[0].requests) > requests
        for tab in tabs:
            tab.shows(*(str(number) for number in range(1, last + 1)))
