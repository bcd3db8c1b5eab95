"""The command line, as a process of its own: what it prints and where, its exit status, and what it asks servers for.

The tests at the end call `main` in this process, for what needs no other.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import sysconfig
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEEvent, __version__, cli, demo
from sseclient_dual.testing import CUT, HANG, Gate, ReceivedRequest, Reply, SSEServer, redirect, status, stream
from support.processes import line_of, piped, program
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

LIMIT = 60.0  # seconds for what should take a moment
COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "sseclient_dual"]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "PYTHONIOENCODING": "utf-8",
    "NO_COLOR": "1",
}
EVENT = SSEEvent("first\nsecond ☃", event="news", id="7", retry=100)
SIGPIPE_STATUS = 141

on_posix = pytest.mark.skipif(os.name != "posix", reason="needs signals, and descriptors to pass on")


def run(*arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    defaults = {"env": ENVIRONMENT, "capture_output": True, "encoding": "utf-8", "timeout": LIMIT}
    return subprocess.run([*COMMAND, *arguments], check=False, **{**defaults, **options})


def started(*arguments: str, **options: Any) -> AbstractContextManager[subprocess.Popen[str]]:
    """Start the command, and end it if the test leaves it running."""
    return piped([*COMMAND, *arguments], env=ENVIRONMENT, **options)


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; return the exit status, and the rest of standard error."""
    code = process.wait(LIMIT)
    assert process.stderr is not None
    return code, process.stderr.read()


def assert_one_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("sseclient-dual: ")
    for word in words:
        assert word in line


# --- what is printed ----------------------------------------------------------------------------------------


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
    first, second = done.stdout.splitlines()  # which splits at U+2028 and U+0085, too
    assert json.loads(first) == {**dict(EVENT), "last_event_id": "7"}
    assert json.loads(second) == {"data": tricky, "event": None, "id": None, "retry": None, "last_event_id": "7"}
    assert "second ☃" in first
    assert not done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("options", [[], ["--json"], ["--raw"]])
def test_each_event_is_printed_as_it_comes(options: list[str]) -> None:
    gate = Gate()
    with (
        SSEServer(stream("data: 1\n\n", gate, "data: 2\n\n")) as server,
        started(server.url, "--no-reconnect", *options) as process,
    ):
        assert "1" in line_of(process.stdout)
        gate.open()
        assert "2" in (line_of(process.stdout).strip() or line_of(process.stdout))
        assert end_of(process) == (0, "")


def test_text_takes_the_encoding_of_the_output_and_json_is_utf_8() -> None:
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    with SSEServer(stream(EVENT), stream(EVENT)) as server:
        text = run(server.url, "--no-reconnect", env=environment)
        lines = run(server.url, "--no-reconnect", "--json", env=environment)
    assert "second \\u2603" in text.stdout
    assert "second ☃" in lines.stdout
    assert (text.returncode, lines.returncode, text.stderr, lines.stderr) == (0, 0, "", "")


def read_terminal(url: str, *options: str) -> str:
    """Run the command on a terminal, and return what that is told."""
    import pty  # noqa: PLC0415 - not on Windows

    terminal, its_other_end = pty.openpty()
    with (
        os.fdopen(terminal, "rb", buffering=0) as reader,
        started(url, "--no-reconnect", *options, stdout=its_other_end) as process,
    ):
        os.close(its_other_end)
        shown = b""
        with suppress(OSError):  # how Linux tells that nobody holds the other end any more
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


def test_standard_error_gets_none_either() -> None:
    with SSEServer(stream(": \x1b[2J\n\ndata: x\n\n", CUT), status(418, reason="I \x1b[31m")) as server:
        done = run(server.url, "-v", "--retry-delay", "1")
    assert "comment: \\u001b[2J" in done.stderr
    assert "418 I \\u001b[31m" in done.stderr
    assert "\x1b" not in done.stderr


