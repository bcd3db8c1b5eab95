"""Output of the command: text, JSON, encodings, terminals."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress

import pytest

from sseclient_dual import SSEEvent
from sseclient_dual.testing import CUT, Gate, SSEServer, status, stream
from support.command import ENVIRONMENT, EVENT, end_of, on_posix, run, started
from support.processes import line_of


def test_events_as_text() -> None:
    reply = stream(
        "data: plain\n\n",
        "event: news\ndata: typed\n\n",
        "event: message\nid: 1\ndata: named\n\n",
        "event: news\nid: 2\ndata: both\n\n",
        "data: several\ndata:\ndata: lines\n\n",
        "event: news\nid: 3\ndata: several\ndata: lines\n\n",
        "data\n\n",
        "id\nevent: news\ndata\n\n",
    )
    with SSEServer(reply) as server:
        done = run(server.url, "--retry-delay", "1")
    assert done.stdout.split("\n") == [
        "plain",
        "news: typed",
        "#1: named",
        "news #2: both",
        "message:",
        "    several",
        "    ",
        "    lines",
        "news #3:",
        "    several",
        "    lines",
        "",
        "news: ",
        "",
    ]
    assert not done.stderr
    assert done.returncode == 0


def test_events_as_json() -> None:
    tricky = "\u2028 \u0085 \x1b ☃ \\"
    with SSEServer(stream(EVENT, SSEEvent(tricky))) as server:
        done = run(server.url, "--json", "--no-reconnect")
    first, second = done.stdout.splitlines()  # splitlines() also splits at U+2028 and U+0085
    assert json.loads(first) == {**dict(EVENT), "last_event_id": "7"}
    assert json.loads(second) == {"data": tricky, "event": None, "id": None, "retry": None, "last_event_id": "7"}
    assert "second ☃" in first
    assert not done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("options", [[], ["--json"], ["--raw"]])
def test_each_event_is_printed_when_it_arrives(options: list[str]) -> None:
    gate = Gate()
    with (
        SSEServer(stream("data: 1\n\n", gate, "data: 2\n\n")) as server,
        started(server.url, "--no-reconnect", *options) as process,
    ):
        assert "1" in line_of(process.stdout)
        gate.open()
        assert "2" in (line_of(process.stdout).strip() or line_of(process.stdout))
        assert end_of(process) == (0, "")


def test_text_uses_the_encoding_of_the_output_and_json_uses_utf_8() -> None:
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    with SSEServer(stream(EVENT), stream(EVENT)) as server:
        text = run(server.url, "--no-reconnect", env=environment)
        lines = run(server.url, "--no-reconnect", "--json", env=environment)
    assert "second \\u2603" in text.stdout
    assert "second ☃" in lines.stdout
    assert (text.returncode, lines.returncode, text.stderr, lines.stderr) == (0, 0, "", "")


def read_terminal(url: str, *options: str) -> str:
    """Run the command on a terminal, and return its output."""
    import pty  # noqa: PLC0415 - not on Windows

    controller, terminal = pty.openpty()
    with (
        os.fdopen(controller, "rb", buffering=0) as reader,
        started(url, "--no-reconnect", *options, stdout=terminal) as process,
    ):
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # Linux raises it once the other end is closed
            while piece := reader.read(4096):
                shown += piece
        assert end_of(process) == (0, "")
    return shown.decode().replace("\r\n", "\n")


@on_posix
def test_a_terminal_gets_no_control_characters_from_the_server() -> None:
    data = "tab\tred \x1b[31m, bell \x07, C1 \x9b31m, delete \x7f\nsnowman ☃"
    with SSEServer(*[stream(SSEEvent(data, event="\x1b]0;title\x07", id="\x1bc"))] * 3) as server:
        shown = read_terminal(server.url)
        as_json = read_terminal(server.url, "--json")
        piped = run(server.url, "--no-reconnect").stdout
    assert shown == (
        "\\u001b]0;title\\u0007 #\\u001bc:\n"
        "    tab\tred \\u001b[31m, bell \\u0007, C1 \\u009b31m, delete \\u007f\n"
        "    snowman ☃\n"
    )
    assert json.loads(as_json)["data"] == data
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", as_json)
    assert "red \x1b[31m" in piped


def test_standard_error_gets_no_control_characters() -> None:
    with SSEServer(stream(": \x1b[2J\n\ndata: x\n\n", CUT), status(418, reason="I \x1b[31m")) as server:
        done = run(server.url, "-v", "--retry-delay", "1")
    assert "comment: \\u001b[2J" in done.stderr
    assert "418 I \\u001b[31m" in done.stderr
    assert "\x1b" not in done.stderr
