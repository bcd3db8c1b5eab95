"""Errors of the command: one line each, without secrets. Also wrong usage."""

from __future__ import annotations

import re

import pytest

from sseclient_dual.cli import messages
from sseclient_dual.errors import Remedy
from sseclient_dual.testing import CUT, HANG, Reply, SSEServer, redirect, status, stream
from support.command import assert_no_credentials, assert_one_error, end_of, run, started
from support.processes import line_of


def test_failed_attempts_are_printed_while_reconnecting() -> None:
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
        assert "timeout" not in done.stderr
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
    ("reply", "body"),
    [(status(401, {"detail": "expired"}), '{"detail": "expired"}'), (stream("<html>\n"), "<html>")],
    ids=["401", "format"],
)
def test_verbose_prints_the_body_of_an_error_response(reply: Reply, body: str) -> None:
    with SSEServer(reply) as server:
        done = run(server.url, "--no-reconnect", "--verbose")
    assert done.returncode == 1
    assert done.stderr.endswith(f"sseclient-dual: response: {body}\n")


def test_an_unprinted_response_body_is_mentioned_in_a_hint() -> None:
    hint = "; use -v to see the response\n"
    with SSEServer(status(404, "gone"), status(404, "gone"), status(404)) as server:
        assert run(server.url).stderr.endswith("status 404 Not Found, not 200; check the URL" + hint)
        assert run(server.url, "-v").stderr.endswith(
            "status 404 Not Found, not 200; check the URL\nsseclient-dual: response: gone\n"
        )
        assert run(server.url).stderr.endswith("status 404 Not Found, not 200; check the URL\n")


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("<html>", "looks like HTML"),
        ('{"error": "s3cret"}', "looks like JSON"),
        ("no colon s3cret", "no colon"),
        ("s3cret key: x", "invalid field name"),
        ("retry: s3cret", "invalid retry"),
    ],
)
def test_the_error_for_an_invalid_stream_names_the_problem_and_no_strict(line: str, problem: str, end: str) -> None:
    with SSEServer(stream(line + end)) as server:
        done = run(server.url, "--no-reconnect")
    remedy = "or use --no-strict to ignore such lines"
    assert_one_error(done, f"format ({problem}); check", remedy, "use -v to see the response")
    assert "strict=False" not in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize("options", [[], ["-v"], ["-vv"]])
def test_errors_of_repeated_attempts_name_options_too(options: list[str]) -> None:
    with SSEServer(stream(HANG), status(503, "busy")) as server:
        done = run(server.url, "--retry-delay", "10", "--timeout", "0.3", *options)
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if "econnecting in" in line]
    silent = [
        line
        for line in lines
        if "no data arrived for 0.3 s, so the connection is treated as dead; raise --timeout" in line
    ]
    busy = [line for line in lines if "status 503 Service Unavailable, not 200" in line]
    assert len(silent) == len(busy) == (2 if options == ["-vv"] else 1)  # -vv prints the log and the lines of -v
    assert sorted(silent + busy) == sorted(lines)
    assert not [line for line in busy if "attribute" in line]


def test_every_remedy_has_a_command_line_text() -> None:
    assert set(messages.REMEDIES) == set(Remedy)
    assert not [words for words in messages.REMEDIES.values() if re.search(r"=|_|attribute", words)]


def test_events_before_an_error_are_printed() -> None:
    with SSEServer(stream("data: x\n\n"), status(410)) as server:
        done = run(server.url, "--retry-delay", "10")
    assert done.stdout == "x\n"
    assert_one_error(done, "410 Gone")


@pytest.mark.parametrize("options", [[], ["-v"], ["-vv"]])
def test_credentials_in_the_url_are_used_and_never_printed(options: list[str]) -> None:
    script = [stream("data: x\n\n", CUT), status(503), redirect("//alice:hunter2@[")]
    with SSEServer(*script) as server:
        url = server.url.replace("//", "//alice:hunter2@")
        done = run(url, *options, "--retry-delay", "10")
        received = server.requests[0]
    assert received.headers["Authorization"] == "Basic YWxpY2U6aHVudGVyMg=="
    assert done.returncode == 1
    assert_no_credentials(done.stdout + done.stderr)