# --- options ------------------------------------------------------------------------------------------------


def test_without_options_it_gets_the_stream(sse_server: SSEServer) -> None:
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
def test_data_is_posted_unless_another_method_is_asked_for(
    options: list[str], method: str, sse_server: SSEServer
) -> None:
    assert run(sse_server.url, *options).returncode == 0
    (request,) = sse_server.requests
    assert request.method == method
    assert request.body == options[1].encode()
    assert "content-type" not in request.headers


@on_posix
def test_data_and_headers_go_out_as_the_bytes_they_are(sse_server: SSEServer) -> None:
    assert run(sse_server.url, "-d", b"\xff\xfe", "-H", b"X-Raw: \xe9").returncode == 0
    (request,) = sse_server.requests
    assert request.body == b"\xff\xfe"
    assert request.headers["X-Raw"] == "\xe9"


def test_the_last_event_id() -> None:
    with SSEServer(stream("data: x\n\n", CUT), stream("id: 8\ndata: y\n\n", CUT)) as server:
        assert run(server.url, "--last-event-id", "7 ☃", "--retry-delay", "1").returncode == 0
        assert [request.last_event_id for request in server.requests] == ["7 ☃", "7 ☃", "8"]


def test_reconnecting_or_not() -> None:
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


def test_the_timeout() -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server:
        assert_one_error(run(server.url, "--no-reconnect", "--timeout", "0.5"), "nothing came for 0.5 s")


def test_the_greatest_number_of_events() -> None:
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
        done = run(f"{server.url}?token=secret", "-v", "--retry-delay", "1")
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


def test_verbose_without_a_204() -> None:
    with SSEServer(stream("data: x\n\n")) as server:
        done = run(server.url, "-v", "--no-reconnect")
    assert done.stderr.splitlines()[-1] == "sseclient-dual: ended by the server"


@pytest.mark.parametrize("options", [["-vv"], ["-v", "--verbose", "-v"]])
def test_very_verbose(options: list[str]) -> None:
    with SSEServer(stream("id: 1\ndata: x\n\n", CUT), stream("id: 1\ndata: x\n\n")) as server:
        done = run(f"{server.url}?token=secret", "--retry-delay", "1", *options)
    assert done.stdout == "#1: x\n"
    assert "sseclient-dual: duplicate of an event skipped\n" in done.stderr
    assert f"sseclient-dual: connected to {server.origin}/, status 200\n" in done.stderr
    assert {line.partition(" ")[0] for line in done.stderr.splitlines()} == {"sseclient-dual:"}
    assert "secret" not in done.stderr


def test_the_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sseclient-dual {__version__}\n", "")


def test_the_help() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert not done.stderr
    for option in ("-X METHOD", "-H 'NAME: VALUE'", "-d DATA", "--last-event-id ID", "--timeout SECONDS", "--json"):
        assert option in done.stdout
    for option in ("--save-id FILE", "--strict", "--no-strict", "--event TYPE", "--raw", "--stats"):
        assert option in done.stdout
    for option in ("--no-reconnect", "--retry-delay MS", "--max-events N", "-v", "--demo", "--version"):
        assert option in done.stdout


@pytest.mark.parametrize("data", ["-", "@-"])
def test_the_body_from_standard_input_is_sent_with_every_attempt(data: str, sse_server: SSEServer) -> None:
    sse_server.add(status(503))
    assert run(sse_server.url, "-d", data, "--retry-delay", "1", input="several\nlines ☃\n").returncode == 0
    for request in sse_server.requests:
        assert (request.method, request.body) == ("POST", "several\nlines ☃\n".encode())
    assert len(sse_server.requests) == 2


def summary_of(line: str) -> tuple[str, ...]:
    """Return the events, reconnects and last id that a line of --stats tells."""
    match = re.fullmatch(
        r"sseclient-dual: events (\d+) in \d+\.\d s \(\d+\.\d/s\), reconnects (\d+), last id (.*)\n?", line
    )
    assert match is not None, line
    return match.groups()


