"""Run the programs of ``docs/examples`` as separate processes, as their docstrings say.

`test_llm_examples` has those that talk to language models.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sqlite3
import time
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import urllib3

from servers.relays import COMMANDS, Relay
from servers.running import HOST, python
from sseclient_dual import Comment, Opened, SSEClient, SSEEvent, SSEStatusError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, status, stream
from support.examples import EXAMPLES, rest_of, running
from support.processes import line_of, piped, wait_until_asleep
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sseclient_dual.testing import ReceivedRequest, Reply

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")]

# -- relays: a stream of each browser; `servers.test_shared_relays` has the feed that all share


@pytest.fixture(scope="module", params=COMMANDS)
def relay(request: pytest.FixtureRequest) -> Iterator[Relay]:
    """Run the test once per relay."""
    with Relay(request.param) as relay:
        yield relay


def test_the_page_is_shown(relay: Relay) -> None:
    with urllib3.PoolManager() as pool:
        for url in (relay.page, relay.user_page):
            response = pool.request("GET", url)
            assert response.headers["content-type"].startswith("text/html")
            assert response.data == (EXAMPLES / "page.html").read_bytes()


def test_events_and_heartbeats_are_relayed_until_the_browser_leaves(relay: Relay) -> None:
    handshake, second_event = Gate(), Gate()
    script = stream(
        "id: 1\ndata: Příliš\ndata: žluťoučký\n\n", second_event, "event: třetí\nid: 2\ndata: кінь\n\n", HANG
    )
    with SSEServer(default=script, handshake=handshake, port=relay.upstream_port) as upstream, SSEClient() as client:
        with socket.create_connection((HOST, relay.port)) as leaving:
            path = urlsplit(f"{relay.user_page}events").path
            leaving.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            upstream.wait_for_connections(1)
        connection = client.connect(f"{relay.user_page}events", headers={"Accept-Encoding": "gzip"})  # like a browser
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
        with client.connect(f"{relay.user_page}events", last_event_id="№1") as connection:
            assert [next(connection).data, next(connection).data] == ["b", "c"]
            assert connection.stats.reconnects == 0
        upstream.wait_for_connections(0)
    assert [request.last_event_id for request in upstream.requests] == ["№1", "№2"]


def test_a_refusal_by_the_upstream_gives_status_502(relay: Relay) -> None:
    with SSEServer(status(403), port=relay.upstream_port), SSEClient() as client:
        with pytest.raises(SSEStatusError) as caught:
            client.connect(f"{relay.user_page}events", reconnect=False).open()
    assert caught.value.status == 502


def test_a_204_from_the_upstream_ends_the_stream_of_the_browser(relay: Relay) -> None:
    with SSEServer(status(204), port=relay.upstream_port), SSEClient() as client:
        assert list(client.connect(f"{relay.user_page}events")) == []


# -- programs

USAGES = {
    "tail.py": "url [checkpoint]",
    "resume.py": "url database",
    "merge.py": "url [url ...]",
    "feed.py": "[port]",
    "chat.py": "model",
    "first_answer.py": "question model [model ...]",
    "messages.py": "model question",
    "mcp_call.py": "url tool json",
}


@pytest.mark.parametrize("program", USAGES)
def test_wrong_arguments_print_the_usage(program: str) -> None:
    wrong = ["no-number"] if program == "feed.py" else []
    with running(program, *wrong) as process:
        output, errors = rest_of(process)
    assert output == ""
    usage, mistake = errors.splitlines()
    assert usage == f"usage: {program} [-h] {USAGES[program]}"
    assert mistake.startswith(f"{program}: error: ")
    assert process.returncode == 2


@pytest.mark.parametrize("program", ["tail.py", "resume.py", "merge.py", "mcp_call.py"])
def test_a_url_that_serves_no_stream_is_an_error_in_one_line(program: str, tmp_path: Path) -> None:
    others = {"resume.py": [str(tmp_path / "progress.db")], "mcp_call.py": ["add", "{}"]}.get(program, [])
    with SSEServer(default=status(404, "nowhere")) as server:
        for url, error in (("example.com", "must begin with http://"), (server.url, "status 404")):
            with running(program, url, *others) as process:
                output, errors = rest_of(process)
            assert output == ""
            assert error in errors
            assert len(errors.splitlines()) == 1
            assert process.returncode == (0 if program == "merge.py" and url == server.url else 1)


@pytest.mark.parametrize("program", ["tail.py", "resume.py"])
def test_a_file_in_a_folder_that_does_not_exist_is_an_error_in_one_line(program: str, tmp_path: Path) -> None:
    with SSEServer(stream("id: 1\ndata: x\n\n", HANG)) as server:
        with running(program, server.url, str(tmp_path / "missing" / "file")) as process:
            _, errors = rest_of(process)
    assert re.fullmatch("error: .*\n", errors)
    assert process.returncode == 1


def test_a_port_in_use_is_an_error_in_one_line() -> None:
    with SSEServer() as server, running("feed.py", server.origin.rpartition(":")[2]) as process:
        output, errors = rest_of(process)
    assert output == ""
    assert re.fullmatch(r"error: .*in use; try another port\n", errors)
    assert process.returncode == 1


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


def test_tail_resumes_after_a_kill_with_the_event_in_hand(tmp_path: Path) -> None:
    """No event is missing, and at most the event that was being printed is printed again."""
    printed: list[int] = []
    with SSEServer(default=count_on) as server:
        for _ in range(3):
            with running("tail.py", server.url, str(tmp_path / "last.id")) as process:
                lines = [line_of(process.stdout) for _ in range(10)]
                process.kill()  # SIGKILL
                lines += rest_of(process)[0].splitlines()
            numbers = [int(line.removeprefix("message: ")) for line in lines]
            if printed:
                assert numbers[0] in {printed[-1], printed[-1] + 1}
            printed += numbers
    assert sorted(set(printed)) == list(range(1, printed[-1] + 1))


def test_merge_combines_two_hundred_streams_and_survives_the_end_of_one() -> None:
    streams = 200
    gate = Gate()

    def answer(request: ReceivedRequest) -> Reply:
        if request.path == "/0":
            return status(403)
        if request.last_event_id == "b":
            return status(204)
        if request.last_event_id == "a":
            return stream("id: b\ndata: b\n\n")
        return stream("retry: 10\nid: a\ndata: a\n\n", gate, CUT)

    with SSEServer(default=answer) as server:
        urls = [f"{server.origin}/{number}" for number in range(streams + 1)]
        with running("merge.py", *urls) as process:

            def next_of_each() -> set[tuple[str, str]]:
                lines = [json.loads(line_of(process.stdout)) for _ in range(streams)]
                return {(line["from"], line["data"]) for line in lines}

            assert next_of_each() == {(url, "a") for url in urls[1:]}
            gate.open()
            assert next_of_each() == {(url, "b") for url in urls[1:]}
            output, errors = rest_of(process)
    assert process.returncode == 0
    assert output == ""
    assert [line.partition(": ")[0] for line in errors.splitlines() if "403" in line] == ["stream 1"]


def test_merge_ends_on_ctrl_c() -> None:
    with SSEServer(stream("id: 1\ndata: 1\n\n", HANG)) as server, running("merge.py", server.url) as process:
        event = {"data": "1", "event": None, "id": "1", "retry": None}
        assert json.loads(line_of(process.stdout)) == {"from": server.url, **event}
        wait_until_asleep(process)  # asyncio does not notice a signal that comes just before it waits
        process.send_signal(signal.SIGINT)
        assert rest_of(process) == ("", "")
    assert process.returncode == 0


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


def test_the_test_of_a_program_passes_and_a_mistake_in_it_is_found(tmp_path: Path) -> None:
    for name in ("tail.py", "test_tail.py"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text(encoding="utf-8"), encoding="utf-8")
    command = [*python("pytest"), "-W", "error", "-p", "no:cacheprovider", "test_tail.py"]
    with piped(command, cwd=tmp_path) as process:
        assert "2 passed" in process.communicate(timeout=PATIENCE)[0]
    program = tmp_path / "tail.py"
    program.write_text(program.read_text(encoding="utf-8").replace("checkpoint=checkpoint", ""), encoding="utf-8")
    with piped(command, cwd=tmp_path) as process:
        assert "1 failed, 1 passed" in process.communicate(timeout=PATIENCE)[0]
