"""Run ``docs/examples/chat.py`` as a process: with `fakellm`, and with scripted servers for all that may go wrong."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest

from servers.llm import DONE, PANGRAM, failure, fakellm, token
from sseclient_dual.testing import CUT, HANG, RESET, Gate, SSEServer, status, stream
from support.examples import rest_of, running
from support.processes import line_of
from support.waiting import PATIENCE

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from servers.running import Server
    from sseclient_dual.testing import ReceivedRequest, Reply

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")]

JSON = {"Content-Type": "application/json"}
EARLY = "the response ended before its last event"


@pytest.fixture(scope="module")
def model() -> Iterator[Server]:
    with fakellm() as server:
        yield server


def asked(server: SSEServer) -> list[list[str]]:
    """Return the messages of each request."""
    return [[message["content"] for message in request.json()["messages"]] for request in server.requests]


def chatting(server: SSEServer) -> AbstractContextManager[subprocess.Popen[str]]:
    return running("chat.py", "m", OPENAI_BASE_URL=f"{server.origin}/v1", OPENAI_API_KEY="k")


def say(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{text}\n")
    process.stdin.flush()


def read_prompt(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.read(2) == "> "


def test_chat_answers_one_prompt_after_another(model: Server) -> None:
    with running("chat.py", "any", OPENAI_BASE_URL=f"{model.url}/v1") as process:
        output, errors = process.communicate("a pangram, please\nanother pangram\n", timeout=PATIENCE)
    assert output == f"> {PANGRAM}\n> {PANGRAM}\n> "
    assert errors == ""
    assert process.returncode == 0


def test_chat_prints_tokens_when_they_arrive_and_sends_one_request() -> None:
    gate = Gate()
    with SSEServer(stream(token("no\n"), gate, token("yes\n"), DONE, HANG)) as server:
        with chatting(server) as process:
            say(process, "well?")
            assert line_of(process.stdout) == "> no\n"
            gate.open()
            assert line_of(process.stdout) == "yes\n"
            assert rest_of(process) == ("\n> ", "")
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer k"
    assert request.json() == {"model": "m", "messages": [{"role": "user", "content": "well?"}], "stream": True}


TROUBLE = [
    (
        "ends-early",
        stream(token("so")),
        f"so\n[{{origin}}: {EARLY}; check the value of until if every response ends like this]",
    ),
    ("cut", stream(token("so"), CUT), f"so\n[{{origin}}: the response was cut short; {EARLY}]"),
    (
        "reset",
        stream(token("so"), RESET),
        f"so\n[{{origin}}: the connection broke (Connection reset by peer); {EARLY}]",
    ),
    ("limit", stream(token("so", finish_reason="length"), DONE), "so [the limit of tokens is reached]"),
    (
        "error-with-a-type",
        stream(token("so"), f"event: error\ndata: {failure('Overloaded')}\n\n", DONE),
        "so\n[error from the API: Overloaded]",
    ),
    (
        "error-without-a-type",
        stream(token("so"), f"data: {failure('Out of memory')}\n\n", CUT),
        "so\n[error from the API: Out of memory]",
    ),
    ("error-in-words", stream("event: error\ndata: gone\n\n"), "\n[error from the API: gone]"),
    ("no-json", stream("data: hello\n\n"), "\n[error from the API: hello]"),
    ("refused", status(401, failure("Incorrect API key."), JSON), "\n[status 401: Incorrect API key.]"),
    ("refused-in-words", status(403, "Not from here.\n"), "\n[status 403: Not from here.]"),
    ("refused-in-silence", status(500), "\n[status 500: Internal Server Error]"),
    (
        "no-stream",
        stream(failure("No such model."), content_type="application/json"),
        "\n[application/json instead of a stream: No such model.]",
    ),
]


@pytest.mark.parametrize(("reply", "shown"), [pytest.param(*case, id=name) for name, *case in TROUBLE])
def test_chat_explains_what_went_wrong_and_goes_on(reply: Reply, shown: str) -> None:
    with SSEServer(reply, stream(token("better"), DONE)) as server:
        with chatting(server) as process:
            output, errors = process.communicate("one\ntwo\n", timeout=PATIENCE)
    assert output == f"> {shown.format(origin=server.origin)}\n> better\n> "
    assert errors == ""
    assert process.returncode == 0
    failed = "limit" not in shown
    assert asked(server) == [["one"], ["two"] if failed else ["one", "so", "two"]]


def test_chat_waits_as_long_as_a_busy_server_asks() -> None:
    times = []

    def answer(request: ReceivedRequest) -> Reply:
        times.append(time.monotonic())
        if len(times) == 1:
            return status(429, failure("Slow down."), JSON | {"Retry-After": "1"})
        return stream(token("well"), DONE)

    with SSEServer(default=answer) as server, chatting(server) as process:
        output, errors = process.communicate("one\n", timeout=PATIENCE)
    first, second = times
    assert second - first >= 1
    assert output == "> well\n> "
    assert "429 Too Many Requests" in errors
    assert "reconnecting in 1." in errors
    assert len(errors.splitlines()) == 1


def test_chat_gives_up_on_a_server_that_stays_busy() -> None:
    busy = status(429, failure("You exceeded your quota."), JSON | {"Retry-After": "0"})
    with SSEServer(default=busy) as server:
        with chatting(server) as process:
            output, _ = process.communicate("one\n", timeout=PATIENCE)
    assert output == "> \n[status 429: You exceeded your quota.]\n> "
    assert len(server.requests) == 4


def test_ctrl_c_cancels_the_answer_and_then_ends_the_chat() -> None:
    with SSEServer(stream(token("so\n"), HANG), stream(token("better\n"), DONE)) as server:
        with chatting(server) as process:
            say(process, "one")
            assert line_of(process.stdout) == "> so\n"
            process.send_signal(signal.SIGINT)
            assert [line_of(process.stdout), line_of(process.stdout)] == ["\n", "[cancelled]\n"]
            server.wait_for_connections(0)  # the server notices, and need not go on
            say(process, "two")
            assert line_of(process.stdout) == "> better\n"
            assert line_of(process.stdout) == "\n"
            read_prompt(process)
            process.send_signal(signal.SIGINT)
            assert rest_of(process) == ("", "")
        assert process.returncode == 0
    assert asked(server) == [["one"], ["two"]]


def test_ctrl_c_cancels_a_request_that_waits_for_a_busy_server() -> None:
    busy = status(429, headers={"Retry-After": "3600"})
    with SSEServer(busy) as server, chatting(server) as process:
        say(process, "one")
        assert re.search(r"429 .*; reconnecting in \d{4}\.", line_of(process.stderr))
        process.send_signal(signal.SIGINT)
        assert line_of(process.stdout) == "> \n"
        assert line_of(process.stdout) == "[cancelled]\n"
        assert rest_of(process) == ("> ", "")
    assert process.returncode == 0


def test_chat_explains_an_invalid_url() -> None:
    with running("chat.py", "m", OPENAI_BASE_URL="localhost:11434") as process:
        output, errors = process.communicate("one\n", timeout=PATIENCE)
    assert (output, errors) == ("> \n[url must begin with http:// or https://]\n> ", "")
