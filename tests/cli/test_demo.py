"""The demo prints the expected lines for both APIs, and fails on any other server behaviour."""

from __future__ import annotations

import itertools
import logging
import re
from pathlib import Path

import pytest

from sseclient_dual import SSEEvent
from sseclient_dual.cli import demo
from sseclient_dual.testing import CUT, HANG, Reply, pause, redirect, status, stream
from support.command import run

APIS = ["for event in connection", "async for event in connection"]
# The expected lines, written independently of the demo's own checks.
EXPECTED = [
    r"connected, status 200",
    r"comment: comments keep a quiet stream alive",
    r"event started, id 1, retry 300 ms: a long computation",
    r"event progress, id 2: 25 %",
    r"event progress, id 3: 50 %",
    r"dropped: http://127\.0\.0\.1:\d+: .+",
    r"reconnecting in 0\.3 s",
    r"connected, status 200",
    r"resumed after id 3",
    r"duplicate skipped",
    r"event progress, id 4: 75 %",
    r"event finished, id 5: the answer is 42",
    r"response ended",
    r"reconnecting in 0\.3 s",
    r"resumed after id 5",
    r"ended by the server, status 204",
]
# The demo's script without its pauses.
FIRST, SECOND, LAST = [
    Reply(tuple(step for step in reply.steps if step != pause(0.3)), reply.head, reply.length, framing=reply.framing)
    for reply in demo.SCRIPT
]


def lines_by_api(output: str) -> dict[str, list[str]]:
    """Return the lines printed for each API, without their times."""
    apis: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output.splitlines():
        if head := re.fullmatch(r"(.*):  # http://127\.0\.0\.1:\d+/", line):
            lines = apis[head[1]] = []
        elif timed := re.fullmatch(r" +\d+\.\d\d s  (.*)", line):
            lines.append(timed[1])
    return apis


def assert_complete(output: str) -> None:
    apis = lines_by_api(output)
    assert list(apis) == APIS
    for lines in apis.values():
        assert len(lines) == len(EXPECTED)
        for line, pattern in zip(lines, EXPECTED, strict=True):
            assert re.fullmatch(pattern, line)
    assert output.count("total: events 5, duplicates 1, reconnects 2\n") == len(APIS)
    assert output.splitlines()[-1] == "Both APIs received the same events, and each event exactly once."


def picture() -> list[str]:
    """Return the lines of the picture in the README, as text."""
    drawing = (Path(__file__).parents[2] / "docs/images/demo.svg").read_text(encoding="utf-8")
    texts = re.findall(r"<text .*?>(.*)</text>", drawing)
    return [re.sub(r"<.*?>", "", text).replace("\N{NO-BREAK SPACE}", " ") for text in texts]


def stable(lines: list[str]) -> list[str]:
    """Return lines of the demo without their times and ports."""
    return [re.sub(r"\d+\.\d\d s|127\.0\.0\.1:\d+", "", line) for line in lines]


def test_the_demo_as_a_command() -> None:
    done = run("--demo")
    assert not done.stderr
    assert_complete(done.stdout)
    assert done.returncode == 0
    command, *lines, ellipsis, blank, last = stable(picture())
    assert (command, ellipsis.strip(), blank) == ("$ make demo", "...", "")
    output = stable(done.stdout.splitlines())
    assert lines == output[: len(lines)], "run python docs/draw_demo.py"
    assert last == output[-1]


def test_the_demo_in_this_process(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("sseclient_dual")
    assert demo.run() == 0
    output = capsys.readouterr()
    assert not output.err
    assert_complete(output.out)
    assert not caplog.records
    assert not logger.disabled


BAD_SCRIPTS = {
    "no replies": [],
    "refused": [status(404)],
    "wrong content type": [status(200, "<html>", content_type="text/html")],
    "invalid SSE": [stream("<html>\n"), stream("<html>\n")],
    "a redirect to itself": [redirect("/")] * 21,
    "no events": [stream(HANG)],
    "unavailable": [status(503)] * 3,
    "another event": [stream("data: x\n\n", HANG)],
    "no drop": [stream(*FIRST.steps[:-1]), SECOND, LAST],
    "no retry": [stream(FIRST.steps[0], SSEEvent("a long computation", "started", "1"), HANG)],
    "no replay": [FIRST, stream(*SECOND.steps[1:]), LAST],
    "a replay with other data": [FIRST, stream(SSEEvent("51 %", "progress", "3"), *SECOND.steps[1:]), LAST],
    "two replayed events": [FIRST, stream(FIRST.steps[2], *SECOND.steps), LAST],
    "an extra event": [FIRST, stream(*SECOND.steps, "data: x\n\n"), LAST],
    "only a replay": [FIRST, stream(SECOND.steps[0]), LAST],
    "a reset id": [FIRST, stream(*SECOND.steps[:-1], "id\n\n", SECOND.steps[-1], "id\n\n"), LAST],
    "a second drop": [FIRST, stream(*SECOND.steps, CUT), LAST],
    "no 204": [FIRST, SECOND, stream("data: x\n\n", HANG)],
    "endless events": [FIRST, SECOND, stream(itertools.repeat("data: x\n\n"))],
}


@pytest.mark.parametrize("script", BAD_SCRIPTS.values(), ids=BAD_SCRIPTS.keys())
def test_any_other_server_behaviour_fails_the_demo(script: list[Reply], capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.run(script, timeout=1) == 1
    output = capsys.readouterr()
    assert re.fullmatch("the demo failed: .+\n", output.err)
    assert "Both APIs" not in output.out


def test_each_api_can_fail_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    replies = iter([FIRST, stream("data: bad\n\n", HANG)])
    assert demo.run([lambda request: next(replies), SECOND, LAST]) == 1
    good, bad = lines_by_api(capsys.readouterr().out).values()
    assert len(good) == len(EXPECTED)
    assert bad == ["connected, status 200", "event message: bad"]


def test_an_error_in_the_server_itself_is_raised() -> None:
    def fail() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        demo.run([stream(fail)])
    assert not logging.getLogger("sseclient_dual").disabled
