"""Run each program of ``docs/examples`` as a separate process, as its docstring says."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest
import urllib3

from servers.relays import COMMANDS, EXAMPLES, Relay
from servers.running import HOST, Server, need, python
from sseclient_dual import Comment, Opened, SSEClient, SSEEvent, SSEStatusError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, status, stream
from support.processes import line_of, piped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sseclient_dual.testing import ReceivedRequest, Reply

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")]

LIMIT = 60.0  # seconds for what should take a moment


# -- relays


@pytest.fixture(scope="module", params=COMMANDS)
def relay(request: pytest.FixtureRequest) -> Iterator[Relay]:
    """Run the test once per relay."""
    with Relay(request.param) as relay:
        yield relay


def test_the_page_is_shown(relay: Relay) -> None:
    with urllib3.PoolManager() as pool:
        response = pool.request("GET", relay.page)
    assert response.headers["content-type"].startswith("text/html")
    assert response.data == (EXAMPLES / "page.html").read_bytes()


def test_events_and_heartbeats_are_relayed_until_the_browser_leaves(relay: Relay) -> None:
    handshake, second_event = Gate(), Gate()
    script = stream(
        "id: 1\ndata: Příliš\ndata: žluťoučký\n\n", second_event, "event: třetí\nid: 2\ndata: кінь\n\n", HANG
    )
    with SSEServer(default=script, handshake=handshake, port=relay.upstream_port) as upstream, SSEClient() as client:
        with socket.create_connection((HOST, relay.port)) as leaving:
            leaving.sendall(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (relay.path.encode(), HOST.encode()))
            upstream.wait_for_connections(1)
        connection = client.connect(relay.events, headers={"Accept-Encoding": "gzip"})  # like a browser
        signals = connection.signals()
        assert isinstance(next(signals), Opened)  # before the upstream answers
        for gate, event in [
            (handshake, SSEEvent("Příliš\nžluťoučký", id="1")),
            (second_event, SSEEvent("кінь", "třetí", "2")),
        ]:
            assert [type(next(signals)), type(next(signals))] == [Comment, Comment]
            gate.open()
            assert next(signal for signal in signals if isinstance(signal, SSEEvent)) == event
        assert connection.headers["content-type"].startswith("text/event-stream")
        assert connection.headers["cache-control"] == "no-cache"
        assert connection.headers["x-accel-buffering"] == "no"
        upstream.wait_for_connections(1)
        connection.close()
        upstream.wait_for_connections(0)


def test_a_reconnecting_browser_resumes_and_an_upstream_drop_is_hidden(relay: Relay) -> None:
    replies = stream("retry: 10\nid: №2\ndata: b\n\n", CUT), stream("id: №2\ndata: b\n\nid: №3\ndata: c\n\n", HANG)
    with SSEServer(*replies, port=relay.upstream_port) as upstream, SSEClient() as client:
        with client.connect(relay.events, last_event_id="№1") as connection:
            assert [next(connection).data, next(connection).data] == ["b", "c"]
            assert connection.stats.reconnects == 0
        upstream.wait_for_connections(0)
    assert [request.last_event_id for request in upstream.requests] == ["№1", "№2"]


def test_a_refusal_by_the_upstream_gives_status_502(relay: Relay) -> None:
    with SSEServer(status(403), port=relay.upstream_port), SSEClient() as client:
        with pytest.raises(SSEStatusError) as caught:
            client.connect(relay.events, reconnect=False).open()
    assert caught.value.status == 502


def test_a_204_from_the_upstream_ends_the_stream_of_the_browser(relay: Relay) -> None:
    with SSEServer(status(204), port=relay.upstream_port), SSEClient() as client:
        assert list(client.connect(relay.events)) == []


# -- programs


def running(name: str, *arguments: str, **environment: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run an example; kill it if the test leaves it running."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    command = [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / name), *arguments]
    return piped(command, env=inherited | {"PYTHONIOENCODING": "utf-8"} | environment, stdin=subprocess.PIPE)


def rest_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Close the input, and return the rest of both outputs; `communicate` would skip text that was read ahead."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.close()
    output, errors = process.stdout.read(), process.stderr.read()
    process.wait(LIMIT)
    return output, errors


def count_on(request: ReceivedRequest) -> Reply:
    """Return an endless stream of the events that follow the request's last event ID."""
    return stream(f"id: {number}\ndata: {number}\n\n" for number in count(int(request.last_event_id or 0) + 1))


