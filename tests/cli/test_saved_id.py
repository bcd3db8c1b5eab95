"""The file with the last event ID: loading, saving, and resuming."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEEvent
from sseclient_dual.cli.saved_id import SavedId
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


on_posix = pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.id"


@pytest.mark.parametrize("event_id", ["7", "", " a b ", "☃ é", "x" * 100_000])
def test_a_saved_id_is_loaded(path: Path, event_id: str) -> None:
    SavedId(str(path)).save(event_id)
    assert path.read_bytes() == event_id.encode() + b"\n"
    assert SavedId(str(path)).load() == event_id


@pytest.mark.parametrize(
    ("content", "event_id"), [(b"", ""), (b"7", "7"), (b"7\n", "7"), (b"7\r\n", "7"), (b"\n", "")]
)
def test_a_file_from_another_program_is_loaded(path: Path, content: bytes, event_id: str) -> None:
    path.write_bytes(content)
    assert SavedId(str(path)).load() == event_id


def test_a_missing_file_means_no_id(path: Path) -> None:
    assert SavedId(str(path)).load() == ""
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff", "the file is not UTF-8"), (b"a\nb\n", "does not contain an event ID"), (b"\0", "without NUL")],
)
def test_invalid_content_is_refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        SavedId(str(path)).load()


def test_the_file_is_replaced_not_written_in_place(path: Path) -> None:
    path.write_bytes(b"1\n")
    with path.open("rb") as before:
        SavedId(str(path)).save("2")
        assert before.read() == b"1\n"
    assert path.read_bytes() == b"2\n"
    assert list(path.parent.iterdir()) == [path]


@on_posix
def test_the_file_keeps_its_permissions(path: Path) -> None:
    saved_id = SavedId(str(path))
    saved_id.save("1")
    path.chmod(0o600)
    saved_id.save("2")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"2\n", 0o600)


def test_an_id_that_has_not_changed_is_not_saved_again(path: Path) -> None:
    saved = SavedId(str(path))
    saved.save("1")
    path.unlink()
    saved.save("1")
    assert not path.exists()
    saved.save("2")
    assert path.exists()


@on_posix
def test_a_symbolic_link_is_kept(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "id"
    path.symlink_to(target)
    SavedId(str(path)).save("1")
    assert path.is_symlink()
    assert target.read_bytes() == b"1\n"


@on_posix
def test_a_link_at_the_temporary_path_is_removed_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".last.id.new").symlink_to(victim)
    SavedId(str(path)).save("1")
    assert path.read_bytes() == b"1\n"
    assert victim.read_text() == "precious"


def test_a_relative_path_survives_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved = SavedId("last.id")
    monkeypatch.chdir("/")
    saved.save("1")
    assert (tmp_path / "last.id").read_bytes() == b"1\n"


@on_posix
@pytest.mark.parametrize("other", ["/dev/null", "a folder", "a pipe", "a link to a device"])
def test_only_a_regular_file_is_replaced(other: str, path: Path) -> None:
    if other == "a folder":
        path.mkdir()
    elif other == "a pipe":
        os.mkfifo(path)
    elif other == "a link to a device":
        path.symlink_to("/dev/null")
    with pytest.raises(ValueError, match="not a regular file"):
        SavedId(other if other.startswith("/") else str(path))


def test_a_file_that_cannot_be_read_or_written_raises_an_error(path: Path) -> None:
    saved = SavedId(str(path))
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        saved.load()
    with pytest.raises(OSError, match="could not save the ID: Is a directory"):
        saved.save("1")
        SavedId(str(path / "nowhere" / "id")).save("1")