@on_posix
@pytest.mark.usefixtures("interruptible")
def test_stats_after_ctrl_c(sse_server: SSEServer) -> None:
    sse_server.add(stream("id: 1\ndata: x\n\n", CUT), stream("id: ☃\ndata: y\n\n: done\n\n", HANG))
    with started(sse_server.url, "--stats", "-v", "--retry-delay", "1") as process:
        assert line_of(process.stdout) == "#1: x\n"
        assert line_of(process.stdout) == "#☃: y\n"
        while "comment: done" not in (line := line_of(process.stderr)):  # said when the event has been counted
            assert line
        process.send_signal(signal.SIGINT)
        code, told = end_of(process)
    assert code == 130
    assert summary_of(told.splitlines()[-1]) == ("2", "1", "☃")


# --- resuming from a file -----------------------------------------------------------------------------------

LAST = 400


def rest_of_the_stream(request: ReceivedRequest) -> Reply:
    """Answer with the events 1 to LAST, or those after the one that the request names."""
    after = int(request.last_event_id or 0)
    return stream(SSEEvent(str(number), id=f"{number}") for number in range(after + 1, LAST + 1))


@on_posix
def test_killed_at_any_moment_and_started_again_it_has_lost_nothing(tmp_path: Path) -> None:
    saved = tmp_path / "last.id"
    printed: list[int] = []
    with SSEServer(*[rest_of_the_stream] * 5) as server:
        for take in (1, 150, 20):
            with started(server.url, "--save-id", str(saved), "--no-reconnect") as process:
                for _ in range(take):
                    line_of(process.stdout)
                process.kill()
                assert process.stdout is not None
                rest = process.stdout.read()
            in_file = int(saved.read_text().strip() or 0)
            received = server.requests[-1].last_event_id
            printed += range(int(received or 0) + 1, int(received or 0) + take + 1)
            printed += [int(line[1 : line.index(":")]) for line in rest.splitlines()]
            assert in_file in {printed[-1], printed[-1] - 1}  # at most the event just printed comes again
        done = run(server.url, "--save-id", str(saved), "--no-reconnect")
    assert (done.returncode, done.stderr) == (0, "")
    printed += [int(line[1 : line.index(":")]) for line in done.stdout.splitlines()]
    assert sorted(set(printed)) == list(range(1, LAST + 1))
    assert saved.read_text() == f"{LAST}\n"


def test_an_event_that_nobody_took_is_not_saved(tmp_path: Path) -> None:
    saved = tmp_path / "last.id"
    gate = Gate()
    script = stream("id: 1\ndata: x\n\n", gate, "id: 2\ndata: x\n\n", HANG)
    with SSEServer(script) as server, started(server.url, "--save-id", str(saved)) as process:
        assert line_of(process.stdout) == "#1: x\n"
        wait_until(lambda: saved.read_text() == "1\n", "the id in the file")
        close(process.stdout)
        gate.open()
        assert end_of(process) == (SIGPIPE_STATUS, "")
    assert saved.read_text() == "1\n"


# --- the examples of the documentation ----------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "cli.rst"
PRICES = [
    SSEEvent('{"symbol": "ACME", "price": 10}', "price", "1"),
    SSEEvent("the market is closed at noon", None, "2"),
    SSEEvent('{"symbol": "ACME", "price": 12}', "price", "3"),
]


def example_com(request: ReceivedRequest) -> Reply:
    if request.path == "/prices":
        rest = PRICES[int(request.last_event_id or 0) :]
        return stream("retry: 100\n\n", *rest) if rest else status(204)
    if request.path == "/chat" and request.json() == {"question": "why?"}:
        return stream("data: because\n\n")
    return status(404)


