"""Call `main()` in this process, and check the exit status and output for every option and every way to end."""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import sys
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEEvent, __version__, cli
from sseclient_dual.cli import demo
from sseclient_dual.testing import CUT, HANG, Reply, SSEServer, status, stream
from support.command import EVENT, SIGPIPE_STATUS, summary_of

if TYPE_CHECKING:
    from pathlib import Path


def test_main_prints_text(capsys: pytest.CaptureFixture[str]) -> None:
    with SSEServer(stream(": c\n\n", EVENT, "data: y\n\n", CUT)) as server:
        assert cli.main([server.url, "-v", "--retry-delay", "10", "-H", "X-Test: 1", "-X", "get"]) == 0
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


def test_main_prints_raw_bytes(capfdbinary: pytest.CaptureFixture[bytes], sse_server: SSEServer) -> None:
    bodies = [
        b"\xef\xbb\xbf: \x1b \xff comment\r\n\r\nid: 1\rdata: x\r\rdata: hal",
        b"id: 1\ndata: x\n\nunknown: field\n\n",
        b"\n" * 3,
    ]
    sse_server.add(stream(bodies[0], CUT), stream(bodies[1], encoding="gzip"), stream(bodies[2]))
    assert cli.main([sse_server.url, "--raw", "-v", "--stats", "--retry-delay", "10"]) == 0
    output = capfdbinary.readouterr()
    assert output.out == b"".join(bodies)
    assert [request.last_event_id for request in sse_server.requests] == [None, "1", "1", "1"]
    assert summary_of(output.err.decode().splitlines()[-1]) == ("1", "3", "1")


def test_main_prints_only_the_selected_event_types(
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
    assert saved.read_text() == "5\n"  # filtered events count as received


def test_main_ignores_malformed_lines_only_if_not_strict(
    capsys: pytest.CaptureFixture[str], sse_server: SSEServer
) -> None:
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


def test_main_reports_a_closed_standard_input(
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
    ids=["no file", "empty file", "id in file", "other id given", "empty id given", "invalid file"],
)
def test_main_resumes_from_a_file(
    content: str | None, options: list[str], first: str | None, last: str, tmp_path: Path, sse_server: SSEServer
) -> None:
    saved = tmp_path / "last.id"
    if content is not None:
        saved.write_text(content, encoding="utf-8")
    seen: list[str] = []

    def read_saved() -> str:
        seen.append(saved.read_text(encoding="utf-8"))
        return "id: 8\ndata: x\n\n"

    sse_server.add(stream(read_saved))
    assert cli.main([sse_server.url, "--save-id", str(saved), "--no-reconnect", *options]) == 0
    assert sse_server.requests[0].last_event_id == first
    assert seen == [f"{first or ''}\n"]
    assert saved.read_text(encoding="utf-8") == f"{last}\n"


def test_main_saves_ids_unchanged_even_an_empty_one(tmp_path: Path, sse_server: SSEServer) -> None:
    saved = tmp_path / "last.id"
    sse_server.add(stream("id: … é\ndata: x\n\n"), stream("id\ndata: x\n\n"))
    for content in ("… é\n", "\n"):
        assert cli.main([sse_server.url, "--save-id", str(saved), "--no-reconnect"]) == 0
        assert saved.read_text(encoding="utf-8") == content
    assert [request.last_event_id for request in sse_server.requests] == [None, "… é"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "argument --save-id: not an event ID, which is one line of UTF-8 without NUL"),
        (b"a\nb\n", "argument --save-id: not an event ID, which is one line of UTF-8 without NUL"),
    ],
)
def test_main_does_not_overwrite_a_file_without_an_id(
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

    def remove_folder() -> str:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        return ""

    sse_server.add(stream(remove_folder, "id: 1\ndata: x\n\nid: 2\ndata: y\n\n", HANG))
    assert cli.main([sse_server.url, "--save-id", str(folder / "id")]) == 1
    output = capsys.readouterr()
    assert output.out == "#1: x\n"
    assert output.err == "sseclient-dual: stopped: could not save the event ID: No such file or directory\n"


@pytest.mark.parametrize(
    ("script", "options", "code", "summary"),
    [
        ([stream("data: x\n\n")], [], 0, ("1", "1", "none")),
        ([stream("id: \x1b\ndata: x\n\n" * 3, HANG)], ["--max-events", "2"], 0, ("2", "0", "\\u001b")),
        ([stream("id: 1\ndata: x\n\n"), status(404)], [], 1, ("1", "1", "1")),
        ([status(204)], ["--last-event-id", "7"], 0, ("0", "0", "7")),
    ],
    ids=["204", "maximum reached", "error", "no events"],
)
def test_main_prints_statistics_at_the_end(
    script: list[Reply],
    options: list[str],
    code: int,
    summary: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    sse_server: SSEServer,
) -> None:
    sse_server.add(*script)
    assert cli.main([sse_server.url, "--stats", "--retry-delay", "10", *options]) == code
    lines = capsys.readouterr().err.splitlines()
    assert summary_of(lines[-1]) == summary
    assert len(lines) == 1 + code


def test_main_escapes_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with SSEServer(stream("data: \x1b\n\n")) as server:
        assert cli.main([server.url, "--no-reconnect"]) == 0
    assert capsys.readouterr().out == "\\u001b\n"


def test_main_prints_to_a_replaced_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    replacement = io.StringIO()
    monkeypatch.setattr(sys, "stdout", replacement)
    with SSEServer(stream(EVENT)) as server:
        assert cli.main([server.url, "-v", "--no-reconnect"]) == 0
    assert replacement.getvalue().startswith("news #7")


def test_main_prints_errors_and_restores_logging(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("sseclient_dual")
    before = logger.level, logger.propagate, list(logger.handlers)
    with SSEServer(status(503), status(404)) as server:
        assert cli.main([server.url, "--retry-delay", "10"]) == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("sseclient-dual: ")
    assert "503" in warning
    assert error.startswith("sseclient-dual: ")
    assert "404" in error
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_main_uses_sys_argv_by_default(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["anything", "--version"])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert ending.value.code == 0
    assert capsys.readouterr().out == f"sseclient-dual {__version__}\n"


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (None, 0, ""),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), SIGPIPE_STATUS, ""),
        (OSError(28, "No space left on device"), 1, "sseclient-dual: stopped: No space left on device\n"),
    ],
)
def test_main_returns_the_exit_status_of_the_demo(
    error: BaseException | None,
    code: int,
    printed: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_demo() -> int:
        if error is not None:
            raise error
        return 0

    monkeypatch.setattr(demo, "run", run_demo)
    assert cli.main(["--demo"]) == code
    assert capsys.readouterr() == ("", printed)


def test_main_without_standard_output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["http://127.0.0.1/"]) == 1
    assert capsys.readouterr() == ("", "sseclient-dual: stopped: standard output is closed\n")
    with pytest.raises(SystemExit) as ending:
        cli.main(["--version"])
    assert ending.value.code == 0


def test_main_without_standard_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with SSEServer(stream("data: x\n\n")) as server:
        assert cli.main([server.url, "-v", "--no-reconnect"]) == 0
    assert capsys.readouterr() == ("x\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may report a closed pipe only at the next write")
def test_main_ends_when_an_idle_output_pipe_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()

    def stop_reading() -> str:
        assert os.read(reader, 10) == b"x\n"
        os.close(reader)
        return ""

    with SSEServer(stream("data: x\n\n", stop_reading, HANG)) as server, os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert cli.main([server.url]) == SIGPIPE_STATUS
        stdout.write("unread text: closing the file does not fail")


def test_main_prints_the_help_to_a_closed_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
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
