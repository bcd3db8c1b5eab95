"""Output of the command: text, JSON, encodings, terminals."""

from __future__ import annotations

import base64
import json
import os
import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEEvent
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, status, stream
from support.command import ENVIRONMENT, EVENT, end_of, on_posix, run, started
from support.processes import line_of

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        done = run(server.url, "--retry-delay", "10")
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


def read_terminal(url: str, *options: str, environment: Mapping[str, str] = ENVIRONMENT) -> str:
    """Run the command on a terminal, and return its output."""
    import pty  # noqa: PLC0415 - not on Windows

    controller, terminal = pty.openpty()
    with (
        os.fdopen(controller, "rb", buffering=0) as reader,
        started(url, "--no-reconnect", *options, stdout=terminal, env=environment) as process,
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


@on_posix
def test_arguments_in_utf_8_in_a_locale_without_it() -> None:
    locale = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"}
    events = SSEEvent("x", "é"), SSEEvent("y", "ü"), SSEEvent("☃"), SSEEvent("late", "é")
    with SSEServer(stream(*events, HANG)) as server:
        options = ["--event", "é", "--until", "☃", "-u", "ö:ä", "-b", "a=ß", "--last-event-id", "7→", "-d", "õ"]
        done = run(f"{server.url}ñ", *options, env={**ENVIRONMENT, **locale})
        (request,) = server.requests
    assert (done.returncode, done.stdout, done.stderr) == (0, "é: x\n", "")
    assert request.path == "/%C3%B1"
    assert request.headers["Authorization"] == f"Basic {base64.b64encode('ö:ä'.encode()).decode()}"
    assert request.headers["Cookie"].encode("latin-1").decode() == "a=ß"
    assert (request.last_event_id, request.body.decode()) == ("7→", "õ")


# -- colors: NO_COLOR is set in ENVIRONMENT

COLORFUL = {**ENVIRONMENT, "NO_COLOR": "", "TERM": "xterm"}
IN_COLOR = "\x1b[36mnews\x1b[m \x1b[33m#7\x1b[m:\n    first\n    second ☃\n"
PLAIN = "news #7:\n    first\n    second ☃\n"


@on_posix
@pytest.mark.parametrize(
    ("options", "environment", "shown"),
    [
        ([], COLORFUL, IN_COLOR),
        (["--color", "auto"], COLORFUL, IN_COLOR),
        (["--color", "never"], COLORFUL, PLAIN),
        ([], {**COLORFUL, "NO_COLOR": "1"}, PLAIN),
        ([], {**COLORFUL, "TERM": "dumb"}, PLAIN),
        (["--color", "always"], {**COLORFUL, "NO_COLOR": "1", "TERM": "dumb"}, IN_COLOR),
    ],
    ids=["default", "auto", "never", "NO_COLOR", "dumb terminal", "always"],
)
def test_colors_on_a_terminal(options: list[str], environment: dict[str, str], shown: str) -> None:
    with SSEServer(stream(EVENT)) as server:
        assert read_terminal(server.url, *options, environment=environment) == shown


@pytest.mark.parametrize(("option", "printed"), [("auto", PLAIN), ("never", PLAIN), ("always", IN_COLOR)])
def test_colors_in_a_pipe(option: str, printed: str) -> None:
    with SSEServer(stream(EVENT)) as server:
        assert run(server.url, "--no-reconnect", "--color", option, env=COLORFUL).stdout == printed


def test_colors_of_every_form_of_event() -> None:
    events = [SSEEvent("x"), SSEEvent("x", "\x1b[2J"), SSEEvent("x", id="1"), SSEEvent("x\ny")]
    with SSEServer(*[stream(events)] * 2) as server:
        done = run(server.url, "--no-reconnect", "--color", "always")
        as_json = run(server.url, "--no-reconnect", "--color", "always", "--json")
    assert done.stdout == ("x\n\x1b[36m\x1b[2J\x1b[m: x\n\x1b[33m#1\x1b[m: x\n\x1b[36mmessage\x1b[m:\n    x\n    y\n")
    assert [json.loads(line)["id"] for line in as_json.stdout.splitlines()] == [None, None, "1", None]


@on_posix
def test_colors_and_control_characters_of_the_server() -> None:
    with SSEServer(stream(SSEEvent("\x1b[31m", "\x1b[2J", "\x1b"))) as server:
        shown = read_terminal(server.url, environment=COLORFUL)
    assert shown == "\x1b[36m\\u001b[2J\x1b[m \x1b[33m#\\u001b\x1b[m: \\u001b[31m\n"


# -- timestamps

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"


@pytest.mark.parametrize(("zone", "offset"), [("UTC", "+00:00"), ("XXX-5:45", "+05:45"), ("YYY+3", "-03:00")])
def test_timestamps_have_the_local_offset(zone: str, offset: str) -> None:
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    with SSEServer(*[stream(EVENT, "data: x\n\n")] * 2) as server:
        options = ["--timestamps", "--no-reconnect"]
        text = run(server.url, *options, env={**ENVIRONMENT, "TZ": zone})
        as_json = run(server.url, *options, "--json", env={**ENVIRONMENT, "TZ": zone})
    match = re.fullmatch(f"({TIME}) news #7:\n    first\n    second ☃\n({TIME}) x\n", text.stdout)
    assert match is not None
    events = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert list(events[0]) == ["data", "event", "id", "retry", "last_event_id", "time"]
    times = [*match.groups(), *(event["time"] for event in events)]
    for time in times:
        assert re.fullmatch(TIME, time)
        assert time.endswith(offset)
    instants = [datetime.fromisoformat(time) for time in times]
    assert before < instants[0]
    assert instants == sorted(instants)


@pytest.mark.parametrize("options", [[], ["-v"], ["-vv"]])
def test_timestamps_of_messages(options: list[str]) -> None:
    with SSEServer(stream("data: x\n\n", CUT), status(404)) as server:
        done = run(server.url, "--timestamps", "--stats", "--retry-delay", "10", *options)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) >= 3
    for line in lines:
        assert re.match(f"sseclient-dual: {TIME} ", line)
    assert lines[-2].endswith("status 404 Not Found, not 200; check the URL")


# -- standard error


def test_standard_error_gets_no_control_characters() -> None:
    with SSEServer(stream(": \x1b[2J\n\ndata: x\n\n", CUT), status(418, reason="I \x1b[31m")) as server:
        done = run(server.url, "-v", "--retry-delay", "10")
    assert "comment: \\u001b[2J" in done.stderr
    assert "418 I \\u001b[31m" in done.stderr
    assert "\x1b" not in done.stderr
