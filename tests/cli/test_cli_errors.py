"""The command's errors: one line each, without secrets; wrong usage."""

from __future__ import annotations

import pytest

from sseclient_dual.testing import CUT, Reply, SSEServer, redirect, status, stream
from support.command import assert_no_credentials, assert_one_error, end_of, run, started
from support.processes import line_of


def test_a_failure_is_told_while_reconnecting_goes_on() -> None:
    with SSEServer(stream("data: x\n\n")) as server:
        server.refuse()
        with started(server.url, "--retry-delay", "50") as process:
            warning = line_of(process.stderr)
            server.listen()
            assert line_of(process.stdout) == "x\n"
            code, rest = end_of(process)
    assert code == 0
    for line in [warning, *rest.splitlines()]:
        assert line.startswith(f"sseclient-dual: {server.origin}: could not connect")
        assert "reconnecting in " in line


def test_a_refused_connection() -> None:
    with SSEServer() as server:
        server.refuse()
        done = run(server.url.replace("//", "//alice:hunter2@"), "--no-reconnect")
        assert_one_error(done, server.origin, "could not connect")
        assert_no_credentials(done.stderr)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (status(404), ["404 Not Found"]),
        (status(401, {"detail": "secret"}), ["401"]),
        (status(200, "<html>", content_type="text/html"), ["text/html", "text/event-stream"]),
        (redirect(None), ["redirect"]),
        (stream("<html>\n"), ["event-stream format"]),
    ],
    ids=["404", "401", "media type", "redirect", "format"],
)
def test_an_error_is_one_line(reply: Reply, words: list[str]) -> None:
    with SSEServer(reply) as server:
        done = run(server.url, "--no-reconnect")
    assert not done.stdout
    assert_one_error(done, *words)
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("reply", "said"),
    [(status(401, {"detail": "expired"}), '{"detail": "expired"}'), (stream("<html>\n"), "<html>")],
    ids=["401", "format"],
)
def test_what_the_server_says_of_an_error_is_shown_if_asked_for(reply: Reply, said: str) -> None:
    with SSEServer(reply) as server:
        done = run(server.url, "--no-reconnect", "--verbose")
    assert done.returncode == 1
    assert done.stderr.endswith(f"sseclient-dual: it said: {said}\n")


def test_events_before_an_error_are_printed() -> None:
    with SSEServer(stream("data: x\n\n"), status(410)) as server:
        done = run(server.url, "--retry-delay", "1")
    assert done.stdout == "x\n"
    assert_one_error(done, "410 Gone")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one URL, or --demo"),
        (["http://a:b/"], "url cannot be parsed; it must look like https://host/path"),
        (["http://a/", "-H", "X"], "argument -H/--header: must look like 'Name: value'"),
        (["http://a/", "--timeout", "0"], "timeout must be more than 0 seconds; pass None for no limit"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.startswith("usage: sseclient-dual ")
    assert done.stderr.splitlines()[-1] == f"sseclient-dual: error: {message}"


@pytest.mark.parametrize("options", [[], ["-v"], ["-vv"]])
def test_credentials_in_the_url_are_used_and_never_printed(options: list[str]) -> None:
    script = [stream("data: x\n\n", CUT), status(503), redirect("//alice:hunter2@[")]
    with SSEServer(*script) as server:
        url = server.url.replace("//", "//alice:hunter2@")
        done = run(url, *options, "--retry-delay", "1")
        received = server.requests[0]
    assert received.headers["Authorization"] == "Basic YWxpY2U6aHVudGVyMg=="
    assert done.returncode == 1
    assert_no_credentials(done.stdout + done.stderr)