def test_tail_prints_events_when_they_arrive_and_ends_on_ctrl_c() -> None:
    gate = Gate()
    replies = stream("retry: 10\nid: 1\ndata: Příliš\n\n", gate, CUT), stream("event: tick\nid: 2\ndata: b\n\n", HANG)
    with SSEServer(*replies) as server, running("tail.py", server.url) as process:
        assert line_of(process.stdout) == "message: Příliš\n"
        gate.open()
        assert line_of(process.stdout) == "tick: b\n"
        process.send_signal(signal.SIGINT)
        output, errors = rest_of(process)
        assert process.returncode == 0
        assert output == ""
        assert "reconnecting" in errors
        assert len(errors.splitlines()) == 1


def test_merge_combines_fifty_streams_and_survives_the_end_of_one() -> None:
    gate = Gate()

    def answer(request: ReceivedRequest) -> Reply:
        if request.path == "/0":
            return status(403)
        if request.last_event_id == "b":
            return status(204)
        return stream("retry: 10\nid: a\ndata: a\n\n", gate, "id: b\ndata: b\n\n")

    with SSEServer(default=answer) as server:
        urls = [f"{server.origin}/{number}" for number in range(51)]
        with running("merge.py", *urls) as process:

            def next_fifty() -> set[tuple[str, str]]:
                lines = [json.loads(line_of(process.stdout)) for _ in range(50)]
                return {(line["from"], line["data"]) for line in lines}

            assert next_fifty() == {(url, "a") for url in urls[1:]}
            gate.open()
            assert next_fifty() == {(url, "b") for url in urls[1:]}
            output, errors = rest_of(process)
    assert process.returncode == 0
    assert output == ""
    assert len([line for line in errors.splitlines() if "403" in line]) == 1


def test_merge_ends_on_ctrl_c() -> None:
    with SSEServer(stream("id: 1\ndata: 1\n\n", HANG)) as server, running("merge.py", server.url) as process:
        event = {"data": "1", "event": None, "id": "1", "retry": None}
        assert json.loads(line_of(process.stdout)) == {"from": server.url, **event}
        process.send_signal(signal.SIGINT)
        assert rest_of(process) == ("", "")
    assert process.returncode == 0


def test_chat_answers_one_prompt_after_another() -> None:
    need("fakellm", "uvicorn")
    fakellm = python("uvicorn --host {host} --port {port} fakellm.server:app")
    with Server(fakellm, {"FAKELLM_CONFIG": "servers/fakellm.yaml"}) as server:
        with running("chat.py", "any", OPENAI_BASE_URL=f"{server.url}/v1") as process:
            output, errors = process.communicate("a pangram, please\nanother pangram\n", timeout=LIMIT)
    answer = "Příliš žluťoučký кінь 🐎 の馬 ran.\n"
    assert output == f"> {answer}> {answer}> "
    assert errors == ""
    assert process.returncode == 0


def test_chat_prints_tokens_when_they_arrive_and_sends_one_request() -> None:
    def token(text: str) -> str:
        return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"

    gate = Gate()
    with SSEServer(stream(token("no\n"), gate, token("yes\n"), "data: [DONE]\n\n", HANG)) as server:
        with running("chat.py", "m", OPENAI_BASE_URL=f"{server.origin}/v1", OPENAI_API_KEY="k") as process:
            assert process.stdin is not None
            process.stdin.write("well?\n")
            process.stdin.flush()
            assert line_of(process.stdout) == "> no\n"
            gate.open()
            assert line_of(process.stdout) == "yes\n"
            assert rest_of(process) == ("\n> ", "")
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer k"
    assert request.json() == {"model": "m", "messages": [{"role": "user", "content": "well?"}], "stream": True}


def test_a_repeatedly_killed_worker_processes_each_event_once(tmp_path: Path) -> None:
    path = tmp_path / "progress.db"
    with SSEServer(default=count_on) as server:
        for goal in range(10, 60, 10):
            with running("resume.py", server.url, str(path)) as process:
                while int(line_of(process.stdout).removeprefix("done up to ")) < goal:
                    pass
                time.sleep(random.uniform(0, 0.02))  # about the time of one event: the kill hits any point of it
                process.kill()  # SIGKILL
    with closing(sqlite3.connect(path)) as database:
        done = [data for (data,) in database.execute("SELECT data FROM done ORDER BY rowid")]
    assert done == [str(number) for number in range(1, len(done) + 1)]
    assert len(done) >= goal
    resumed = [int(request.last_event_id or 0) for request in server.requests]
    assert resumed == sorted(resumed)
    assert resumed[1] >= 10