def sessions_of(page: Path) -> list[str]:
    """Return the sessions with a shell on a page: commands after $, and what they print."""
    blocks = re.findall(r"\.\. code-block:: console\n\n((?:   .*\n|\n)+)", page.read_text(encoding="utf-8"))
    return [textwrap.dedent(block).rstrip("\n") + "\n" for block in blocks]


@on_posix
@pytest.mark.parametrize("session", sessions_of(PAGE))
def test_an_example_of_the_documentation(session: str, tmp_path: Path) -> None:
    if "| jq" in session:
        program("jq", "jq")
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    shown = ""
    with SSEServer(default=example_com) as server:
        for command in re.findall(r"^\$ (.*)\n", session, re.MULTILINE):
            done = subprocess.run(
                ["sh", "-c", command.replace("https://example.com", server.origin)],
                env={**ENVIRONMENT, "PATH": path},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                timeout=LIMIT,
                check=False,
            )
            shown += f"$ {command}\n" + done.stdout.replace(server.origin, "https://example.com")
    times = re.compile(r"in \d+\.\d s \(\d+\.\d/s\)")
    assert times.sub("in time", shown) == times.sub("in time", session)


def test_the_documentation_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    options = re.findall(r"(?<![\w-])--[a-z][a-z-]+", capsys.readouterr().out)
    assert len(options) > 10
    text = PAGE.read_text(encoding="utf-8")
    assert len(sessions_of(PAGE)) > 6
    for option in options:
        assert f"``{option}" in text, option


# --- errors -------------------------------------------------------------------------------------------------


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


def assert_no_credentials(output: str) -> None:
    for secret in ("alice", "hunter2", "YWxpY2U6"):
        assert secret not in output


