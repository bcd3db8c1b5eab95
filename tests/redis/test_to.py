"""The command's ``--to``: store the events of a stream as a feed in Redis."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import cli
from sseclient_dual.redis.entries import keys_of
from sseclient_dual.testing import CUT, SSEServer, status
from support.command import end_of, on_posix, run, started
from support.ingests import StreamInRedis
from support.journals import Journal
from support.streams import ONE, TWO

if TYPE_CHECKING:
    from support.redis_servers import RedisServer


def test_events_are_stored_until_the_end(server: RedisServer, raw: Any, stream: str) -> None:
    with SSEServer() as upstream:
        upstream.stream(ONE, CUT)
        upstream.stream(TWO, CUT)
        options = ["--retry-delay", "10", "-H", "X-Test: 1", "--lease", "2", "--maxlen", "1000"]
        done = run(upstream.url, "--to", server.url, "--stream", stream, *options)
    assert (done.returncode, done.stdout) == (0, "")
    assert StreamInRedis(raw, stream).data() == ["one", "two", "end"]
    assert [request.headers["x-test"] for request in upstream.requests] == ["1", "1", "1"]
    assert upstream.requests[1].last_event_id == "1"


@on_posix
def test_sigterm_lets_another_take_over_at_once(server: RedisServer, raw: Any, stream: str) -> None:
    prices = StreamInRedis(raw, stream)
    journal = Journal()
    with SSEServer(default=journal) as upstream:
        command = [upstream.url, "--to", server.url, "--stream", stream, "--lease", "3600", "-v"]
        with started(*command) as process:
            journal.wait_for_answers(1)
            journal.publish()
            prices.wait_for("1")
            process.send_signal(signal.SIGTERM)
            code, errors = end_of(process)
    assert code == 0
    assert "takes over" in errors
    assert raw.get(keys_of(stream).lease) is None


def test_the_error_of_the_upstream_is_reported(server: RedisServer, raw: Any, stream: str) -> None:
    with SSEServer(default=status(404)) as upstream:
        done = run(upstream.url, "--to", server.url, "--stream", stream)
    assert done.returncode == 1
    assert "404" in done.stderr.splitlines()[-1]
    assert raw.get(keys_of(stream).lease) is None


def test_another_url_is_an_error(server: RedisServer, raw: Any, stream: str) -> None:
    raw.hset(keys_of(stream).state, "upstream", "another")
    with SSEServer(default=status(204)) as upstream:
        done = run(upstream.url, "--to", server.url, "--stream", stream)
    assert done.returncode == 1
    assert "is that of another URL" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "redis://localhost"], "argument --to: needs --stream"),
        (["--to", "http://localhost", "--stream", "x"], "redis must be a URL such as"),
        (["--to", "redis://localhost", "--stream", "{"], "the name of a stream must not contain braces"),
        (["--to", "redis://localhost", "--stream", "x", "--lease", "0.01"], "lease must be at least 0.1"),
        (["--to", "redis://localhost", "--stream", "x", "--json"], "argument --to: not allowed with --json"),
        (
            ["--to", "redis://localhost", "--stream", "x", "--save-id", "f"],
            "argument --to: not allowed with --save-id",
        ),
        (["--lease", "3"], "argument --lease or --maxlen: needs --to"),
        (["--maxlen", "3"], "argument --lease or --maxlen: needs --to"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["http://localhost", *arguments])
    assert message in capsys.readouterr().err


def test_to_is_not_allowed_with_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["--from", "redis://localhost", "--to", "redis://localhost", "--stream", "x"])
    assert "argument --from: not allowed with --to" in capsys.readouterr().err


def test_a_missing_redis_py_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sseclient_dual.redis", None)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["http://localhost", "--to", "redis://localhost", "--stream", "x"])
    assert "argument --to" in capsys.readouterr().err
