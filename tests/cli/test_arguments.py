"""The effect of each command-line option."""

from __future__ import annotations

import re
import signal

import pytest

from sseclient_dual import __version__
from sseclient_dual.testing import CUT, HANG, SSEServer, redirect, status, stream
from support.command import ENVIRONMENT, assert_one_error, end_of, on_posix, run, started, summary_of
from support.processes import line_of


def test_without_options_the_request_is_a_get(sse_server: SSEServer) -> None:
    done = run(f"{sse_server.url}path?query=1")
    (request,) = sse_server.requests
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (request.method, request.target, request.body) == ("GET", "/path?query=1", b"")
    assert request.last_event_id is None


@pytest.mark.parametrize("option", ["-X", "--request"])
def test_the_method(option: str, sse_server: SSEServer) -> None:
    assert run(sse_server.url, option, "QUERY").returncode == 0
    assert sse_server.requests[0].method == "QUERY"


@pytest.mark.parametrize("option", ["-H", "--header"])
def test_headers(option: str, sse_server: SSEServer) -> None:
    headers = ["X-One: 1", "x-empty:", "X-Spaced:  a: b ", "Accept: text/plain", "X-Snow: ☃", "X-One: 2"]
    assert run(sse_server.url, *[text for header in headers for text in (option, header)]).returncode == 0
    received = sse_server.requests[0].headers
    assert received["X-One"] == "1, 2"
    assert received["X-Empty"] == ""
    assert received["X-Spaced"] == "a: b"
    assert received["Accept"] == "text/plain"
    assert received["X-Snow"].encode("latin-1") == "☃".encode()


@pytest.mark.parametrize(
    ("options", "method"), [(["-d", "a=☃"], "POST"), (["--data", "a=☃", "-X", "PUT"], "PUT"), (["-d", ""], "POST")]
)
def test_data_is_sent_by_post_unless_a_method_is_given(
    options: list[str], method: str, sse_server: SSEServer
) -> None:
    assert run(sse_server.url, *options).returncode == 0
    (request,) = sse_server.requests
    assert request.method == method
    assert request.body == options[1].encode()
    assert "content-type" not in request.headers


@on_posix
def test_data_and_headers_are_sent_as_raw_bytes(sse_server: SSEServer) -> None:
    assert run(sse_server.url, "-d", b"\xff\xfe", "-H", b"X-Raw: \xe9").returncode == 0
    (request,) = sse_server.requests
    assert request.body == b"\xff\xfe"
    assert request.headers["X-Raw"] == "\xe9"


def test_the_last_event_id() -> None:
    with SSEServer(stream("data: x\n\n", CUT), stream("id: 8\ndata: y\n\n", CUT)) as server:
        assert run(server.url, "--last-event-id", "7 ☃", "--retry-delay", "10").returncode == 0
        assert [request.last_event_id for request in server.requests] == ["7 ☃", "7 ☃", "8"]


def test_no_reconnect_and_data_turn_reconnecting_off() -> None:
    with SSEServer(stream("data: 1\n\n"), stream("data: 2\n\n"), stream("data: 3\n\n"), stream(CUT)) as server:
        done = run(server.url, "--no-reconnect")
        assert (done.returncode, done.stdout) == (0, "1\n")
        done = run(server.url, "--no-reconnect")
        assert (done.returncode, done.stdout, len(server.requests)) == (0, "2\n", 2)
        done = run(server.url, "-d", "x")
        assert (done.returncode, done.stdout, len(server.requests)) == (0, "3\n", 3)
        assert_one_error(run(server.url, "--no-reconnect"), server.origin, "cut short")


def test_the_retry_delay() -> None:
    with SSEServer(stream("data: x\n\n", CUT)) as server:
        done = run(server.url, "-v", "--retry-delay", "200")
    assert "reconnecting in 0.2 s" in done.stderr


def test_a_retry_delay_that_looks_like_seconds(sse_server: SSEServer) -> None:
    done = run(sse_server.url, "--retry-delay", "3")
    assert (done.returncode, done.stderr) == (0, "sseclient-dual: --retry-delay is in milliseconds\n")
    assert run(sse_server.url, "--retry-delay", "0").stderr == ""


def test_the_timeout() -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server:
        assert_one_error(
            run(server.url, "--no-reconnect", "--timeout", "0.5"), "no data arrived for 0.5 s", "raise --timeout"
        )


