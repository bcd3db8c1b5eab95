"""The file of `--save-id`: the next run resumes where this one ended."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from sseclient_dual import FileCheckpoint, SSEEvent
from sseclient_dual.testing import HANG, Gate, ReceivedRequest, Reply, SSEServer, stream
from support.command import SIGPIPE_STATUS, close, end_of, on_posix, run, started
from support.processes import line_of
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


LAST = 400


def events_after(request: ReceivedRequest) -> Reply:
    """Return the events up to LAST that follow the request's last event ID."""
    after = int(request.last_event_id or 0)
    return stream(SSEEvent(str(number), id=f"{number}") for number in range(after + 1, LAST + 1))


@on_posix
def test_a_killed_command_resumes_without_losing_events(tmp_path: Path) -> None:
    saved = tmp_path / "last.id"
    printed: list[int] = []
    with SSEServer(*[events_after] * 5) as server:
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
            assert in_file in {printed[-1], printed[-1] - 1}  # at most the last printed event is repeated
        done = run(server.url, "--save-id", str(saved), "--no-reconnect")
    assert (done.returncode, done.stderr) == (0, "")
    printed += [int(line[1 : line.index(":")]) for line in done.stdout.splitlines()]
    assert sorted(set(printed)) == list(range(1, LAST + 1))
    assert saved.read_text() == f"{LAST}\n"


def test_an_event_that_was_not_printed_is_not_saved(tmp_path: Path) -> None:
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


def test_ctrl_c_while_an_event_is_awaited_keeps_the_id_of_the_event_before(tmp_path: Path) -> None:
    saved = tmp_path / "last.id"
    with SSEServer(stream("id: 1\ndata: x\n\n", HANG)) as server:
        with started(server.url, "--save-id", str(saved)) as process:
            assert line_of(process.stdout) == "#1: x\n"
            wait_until(lambda: saved.read_text() == "1\n", "the id in the file")
            process.send_signal(signal.SIGINT)
            assert end_of(process)[0] == 130
    assert list(tmp_path.iterdir()) == [saved]
    assert saved.read_text() == "1\n"


def test_the_file_is_that_of_a_checkpoint(tmp_path: Path) -> None:
    saved = FileCheckpoint(tmp_path / "last.id")
    saved.save("7 Ã©")  # which is not taken for UTF-8 that was decoded as Latin-1, as a header would be
    with SSEServer(stream("id: 8 é\ndata: x\n\n")) as server:
        assert run(server.url, "--save-id", str(tmp_path / "last.id"), "--no-reconnect").returncode == 0
    assert [request.last_event_id for request in server.requests] == ["7 Ã©"]
    assert saved.load() == "8 é"