# --- signals and pipes --------------------------------------------------------------------------------------


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Have children take SIGINT as they do on a terminal, though this process may be in the background."""
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, was)


@on_posix
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    "script",
    [
        pytest.param([stream("data: x\n\n", HANG)], id="in the stream"),
        pytest.param([stream("data: x\n\n"), stream(HANG, head_with_body=True)], id="before a head"),
        pytest.param([stream("retry: 60000\ndata: x\n\n")], id="while waiting to reconnect"),
    ],
)
def test_ctrl_c(script: list[Reply]) -> None:
    with SSEServer(*script) as server:
        with started(server.url, "--retry-delay", "1") as process:
            assert line_of(process.stdout) == "x\n"
            server.wait_for_requests(len(script))
            process.send_signal(signal.SIGINT)
            assert end_of(process) == (130, "")
        server.wait_for_connections(0)


@on_posix
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("options", "first"), [([], "x"), (["--raw"], "d")])
def test_ctrl_c_while_nobody_reads_what_is_being_printed(options: list[str], first: str) -> None:
    with SSEServer(stream(SSEEvent("x" * 1_000_000), HANG)) as server, started(server.url, *options) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == first
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (130, "")


@on_posix
def test_sigterm_is_left_alone() -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server, started(server.url) as process:
        assert line_of(process.stdout) == "x\n"
        process.terminate()
        assert end_of(process) == (-signal.SIGTERM, "")


def close(output: IO[str] | None) -> None:
    assert output is not None
    output.close()


@pytest.mark.parametrize("options", [[], ["--json"], ["--raw"]])
def test_a_closed_pipe_is_noticed_when_there_is_something_to_print(options: list[str]) -> None:
    gate = Gate()
    script = stream("data: x\n\n", gate, "data: x\n\n" * 100, HANG)
    with SSEServer(script) as server, started(server.url, *options) as process:
        line_of(process.stdout)
        close(process.stdout)
        gate.open()
        assert end_of(process) == (SIGPIPE_STATUS, "")


def test_a_closed_pipe_that_took_standard_error_as_well() -> None:
    gate = Gate()
    script = stream(gate, ": c\n\n" * 100, "data: x\n\n", HANG)
    with SSEServer(script) as server, started(server.url, "-v", stderr=subprocess.STDOUT) as process:
        assert "connected" in line_of(process.stdout)
        close(process.stdout)
        gate.open()
        assert process.wait(LIMIT) == SIGPIPE_STATUS


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need not tell before a write")
def test_a_closed_pipe_is_noticed_when_there_is_nothing_to_print() -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server, started(server.url) as process:
        assert line_of(process.stdout) == "x\n"
        close(process.stdout)
        assert end_of(process) == (SIGPIPE_STATUS, "")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("options", [[], ["--raw"]])
def test_an_output_that_takes_nothing(options: list[str]) -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server, Path("/dev/full").open("w") as full:
        done = run(server.url, *options, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert_one_error(done, "No space left on device")


@on_posix
@pytest.mark.parametrize(("redirection", "code"), [(">&-", 1), ("2>&-", 0)])
def test_a_standard_stream_that_was_never_open(redirection: str, code: int) -> None:
    with SSEServer(stream(": c\n\n", "data: x\n\n")) as server:
        shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, server.url, "-v", "--retry-delay", "1"]
        done = subprocess.run(
            shell, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=LIMIT, check=False
        )
    if code:
        assert_one_error(done, "standard output is closed")
    else:
        assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")


# --- in this process ----------------------------------------------------------------------------------------


def test_main_prints_text(capsys: pytest.CaptureFixture[str]) -> None:
    with SSEServer(stream(": c\n\n", EVENT, "data: y\n\n", CUT)) as server:
        assert cli.main([server.url, "-v", "--retry-delay", "1", "-H", "X-Test: 1", "-X", "get"]) == 0
        assert server.requests[0].headers["X-Test"] == "1"
    output = capsys.readouterr()
    assert output.out == "news #7:\n    first\n    second ☃\ny\n"
    assert [line.split()[1] for line in output.err.splitlines()] == [
        "connected",
        "comment:",
        f"{server.origin}:",
        "ended",
    ]


def test_main_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    with SSEServer(stream(EVENT, EVENT, EVENT)) as server:
        assert cli.main([server.url, "--json", "--max-events", "2", "-d", "x"]) == 0
        assert server.requests[0].method == "POST"
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{**dict(EVENT), "last_event_id": "7"}] * 2


def test_main_prints_what_came_as_it_came(capfdbinary: pytest.CaptureFixture[bytes], sse_server: SSEServer) -> None:
    bodies = [
        b"\xef\xbb\xbf: \x1b \xff comment\r\n\r\nid: 1\rdata: x\r\rdata: hal",
        b"id: 1\ndata: x\n\nunknown: field\n\n",
        b"\n" * 3,
    ]
    sse_server.add(stream(bodies[0], CUT), stream(bodies[1], encoding="gzip"), stream(bodies[2]))
    assert cli.main([sse_server.url, "--raw", "-v", "--stats", "--retry-delay", "1"]) == 0
    output = capfdbinary.readouterr()
    assert output.out == b"".join(bodies)
    assert [request.last_event_id for request in sse_server.requests] == [None, "1", "1", "1"]
    assert summary_of(output.err.decode().splitlines()[-1]) == ("1", "3", "1")


def test_main_prints_only_events_of_some_types(
    capsys: pytest.CaptureFixture[str], sse_server: SSEServer, tmp_path: Path
) -> None:
    saved = tmp_path / "id"
    types = ["a", None, "b", "a", "c", "a"]
    sse_server.add(stream(SSEEvent("x", kind, str(number)) for number, kind in enumerate(types)))
    wanted = ["--event", "a", "--event", "message", "--max-events", "3"]
    assert cli.main([sse_server.url, *wanted, "--save-id", str(saved)]) == 0
    assert capsys.readouterr().out == "a #0: x\n#1: x\na #3: x\n"
    assert saved.read_text() == "3\n"
    sse_server.add(stream(SSEEvent("x", kind, str(number)) for number, kind in enumerate(types)))
    assert cli.main([sse_server.url, "--event", "b", "--save-id", str(saved), "--no-reconnect"]) == 0
    assert capsys.readouterr().out == "b #2: x\n"
    assert saved.read_text() == "5\n"  # what is left out needs no resuming


def test_main_takes_no_offence_unless_it_is_to(capsys: pytest.CaptureFixture[str], sse_server: SSEServer) -> None:
    sse_server.add(*[stream("<html>\n", "data: x\n\n")] * 2)
    assert cli.main([sse_server.url, "--no-strict", "--no-reconnect"]) == 0
    assert cli.main([sse_server.url, "--strict", "--no-reconnect"]) == 1
    output = capsys.readouterr()
    assert output.out == "x\n"
    assert "event-stream format" in output.err


def test_main_sends_a_file(tmp_path: Path, sse_server: SSEServer) -> None:
    content = bytes(range(256)) + b"\r\n"
    (tmp_path / "body").write_bytes(content)
    assert cli.main([sse_server.url, "-d", f"@{tmp_path / 'body'}"]) == 0
    assert sse_server.requests[0].body == content


def test_main_has_no_body_where_there_is_no_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit):
        cli.main(["http://a/", "-d", "-"])
    assert capsys.readouterr().err.endswith("error: argument -d/--data: standard input is closed\n")


@pytest.mark.parametrize(
    ("content", "options", "first", "last"),
    [
        (None, [], None, "8"),
        ("", [], None, "8"),
        ("7 ☃\n", [], "7 ☃", "8"),
        ("7\n", ["--last-event-id", "3"], "3", "8"),
        ("7\n", ["--last-event-id", ""], None, "8"),
        ("not\nan\nid", ["--last-event-id", "3"], "3", "8"),
    ],
    ids=["missing", "empty", "an id", "another id given", "no id given", "no id in it"],
)
def test_main_resumes_from_a_file(
    content: str | None, options: list[str], first: str | None, last: str, tmp_path: Path, sse_server: SSEServer
) -> None:
    saved = tmp_path / "last.id"
    if content is not None:
        saved.write_text(content, encoding="utf-8")
    seen: list[str] = []

    def look() -> str:
        seen.append(saved.read_text(encoding="utf-8"))
        return "id: 8\ndata: x\n\n"

    sse_server.add(stream(look))
    assert cli.main([sse_server.url, "--save-id", str(saved), "--no-reconnect", *options]) == 0
    assert sse_server.requests[0].last_event_id == first
    assert seen == [f"{first or ''}\n"]
    assert saved.read_text(encoding="utf-8") == f"{last}\n"


def test_main_saves_ids_as_they_are_and_that_there_is_none(tmp_path: Path, sse_server: SSEServer) -> None:
    saved = tmp_path / "last.id"
    sse_server.add(stream("id: … é\ndata: x\n\n"), stream("id\ndata: x\n\n"))
    for content in ("… é\n", "\n"):
        assert cli.main([sse_server.url, "--save-id", str(saved), "--no-reconnect"]) == 0
        assert saved.read_text(encoding="utf-8") == content
    assert [request.last_event_id for request in sse_server.requests] == [None, "… é"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "argument --save-id: the file is not UTF-8"),
        (b"a\nb\n", "argument --save-id: last_event_id must not hold a CR, LF or NUL"),
    ],
)
def test_main_leaves_a_file_alone_that_holds_no_id(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], sse_server: SSEServer
) -> None:
    file = tmp_path / "precious"
    file.write_bytes(content)
    with pytest.raises(SystemExit) as ending:
        cli.main([sse_server.url, "--save-id", str(file)])
    assert ending.value.code == 2
    assert f"sseclient-dual: error: {message}" in capsys.readouterr().err
    assert file.read_bytes() == content
    assert not sse_server.requests


def test_main_ends_when_the_id_can_no_longer_be_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sse_server: SSEServer
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def spoil() -> str:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        return ""

    sse_server.add(stream(spoil, "id: 1\ndata: x\n\nid: 2\ndata: y\n\n", HANG))
    assert cli.main([sse_server.url, "--save-id", str(folder / "id")]) == 1
    output = capsys.readouterr()
    assert output.out == "#1: x\n"
    assert output.err == "sseclient-dual: cannot go on: the id cannot be saved: No such file or directory\n"


@pytest.mark.parametrize(
    ("script", "options", "code", "summary"),
    [
        ([stream("data: x\n\n")], [], 0, ("1", "1", "none")),
        ([stream("id: \x1b\ndata: x\n\n" * 3, HANG)], ["--max-events", "2"], 0, ("2", "0", "\\u001b")),
        ([stream("id: 1\ndata: x\n\n"), status(404)], [], 1, ("1", "1", "1")),
        ([status(204)], ["--last-event-id", "7"], 0, ("0", "0", "7")),
    ],
    ids=["204", "enough", "error", "nothing"],
)
def test_main_sums_up_in_the_end(
    script: list[Reply],
    options: list[str],
    code: int,
    summary: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    sse_server: SSEServer,
) -> None:
    sse_server.add(*script)
    assert cli.main([sse_server.url, "--stats", "--retry-delay", "1", *options]) == code
    lines = capsys.readouterr().err.splitlines()
    assert summary_of(lines[-1]) == summary
    assert len(lines) == 1 + code


def test_main_escapes_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with SSEServer(stream("data: \x1b\n\n")) as server:
        assert cli.main([server.url, "--no-reconnect"]) == 0
    assert capsys.readouterr().out == "\\u001b\n"


def test_main_takes_a_stand_in_for_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stand_in)
    with SSEServer(stream(EVENT)) as server:
        assert cli.main([server.url, "-v", "--no-reconnect"]) == 0
    assert stand_in.getvalue().startswith("news #7")


def test_main_tells_an_error_and_leaves_logging_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("sseclient_dual")
    before = logger.level, logger.propagate, list(logger.handlers)
    with SSEServer(status(503), status(404)) as server:
        assert cli.main([server.url, "--retry-delay", "1"]) == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("sseclient-dual: ")
    assert "503" in warning
    assert error.startswith("sseclient-dual: ")
    assert "404" in error
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://a/", "--demo"], "give one URL, or --demo"),
        (["ftp://a/"], "argument URL: must begin with http:// or https://"),
        (["http://"], "url has no host"),
        (["http://a/", "-H", ": x"], "argument -H/--header: must look like 'Name: value'"),
        (["http://a/", "-H", "X: a\nb"], "headers hold a control character (such as CR or LF) in the value of 'X'"),
        (["http://a/", "-X", "A B"], "method is no HTTP method: 'A B'"),
        (["http://a/", "--timeout", "x"], "argument --timeout: must be a number"),
        (["http://a/", "--timeout", "-1"], "timeout must be at least 0 and finite, not -1.0"),
        (["http://a/", "--retry-delay", "nan"], "retry_delay must be at least 0 and finite, not nan"),
        (["http://a/", "--max-events", "0"], "argument --max-events: must be a whole number, at least 1"),
        (["http://a/", "--max-events", "1" * 5000], "argument --max-events: must be a whole number, at least 1"),
        (
            ["http://a/", "--last-event-id", "a\nb"],
            "last_event_id must not hold a CR, LF or NUL: no event stream can send such an id",
        ),
        (["http://a/", "-d", "@/dev/null/hunter2"], "argument -d/--data: Not a directory"),
        (["http://a/", "-d", "@/nowhere"], "argument -d/--data: No such file or directory"),
        (["http://a/", "--save-id", "/dev/null/id"], "argument --save-id: Not a directory"),
        (["http://a/", "--save-id", "/dev/null"], "argument --save-id: this is no regular file"),
        (["http://a/", "--save-id", "/"], "argument --save-id: this is no regular file"),
        (
            ["http://a/", "--save-id", "/nowhere/id"],
            "argument --save-id: the id cannot be saved: No such file or directory",
        ),
        (["http://a/", "--raw", "--json"], "argument --json: not allowed with argument --raw"),
        (
            ["http://a/", "--raw", "--event", "x"],
            "argument --event: not allowed with argument --raw, which prints all that comes",
        ),
        (["http://a/", "--header"], "argument -H/--header: expected one argument"),
        (["http://a/", "--retry", "1"], "unrecognized arguments: --retry"),
        (["http://a/", "-q", "--queue=x"], "unrecognized arguments: -q --queue"),
        (["http://a/", "http://b/"], "unrecognized arguments; are quotes missing?"),
    ],
)
def test_main_refuses_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        cli.main(arguments)
    assert ending.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"sseclient-dual: error: {message}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://alice:hunter2@["],
        ["alice:hunter2@host"],
        ["ftp://alice:hunter2@host/"],
        ["http://alice:hunter2@127.0.0.1:99999/"],
        ["http://a/", "http://alice:hunter2@host/"],
        ["http://a/", "-H", "Authorization:", "Bearer", "hunter2"],
        ["http://a/", "-H", "Authorization", "Bearer hunter2"],
        ["http://a/", "-H", "Authorization Bearer hunter2: x"],
        ["http://a/", "-H", "Authorization: Bearer hunter2\r"],
        ["http://a/", "--user=alice:hunter2"],
        ["http://a/", "-ualice:hunter2"],
        ["-u", "alice:hunter2", "http://a/"],
        ["--timeout", "http://alice:hunter2@host/"],
        ["--max-events", "http://alice:hunter2@host/"],
    ],
)
def test_main_shows_no_credentials_in_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        cli.main(arguments)
    assert ending.value.code == 2
    output = capsys.readouterr().err
    assert output.count("error:") == 1
    assert_no_credentials(output)


def test_main_takes_the_arguments_of_the_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["anything", "--version"])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert ending.value.code == 0
    assert capsys.readouterr().out == f"sseclient-dual {__version__}\n"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (None, 0, ""),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), SIGPIPE_STATUS, ""),
        (OSError(28, "No space left on device"), 1, "sseclient-dual: cannot go on: No space left on device\n"),
    ],
)
def test_main_plays_the_demo_and_says_by_its_status_how_that_ended(
    error: BaseException | None,
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_demo() -> int:
        if error is not None:
            raise error
        return 0

    monkeypatch.setattr(demo, "run", run_demo)
    assert cli.main(["--demo"]) == code
    assert capsys.readouterr() == ("", told)


def test_main_without_standard_output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["http://127.0.0.1/"]) == 1
    assert capsys.readouterr() == ("", "sseclient-dual: cannot go on: standard output is closed\n")
    with pytest.raises(SystemExit) as ending:
        cli.main(["--version"])
    assert ending.value.code == 0


def test_main_without_standard_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with SSEServer(stream("data: x\n\n")) as server:
        assert cli.main([server.url, "-v", "--no-reconnect"]) == 0
    assert capsys.readouterr() == ("x\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need not tell before a write")
def test_main_with_a_pipe_that_is_closed_while_there_is_nothing_to_print(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()

    def stop_reading() -> str:
        assert os.read(reader, 10) == b"x\n"
        os.close(reader)
        return ""

    with SSEServer(stream("data: x\n\n", stop_reading, HANG)) as server, os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert cli.main([server.url]) == SIGPIPE_STATUS
        stdout.write("nobody reads this, and closing does not fail")


def test_main_with_a_pipe_that_is_closed_before_the_help_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert cli.main(["--help"]) == SIGPIPE_STATUS


def test_the_module_runs_main(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", lambda: 42)
    with pytest.raises(SystemExit) as ending:
        importlib.import_module("sseclient_dual.__main__")
    assert ending.value.code == 42