def test_the_maximum_number_of_events() -> None:
    with SSEServer(stream("data: 1\n\ndata: 2\n\ndata: 3\n\n", HANG)) as server:
        done = run(server.url, "--max-events", "2")
        server.wait_for_connections(0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n2\n", "")


def test_verbose() -> None:
    script = (
        redirect("/stream?token=secret"),
        stream(": welcome\n\n", "id: 1\ndata: x\n\n", CUT),
        stream("id: 1\ndata: x\n\nid: 2\ndata: y\n\n"),
    )
    with SSEServer(*script) as server:
        done = run(f"{server.url}?token=secret", "-v", "--retry-delay", "10")
        origin = server.origin
    assert (done.returncode, done.stdout) == (0, "#1: x\n#2: y\n")
    assert done.stderr.splitlines() == [
        f"sseclient-dual: connected to {origin}/stream, status 200",
        "sseclient-dual: comment: welcome",
        f"sseclient-dual: {origin}: the response was cut short (reconnecting in 0.0 s)",
        f"sseclient-dual: connected to {origin}/, status 200",
        "sseclient-dual: the response ended (reconnecting in 0.0 s)",
        "sseclient-dual: ended by the server, status 204",
    ]


def test_verbose_prints_ignored_lines() -> None:
    with SSEServer(stream("<html>\x1b[2J\n\ndata: x\n\n")) as server:
        done = run(server.url, "-v", "--no-reconnect", "--no-strict")
    assert (done.returncode, done.stdout) == (0, "x\n")
    assert "sseclient-dual: ignored line: <html>\\u001b[2J\n" in done.stderr


def test_verbose_without_a_204() -> None:
    with SSEServer(stream("data: x\n\n")) as server:
        done = run(server.url, "-v", "--no-reconnect")
    assert done.stderr.splitlines()[-1] == "sseclient-dual: ended by the server"


@pytest.mark.parametrize("options", [["-vv"], ["-v", "--verbose", "-v"]])
def test_very_verbose(options: list[str]) -> None:
    with SSEServer(stream("id: 1\ndata: x\n\n", CUT), stream("id: 1\ndata: x\n\n")) as server:
        done = run(f"{server.url}?token=secret", "--retry-delay", "10", *options)
    assert done.stdout == "#1: x\n"
    assert f"sseclient-dual: {server.origin}: duplicate of an event skipped\n" in done.stderr
    assert f"sseclient-dual: connected to {server.origin}/, status 200\n" in done.stderr
    assert {line.partition(" ")[0] for line in done.stderr.splitlines()} == {"sseclient-dual:"}
    assert "secret" not in done.stderr


def test_the_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sseclient-dual {__version__}\n", "")


def test_the_help() -> None:
    done = run("--help", env={**ENVIRONMENT, "COLUMNS": "80"})
    assert done.returncode == 0
    assert not done.stderr
    assert done.stdout.startswith("usage: sseclient-dual [OPTIONS] URL\n\n")
    groups = re.findall(r"^(\w[\w ]*):$", done.stdout, re.MULTILINE)
    groups_of_requests = ["request", "connection", "stream", "resuming"]
    assert groups == [*groups_of_requests, "feeds in Redis or Valkey", "output", "others", "examples", "exit status"]
    options = re.findall(r"^  (?:-\w.*, )?(--[a-z0-9-]+)", done.stdout, re.MULTILINE)
    assert len(options) == len(set(options)) > 25
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("data", ["-", "@-"])
def test_the_body_from_standard_input_is_sent_with_every_attempt(data: str, sse_server: SSEServer) -> None:
    sse_server.add(status(503))
    assert run(sse_server.url, "-d", data, "--retry-delay", "10", input="several\nlines ☃\n").returncode == 0
    for request in sse_server.requests:
        assert (request.method, request.body) == ("POST", "several\nlines ☃\n".encode())
    assert len(sse_server.requests) == 2


@on_posix
@pytest.mark.usefixtures("interruptible")
def test_stats_after_ctrl_c(sse_server: SSEServer) -> None:
    sse_server.add(stream("id: 1\ndata: x\n\n", CUT), stream("id: ☃\ndata: y\n\n: done\n\n", HANG))
    with started(sse_server.url, "--stats", "-v", "--retry-delay", "10") as process:
        assert line_of(process.stdout) == "#1: x\n"
        assert line_of(process.stdout) == "#☃: y\n"
        while "comment: done" not in (line := line_of(process.stderr)):  # printed after the event is counted
            assert line
        process.send_signal(signal.SIGINT)
        code, errors = end_of(process)
    assert code == 130
    assert summary_of(errors.splitlines()[-1]) == ("2", "1", "☃")
