"""Run the programs of ``docs/examples`` that talk to language models, as processes, except for the chat.

The servers are `fakellm`, those of the package `mcp`, and scripted ones for all that may go wrong.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from servers.llm import DONE, PANGRAM, PING, STOP, delta, failure, fakellm, token
from servers.running import Server, need, python
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, status, stream
from support.examples import rest_of, running
from support.processes import line_of

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sseclient_dual.testing import ReceivedRequest, Reply

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")]

EARLY = "the response ended before its last event"


@pytest.fixture(scope="module")
def model() -> Iterator[Server]:
    with fakellm() as server:
        yield server


# -- first_answer.py


def test_the_first_answer_cancels_the_other_requests(model: Server) -> None:
    with running("first_answer.py", "a pangram", "m", OPENAI_BASE_URL=f"{model.url}/v1") as process:
        assert rest_of(process) == (f"m: {PANGRAM}\n", "")
    assert process.returncode == 0


def test_cancelled_requests_are_closed_and_failed_ones_reported() -> None:
    gate = Gate()
    replies = {
        "failing": stream(f"data: {failure('Out of memory')}\n\n", CUT),
        "refusing": status(401, "Incorrect API key."),
        "slow": stream(token("so"), HANG),
        "good": stream(token("well"), gate, DONE),
    }

    def answer(request: ReceivedRequest) -> Reply:
        return replies[request.json()["model"]]

    with SSEServer(default=answer) as server:
        with running("first_answer.py", "why?", *replies, OPENAI_BASE_URL=server.origin) as process:
            failed, refused = sorted(line_of(process.stderr) for _ in range(2))
            gate.open()
            assert rest_of(process) == ("good: well\n", "")
        server.wait_for_connections(0)
    assert failed == f"error: failing: {failure('Out of memory')}\n"
    assert refused == "error: refusing: status 401: Incorrect API key.\n"
    assert process.returncode == 0


def test_ctrl_c_cancels_all_requests() -> None:
    with SSEServer(default=stream(token("so"), HANG)) as server:
        with running("first_answer.py", "why?", "a", "b", OPENAI_BASE_URL=server.origin) as process:
            server.wait_for_requests(2)
            process.send_signal(signal.SIGINT)
            output, errors = rest_of(process)
        server.wait_for_connections(0)
    assert (output, errors) == ("", "cancelled\n")
    assert process.returncode == 1


def test_no_answer_is_an_error() -> None:
    with SSEServer(default=stream(token("so"), CUT)) as server:
        with running("first_answer.py", "why?", "a", OPENAI_BASE_URL=server.origin) as process:
            output, errors = rest_of(process)
    reason = f"a: {server.origin}: the response was cut short; {EARLY}"
    assert (output, errors) == ("", f"error: {reason}\nerror: no model answered\n")
    assert process.returncode == 1


# -- messages.py


def asking(base_url: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return running("messages.py", "m", "a pangram?", ANTHROPIC_BASE_URL=base_url, ANTHROPIC_API_KEY="k")


def test_messages_prints_the_answer_of_a_server(model: Server) -> None:
    with asking(model.url) as process:
        assert rest_of(process) == (f"{PANGRAM}\n", "")
    assert process.returncode == 0


def test_messages_prints_tokens_when_they_arrive_and_stops_at_the_last_event() -> None:
    gate = Gate()
    with SSEServer(stream(PING, delta("a\n"), gate, delta("b"), STOP, HANG)) as server:
        with asking(server.origin) as process:
            assert line_of(process.stdout) == "a\n"
            gate.open()
            assert rest_of(process) == ("b\n", "")
    assert process.returncode == 0
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert (request.headers["x-api-key"], request.headers["anthropic-version"]) == ("k", "2023-06-01")
    assert request.json()["stream"] is True


@pytest.mark.parametrize(
    ("reply", "printed", "error"),
    [
        (stream(delta("so"), f"event: error\ndata: {failure('Overloaded')}\n\n"), "so", "\nerror: Overloaded\n"),
        (stream(delta("so"), CUT), "so", f"\nerror: {{origin}}: the response was cut short; {EARLY}\n"),
        (status(401, failure("invalid x-api-key")), "", f"error: status 401: {failure('invalid x-api-key')}\n"),
    ],
    ids=["error", "cut", "refused"],
)
def test_messages_explains_what_went_wrong(reply: Reply, printed: str, error: str) -> None:
    with SSEServer(reply) as server:
        with asking(server.origin) as process:
            expected = error.replace("{origin}", server.origin)
            assert rest_of(process) == (printed, expected)
    assert process.returncode == 1


def test_ctrl_c_ends_messages() -> None:
    with SSEServer(stream(delta("so\n"), HANG)) as server, asking(server.origin) as process:
        assert line_of(process.stdout) == "so\n"
        process.send_signal(signal.SIGINT)
        assert rest_of(process) == ("", "\ncancelled\n")
    assert process.returncode == 1


# -- mcp_call.py


def calling(
    url: str, tool: str = "add", arguments: str = '{"a": 20, "b": 22}'
) -> AbstractContextManager[subprocess.Popen[str]]:
    return running("mcp_call.py", url, tool, arguments)


@pytest.mark.parametrize("app", ["streamable", "streamable_json"])
def test_a_tool_is_called_whether_the_server_streams_or_not(app: str) -> None:
    need("mcp", "uvicorn")
    with Server(python(f"uvicorn --host {{host}} --port {{port}} servers.mcp_app:{app}")) as server:
        with calling(f"{server.url}/mcp") as process:
            output, errors = rest_of(process)
        assert errors == ""
        assert json.loads(output) == [{"type": "text", "text": "42"}]
        assert process.returncode == 0
        with calling(f"{server.url}/mcp", "repeat", '{"text": "long ", "times": 100000}') as process:
            output, errors = rest_of(process)
        assert errors == ""
        assert json.loads(output) == [{"type": "text", "text": "long " * 100_000}]


def rpc(**message: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", **message})


JSON = {"Content-Type": "application/json"}
STARTED = [status(200, rpc(id=1, result={}), JSON | {"Mcp-Session-Id": "s"}), status(202)]


def test_the_answer_of_a_tool_may_follow_other_messages() -> None:
    messages = [
        rpc(method="notifications/progress", params={"progressToken": 1, "progress": 1}),
        rpc(id=2, method="ping"),
        rpc(id=2, result={"content": ["žluť"]}),
    ]
    answer = stream("id: 0\ndata:\n\n", *(f"event: message\ndata: {message}\n\n" for message in messages), HANG)
    with SSEServer(*STARTED, answer) as server, calling(server.url) as process:
        assert rest_of(process) == ('["žluť"]\n', "")
    initialize, initialized, call = server.requests
    assert initialize.json()["method"] == "initialize"
    assert initialized.json() == {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert call.json()["params"] == {"name": "add", "arguments": {"a": 20, "b": 22}}
    assert [request.headers.get("mcp-session-id") for request in server.requests] == [None, "s", "s"]
    assert {request.headers["accept"] for request in (initialize, call)} == {"application/json, text/event-stream"}


NO_STREAM = (
    "error: {origin} answered with media type 'text/html', not 'text/event-stream'; check that the URL is that of an "
    "event stream\n"
)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (status(200, rpc(id=2, error={"code": -32602, "message": "Unknown tool"}), JSON), "error: Unknown tool\n"),
        (status(404, "Session not found"), "error: status 404: Session not found\n"),
        (stream(f"data: {rpc(method='ping')}\n\n", CUT), f"error: {{origin}}: the response was cut short; {EARLY}\n"),
        (stream(content_type="text/html"), NO_STREAM),
    ],
    ids=["error", "refused", "cut", "html"],
)
def test_a_call_explains_what_went_wrong(reply: Reply, error: str) -> None:
    with SSEServer(*STARTED, reply) as server, calling(server.url) as process:
        output, errors = rest_of(process)
    assert output == ""
    assert errors == error.replace("{origin}", server.origin)
    assert process.returncode == 1
