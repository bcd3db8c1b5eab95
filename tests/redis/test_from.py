"""The command's ``--from``: the events of a feed in Redis."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import cli
from sseclient_dual.redis.entries import Kind
from support.command import SIGPIPE_STATUS, end_of, on_posix, run, started, summary_of
from support.redis_streams import StreamWriter

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from support.redis_servers import RedisServer


@pytest.fixture
def writer(raw: redis.Redis, stream: str) -> StreamWriter:
    """Return a writer of the test's own stream."""
    return StreamWriter(raw, stream)


def test_events_are_printed_until_the_end(server: RedisServer, stream: str, writer: StreamWriter) -> None:
    *_, last = writer.add(1, 2, 3)
    writer.add_mark(Kind.END)
    done = run("--from", server.url, "--stream", stream, "--last-event-id", "0-0/", "--stats", "-v")
    assert (done.returncode, done.stdout) == (0, "#1: 1\n#2: 2\n#3: 3\n")
    ending, stats = done.stderr.splitlines()
    assert ending == "sseclient-dual: ended by the upstream"
    assert summary_of(stats) == ("3", "0", last)


def test_the_forms_of_output(server: RedisServer, stream: str, writer: StreamWriter) -> None:
    writer.write([b"data", b"a", b"event", b"other"])
    (second,) = writer.add(2)
    writer.add_mark(Kind.END)
    command = ["--from", server.url, "--stream", stream, "--last-event-id", "0-0/"]
    (line,) = run(*command, "--json", "--event", "message").stdout.splitlines()
    assert json.loads(line) == {"data": "2", "event": None, "id": "2", "retry": None, "last_event_id": second}
    raw = run(*command, "--raw", "--max-events", "2").stdout
    assert raw.endswith(f"data: a\n\nid: {second}\ndata: 2\n\n")
    assert run(*command, "--max-events", "1").stdout == "other: a\n"


def test_the_position_is_saved(server: RedisServer, stream: str, writer: StreamWriter, tmp_path: Path) -> None:
    file = tmp_path / "last.id"
    file.write_text("0-0/\n", encoding="utf-8")
    ids = writer.add(1, 2, 3)
    command = ["--from", server.url, "--stream", stream, "--save-id", str(file), "--max-events"]
    assert run(*command, "2").stdout == "#1: 1\n#2: 2\n"
    assert file.read_text(encoding="utf-8") == f"{ids[1]}\n"
    assert run(*command, "1").stdout == "#3: 3\n"


def test_a_gap_is_reported(server: RedisServer, stream: str, writer: StreamWriter) -> None:
    writer.add(1)
    done = run("--from", server.url, "--stream", stream, "--last-event-id", "unknown", "--max-events", "1")
    assert (done.returncode, done.stdout) == (0, "#1: 1\n")
    assert "misses events" in done.stderr


@on_posix
def test_the_end_of_the_reader_ends_the_command(server: RedisServer, stream: str) -> None:
    with started("--from", server.url, "--stream", stream) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert end_of(process) == (SIGPIPE_STATUS, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "redis://localhost"], "argument --from: needs --stream"),
        (["--stream", "prices", "http://localhost"], "argument --stream: needs --from or --to"),
        (["--from", "http://localhost", "--stream", "x"], "argument --from or --stream: redis must be a URL such as"),
        (["--from", "redis://localhost", "--stream", "{"], "argument --from or --stream: the name of a stream must"),
        (["--from", "redis://localhost", "--stream", "x", "-X", "PUT"], "not allowed with -X/--request"),
        (["--from", "redis://localhost", "--stream", "x", "--dedup", "off"], "not allowed with --dedup"),
        (["--from", "redis://localhost", "--stream", "x", "http://localhost"], "not allowed with a URL to request"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert message in capsys.readouterr().err


def test_a_missing_redis_py_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sseclient_dual.redis", None)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["--from", "redis://localhost", "--stream", "x"])
    assert "argument --from or --stream: " in capsys.readouterr().err
