"""Read, leave and resume streams of more third-party servers, each a separate process.

`test_real_servers` has the tests that kill servers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from servers import entry
from servers.llm import PANGRAM, fakellm
from servers.running import Server, need, python
from sseclient_dual import Comment, Interrupted, Opened, ReconnectPolicy, SSEContentTypeError, SSEEvent
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from support.apis import Api, Signal

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")]

QUICK = ReconnectPolicy(retry_delay=50, max_retry_delay=500, max_retries=20)
NODE = Path(__file__).parent / "node"
NODE_INSTALLED = Path(__file__).parents[2] / "build" / "node"
NPM_PATIENCE = 90.0  # seconds


# -- servers with the log


def event_of_the_log(number: int) -> SSEEvent:
    return SSEEvent(*entry(number))


def event_of_better_sse(number: int) -> SSEEvent:
    data = json.dumps({"number": number, "text": "кінь 🐎\n\n: \u2028"}, ensure_ascii=False, separators=(",", ":"))
    return SSEEvent(data, "message" if number % 3 else "třetí", str(number))


def node_command() -> list[str]:
    """Return the command that runs the server on Node; install its dependencies if they are missing."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("needs Node and npm")
    NODE_INSTALLED.mkdir(parents=True, exist_ok=True)
    for file in NODE.iterdir():
        shutil.copy(file, NODE_INSTALLED)
    ((name, version),) = json.loads((NODE / "package.json").read_text())["dependencies"].items()
    installed = NODE_INSTALLED / "node_modules" / name / "package.json"
    if not installed.exists() or json.loads(installed.read_text())["version"] != version:
        command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            subprocess.run(
                command, cwd=NODE_INSTALLED, check=True, timeout=NPM_PATIENCE, capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm did not install {name} {version} within {NPM_PATIENCE:g} s")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"npm could not install {name} {version}: {error.stderr[-300:]}")
    return [node, str(NODE_INSTALLED / "server.mjs"), "{host}", "{port}"]


@dataclass
class Kind:
    """A kind of server: its command, required modules, path and events."""

    command: Callable[[], Sequence[str]]
    needs: tuple[str, ...] = ()
    path: str = "/log"
    event: Callable[[int], SSEEvent] = event_of_the_log


KINDS = {
    "aiohttp-sse": Kind(
        lambda: python("aiohttp.web --hostname {host} --port {port} servers.aiohttp_app:make"), ("aiohttp_sse",)
    ),
    "django-gunicorn": Kind(
        lambda: python("gunicorn --bind {host}:{port} --config servers/gunicorn_conf.py servers.django_app:wsgi"),
        ("django", "gunicorn"),
    ),
    "django-uvicorn": Kind(
        lambda: python("uvicorn --host {host} --port {port} --lifespan off servers.django_app:asgi"),
        ("django", "uvicorn"),
        path="/async/log",
    ),
    "better-sse": Kind(node_command, event=event_of_better_sse),
}


@dataclass
class Log:
    """A running server that serves the log."""

    server: Server
    url: str
    event: Callable[[int], SSEEvent]


@pytest.fixture(scope="module", params=KINDS)
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """Run the test once per kind of server."""
    kind = KINDS[request.param]
    need(*kind.needs)
    with Server(kind.command()) as server:
        yield Log(server, server.url + kind.path, kind.event)


def test_a_response_that_ends_is_followed_by_the_next(api: Api, log: Log) -> None:
    with api.client(policy=QUICK) as client, api.connect(client, log.url, params={"count": 8}) as conn:
        events = api.take(conn, 20)
        assert events == [log.event(number) for number in range(1, 21)]
        assert conn.last_event_id == "20"
        stats = conn.stats
    assert stats.reconnects == 2
    assert stats.comments
    assert stats.duplicates == 0


def test_a_restart_resumes_the_stream(api: Api, log: Log) -> None:
    with api.client(policy=QUICK) as client, api.connect(client, log.url, last_event_id="100") as conn:
        events = api.take(conn, 5)
        conn.restart()
        wait_until(lambda: conn.stats.reconnects == 1, "the connection to restart")
        events += api.take(conn, conn.stats.events - 5 + 10)
    assert events == [log.event(number) for number in range(101, 101 + len(events))]


def test_signals_report_everything(api: Api, log: Log) -> None:
    with api.client(policy=QUICK) as client:
        conn = client.connect(log.url, params={"count": 3})
        signals = api.signals(conn)
        seen: list[Signal] = []
        while sum(isinstance(signal, Opened) for signal in seen) < 2:
            seen.append(signals.next())
        api.close(conn)
    assert isinstance(seen[0], Opened)
    assert seen[0].headers["content-type"].startswith("text/event-stream")
    (interrupted,) = (signal for signal in seen if isinstance(signal, Interrupted))
    assert interrupted.error is None
    assert interrupted.retry_in >= conn.reconnection_time
    assert [signal for signal in seen if isinstance(signal, SSEEvent)] == [log.event(number) for number in (1, 2, 3)]
    assert {signal.text.strip() for signal in seen if isinstance(signal, Comment)} <= {"", "ping"}


def test_the_server_notices_a_closed_connection(api: Api, log: Log) -> None:
    wait_until(lambda: log.server.live() == 0, "the streams of other tests to end")
    with api.client() as client:
        with api.connect(client, log.url) as conn:
            api.take(conn, 3)
            assert log.server.live() == 1
        wait_until(lambda: log.server.live() == 0, "the server to notice")


# -- the Model Context Protocol


@pytest.fixture(scope="module")
def mcp(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Run the app that the test names."""
    need("mcp", "uvicorn")
    with Server(python(f"uvicorn --host {{host}} --port {{port}} servers.mcp_app:{request.param}")) as server:
        yield server


@pytest.mark.parametrize("mcp", ["app"], indirect=True)
def test_a_session_of_the_model_context_protocol(api: Api, mcp: Server) -> None:
    with urllib3.PoolManager() as pool, api.client() as client:

        def send(method: str, number: int | None = None, **params: Any) -> int:
            message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
            if number is not None:
                message["id"] = number
            return pool.request("POST", endpoint, json=message, retries=False).status

        def session_ended() -> bool:
            # For a moment the server still knows the session, fails to write to it, and cuts this connection.
            with suppress(urllib3.exceptions.HTTPError):
                return send("ping", 3) == 404
            return False

        with api.connect(client, f"{mcp.url}/sse") as conn:
            first = api.next(conn)
            assert first.type == "endpoint"
            endpoint = mcp.url + first.data

            client_info = {"name": "test", "version": "1"}
            assert send("initialize", 1, protocolVersion="2024-11-05", capabilities={}, clientInfo=client_info) == 202
            answer = api.next(conn)
            assert answer.type == "message"
            assert answer.json()["id"] == 1
            assert answer.json()["result"]["serverInfo"]["name"] == "adder"

            assert send("notifications/initialized") == 202
            assert send("tools/call", 2, name="add", arguments={"a": 20, "b": 22}) == 202
            answer = api.next(conn)
            assert answer.json()["id"] == 2
            assert answer.json()["result"]["content"][0]["text"] == "42"
            assert conn.stats.reconnects == 0
        wait_until(session_ended, "the server to end the session")


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
EITHER = {"Accept": "application/json, text/event-stream"}


@pytest.mark.parametrize("mcp", ["streamable"], indirect=True)
def test_streamable_http_that_streams(api: Api, mcp: Server) -> None:
    with api.client() as client, api.connect(client, f"{mcp.url}/mcp", headers=EITHER, json=INITIALIZE) as conn:
        (answer,) = api.rest(conn)
        assert conn.headers["Mcp-Session-Id"]
    assert answer.json()["result"]["serverInfo"]["name"] == "adder"


@pytest.mark.parametrize("mcp", ["streamable_json"], indirect=True)
def test_streamable_http_that_answers_json(api: Api, mcp: Server) -> None:
    with api.client() as client, pytest.raises(SSEContentTypeError) as caught:
        with api.connect(client, f"{mcp.url}/mcp", headers=EITHER, json=INITIALIZE):
            pass
    assert caught.value.content_type == "application/json"
    assert caught.value.headers["Mcp-Session-Id"]
    assert caught.value.json()["result"]["serverInfo"]["name"] == "adder"


# -- APIs like OpenAI's and Anthropic's


@pytest.fixture(scope="module")
def model() -> Iterator[Server]:
    with fakellm() as server:
        yield server


def test_a_chat_is_streamed_in_chunks_and_requested_once(api: Api, model: Server) -> None:
    question = {"model": "any", "stream": True, "messages": [{"role": "user", "content": "a pangram, please"}]}
    before = requests_of(model)
    with api.client(policy=QUICK, headers={"Authorization": "Bearer none"}) as client:
        with api.connect(client, f"{model.url}/v1/chat/completions", json=question, until="[DONE]") as conn:
            chunks = api.rest(conn)
    assert {chunk.json()["object"] for chunk in chunks} == {"chat.completion.chunk"}
    choices = [chunk.json()["choices"][0] for chunk in chunks]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == PANGRAM
    assert choices[-1]["finish_reason"] == "stop"
    assert requests_of(model) == before + 1


def test_a_message_is_streamed_up_to_its_last_event(api: Api, model: Server) -> None:
    question = {"model": "any", "stream": True, "messages": [{"role": "user", "content": "a pangram, please"}]}
    with api.client(policy=QUICK, headers={"X-Api-Key": "none"}) as client:
        with api.connect(client, f"{model.url}/v1/messages", json=question, until=is_stop) as conn:
            events = api.rest(conn)
    assert [events[0].type, events[-1].type] == ["message_start", "message_stop"]
    deltas = [event.json()["delta"] for event in events if event.type == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == PANGRAM


def is_stop(event: SSEEvent) -> bool:
    return event.type == "message_stop"


def requests_of(server: Server) -> int:
    with urllib3.PoolManager() as pool:
        return int(pool.request("GET", f"{server.url}/_fakellm/stats").json()["total_requests"])
