"""Streams of third-party servers, each a separate process that a test can kill."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
import urllib3

from servers import PAUSE, entry
from servers.running import Server, need, python
from sseclient_dual import ReadyState, SSEClient, SSEConnection, SSEEvent
from support.policies import RESTARTS
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.apis import Api

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")]

COMMANDS = {
    "uvicorn": "uvicorn --host {host} --port {port} servers.starlette_app:app",
    "gunicorn": "gunicorn --bind {host}:{port} --config servers/gunicorn_conf.py servers.flask_app:app",
}
NEEDS = {"uvicorn": ("uvicorn", "sse_starlette"), "gunicorn": ("gunicorn", "flask")}
STRETCH = 15  # events between two kills
MISSES = (3, 0)  # for each kill: the minimum of failed attempts before the server restarts
on_gunicorn = pytest.mark.parametrize("server", ["gunicorn"], indirect=True)


@pytest.fixture(scope="module", params=COMMANDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Run the test once per server."""
    need(*NEEDS[request.param])
    with Server(python(COMMANDS[request.param])) as server:
        yield server


@pytest.mark.parametrize("replay", [0, 3])
def test_a_repeatedly_killed_server_causes_no_lost_events(api: Api, server: Server, replay: int) -> None:
    with (
        api.client(policy=RESTARTS) as client,
        api.connect(client, f"{server.url}/log", params={"replay": replay}) as conn,
    ):
        events = api.take(conn, STRETCH)
        for attempts in MISSES:
            received = kill(server, conn, attempts)
            server.start()
            # Later events must come from the new connection, after the events that it repeats.
            events += api.take(conn, received + STRETCH - len(events))

        assert events == [SSEEvent(*entry(number)) for number in range(1, len(events) + 1)]
        assert conn.last_event_id == events[-1].id
        stats = conn.stats
    assert stats.reconnects >= len(MISSES) + sum(MISSES)
    assert stats.duplicates == len(MISSES) * replay
    assert stats.comments


def kill(server: Server, conn: SSEConnection, attempts: int) -> int:
    """Kill the server, wait until `attempts` attempts fail, and return the number of events received so far."""
    before = conn.stats.reconnects
    server.kill()
    wait_until(lambda: conn.ready_state is ReadyState.CONNECTING, "the connection to break")
    wait_until(lambda: conn.stats.reconnects >= before + attempts, f"{attempts} attempts to connect again")
    return conn.stats.events


@on_gunicorn
def test_a_response_head_that_arrives_with_the_first_event(api: Api, server: Server) -> None:
    timeout = urllib3.Timeout(connect=PAUSE - 1, read=None)
    begin = time.monotonic()
    with (
        api.client(policy=RESTARTS) as client,
        api.connect(client, f"{server.url}/quiet", timeout=timeout) as conn,
    ):
        assert time.monotonic() - begin > PAUSE - 0.5  # else the head was sent earlier, and the test proves nothing
        assert api.next(conn).data == "at last"
        assert conn.stats.reconnects == 0


@on_gunicorn
def test_a_post_is_sent_once_and_its_tokens_are_streamed(api: Api, server: Server) -> None:
    prompt = "ha ha ha řekl кінь 🐎 🐎"
    with (
        api.client(policy=RESTARTS) as client,
        api.connect(client, f"{server.url}/chat", "POST", json={"prompt": prompt}) as conn,
    ):
        *tokens, done = api.rest(conn)
        assert " ".join(event.json()["token"] for event in tokens) == prompt
        assert done.data == "[DONE]"
        assert conn.stats.reconnects == 0


def test_leaving_the_block_ends_the_stream_at_the_server(api: Api, server: Server) -> None:
    wait_until(lambda: server.live() == 0, "the streams of other tests to end")
    with api.client() as client:
        with api.connect(client, f"{server.url}/log") as conn:
            api.take(conn, 3)
            assert server.live() == 1
        wait_until(lambda: server.live() == 0, "the server to notice")


def test_dropping_the_last_reference_ends_the_stream_at_the_server(api: Api, server: Server) -> None:
    wait_until(lambda: server.live() == 0, "the streams of other tests to end")
    conn = SSEClient().connect(f"{server.url}/log")
    api.take(conn, 3)
    assert server.live() == 1
    del conn
    wait_until(lambda: server.live() == 0, "the server to notice")
