"""`FileCheckpoint`: loading, saving, and what the file holds after an interruption; the argument `checkpoint`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from sseclient_dual import Checkpoint, FileCheckpoint, checkpoint
from sseclient_dual.checkpoint import as_checkpoint
from support.interruptions import Interruption
from support.processes import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

on_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.id"


# -- the content


@pytest.mark.parametrize("event_id", ["7", "", " a b ", "☃ é", "\u2028\x85\x01", "x" * 100_000])
def test_a_saved_id_is_loaded(path: Path, event_id: str) -> None:
    FileCheckpoint(path).save(event_id)
    assert path.read_bytes() == event_id.encode() + b"\n"
    assert FileCheckpoint(str(path)).load() == event_id


@pytest.mark.parametrize(
    ("content", "event_id"), [(b"", ""), (b"7", "7"), (b"7\n", "7"), (b"7\r\n", "7"), (b"\n", "")]
)
def test_a_file_from_another_program_is_loaded(path: Path, content: bytes, event_id: str) -> None:
    path.write_bytes(content)
    assert FileCheckpoint(path).load() == event_id


def test_a_missing_file_means_no_id(path: Path) -> None:
    assert FileCheckpoint(path).load() is None
    assert not path.exists()


@pytest.mark.parametrize("content", [b"\xff", b"a\nb\n", b"a\rb", b"\0", b"\0\0\0\0\n"])
def test_content_that_is_not_an_id_is_refused_and_kept(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not an event ID, .* delete the file: .*last\.id"):
        FileCheckpoint(path).load()
    assert path.read_bytes() == content


@pytest.mark.parametrize("event_id", ["a\nb", "a\rb", "a\0b", "\ud800"])
def test_an_id_that_no_stream_can_send_is_not_saved(path: Path, event_id: str) -> None:
    file = FileCheckpoint(path)
    file.save("1")
    with pytest.raises(ValueError, match="last_event_id"):
        file.save(event_id)
    assert file.load() == "1"


# -- the file


def test_the_file_is_replaced_not_written_in_place(path: Path) -> None:
    path.write_bytes(b"1\n")
    with path.open("rb") as before:
        FileCheckpoint(path).save("2")
        assert before.read() == b"1\n"
    assert path.read_bytes() == b"2\n"
    assert list(path.parent.iterdir()) == [path]


@on_posix
def test_the_file_keeps_its_permissions(path: Path) -> None:
    file = FileCheckpoint(path)
    file.save("1")
    path.chmod(0o600)
    file.save("2")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"2\n", 0o600)


@on_posix
def test_a_symbolic_link_is_kept(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "id"
    path.symlink_to(target)
    FileCheckpoint(path).save("1")
    assert path.is_symlink()
    assert target.read_bytes() == b"1\n"


def test_a_relative_path_survives_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = FileCheckpoint("last.id")
    monkeypatch.chdir("/")
    file.save("1")
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
    with pytest.raises(ValueError, match="not a regular file, so it cannot hold an event ID"):
        FileCheckpoint(other if other.startswith("/") else path)


def test_a_file_that_cannot_be_read_or_written_raises_an_error(path: Path) -> None:
    file = FileCheckpoint(path)
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        file.load()
    with pytest.raises(IsADirectoryError, match=r"could not save the event ID: Is a directory: '.*last\.id'"):
        file.save("1")
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="could not save the event ID: No such file or directory"):
        FileCheckpoint(path / "nowhere" / "id").save("1")


@on_posix
def test_a_full_disk_keeps_the_previous_id(path: Path) -> None:
    FileCheckpoint(path).save("1")
    script = """
        import resource, sys
        from sseclient_dual import FileCheckpoint
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            FileCheckpoint(sys.argv[1]).save("x" * 10_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    """
    done = run(script, str(path))
    assert done.stderr.splitlines()[-1].startswith("OSError: [Errno 27] could not save the event ID: File too large")
    assert path.read_bytes() == b"1\n"
    assert list(path.parent.iterdir()) == [path]


# -- interruptions, threads and processes


def unfinished(path: Path) -> Path:
    """Return the path of a new file that a killed process has left."""
    return path.with_name(f".{path.name}.0123456789abcdef.new")


def test_loading_removes_the_new_files_of_killed_processes_only(path: Path) -> None:
    kept = [path.with_name(name) for name in (".last.id.new", ".last.id.0123456789abcdeX.new", ".other.id.0123.new")]
    for file in (*kept, unfinished(path)):
        file.write_text("1")
    assert FileCheckpoint(path).load() is None
    assert set(path.parent.iterdir()) == set(kept)


def test_a_new_file_that_cannot_be_removed_is_left(path: Path) -> None:
    unfinished(path).mkdir()
    assert FileCheckpoint(path).load() is None
    assert unfinished(path).exists()


def test_another_process_that_loads_during_a_save_does_not_disturb_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str | None] = []
    copymode = shutil.copymode

    def load_too(*arguments: Any) -> None:
        copymode(*arguments)
        if len(loaded) < 3:
            loaded.append(FileCheckpoint(path).load())

    path.write_text("1\n")
    monkeypatch.setattr(shutil, "copymode", load_too)
    FileCheckpoint(path).save("2")
    assert (loaded, path.read_bytes()) == (["1"] * 3, b"2\n")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning"
)  # by Ctrl-C between the open and the with statement
@pytest.mark.parametrize("unit", ["line", "call"])
def test_ctrl_c_at_any_line_or_call_of_a_save_leaves_the_old_or_the_new_id(path: Path, unit: str) -> None:
    def interrupt() -> NoReturn:
        raise KeyboardInterrupt

    file = FileCheckpoint(path)
    at, outcomes = 0, set()
    while True:
        file.save("1")
        with suppress(KeyboardInterrupt), Interruption(at, interrupt, unit, (checkpoint.__file__,)) as interruption:
            file.save("2")
        if not interruption.happened:
            break
        outcomes.add(path.read_bytes())
        assert list(path.parent.iterdir()) == [path], interruption.where
        at += 1
    assert b"1\n" in outcomes
    assert outcomes <= {b"1\n", b"2\n"}


@on_posix
def test_the_exceptions_of_signal_handlers_leave_the_old_or_the_new_id(path: Path) -> None:
    script = """
        import itertools, signal, sys
        from pathlib import Path
        from sseclient_dual import FileCheckpoint

        armed = False

        def handler(*_):
            global armed
            if armed:
                armed = False
                raise KeyboardInterrupt

        path = Path(sys.argv[1])
        file = FileCheckpoint(path)
        file.save("0")
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0002)
        interrupted = 0
        for number in itertools.count(1):
            try:
                armed = True
                file.save(str(number))
                armed = False
            except KeyboardInterrupt:
                interrupted += 1
                assert path.read_text() in {f"{number - 1}\\n", f"{number}\\n"}
                file.save(str(number))
                if interrupted == 200:
                    break
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(*path.parent.iterdir())
    """
    # Without warnings: a handler may interrupt the making of a file object, which is then dropped.
    done = run(script, str(path), flags=())
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}\n"


SAVER = """
import sys
from sseclient_dual import FileCheckpoint
file = FileCheckpoint(sys.argv[1])
for _ in range(300):
    file.save(sys.argv[2] * 5000)
"""


def test_processes_and_threads_that_share_a_file_never_see_a_half(path: Path) -> None:
    file = FileCheckpoint(path)
    file.save("0" * 5000)
    errors: list[BaseException] = []

    def save(letter: str) -> None:
        try:
            for _ in range(300):
                file.save(letter * 5000)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=save, args=(letter,)) for letter in "ab"]
    processes = [subprocess.Popen([sys.executable, "-c", SAVER, str(path), letter]) for letter in "cd"]
    for thread in threads:
        thread.start()
    while any(process.poll() is None for process in processes):
        loaded = file.load()
        assert loaded is not None
        assert len(loaded) == 5000
        assert len(set(loaded)) == 1
    for thread in threads:
        thread.join()
    assert [process.returncode for process in processes] == [0, 0]
    assert errors == []
    assert list(path.parent.iterdir()) == [path]


# -- the argument


class Memory:
    def load(self) -> str | None:
        return None

    def save(self, last_event_id: str) -> None:
        pass


class AsyncSave(Memory):
    async def save(self, last_event_id: str) -> None:  # type: ignore[override]
        pass


class NoLoad:
    def save(self, last_event_id: str) -> None:
        pass


def test_a_path_is_a_file_and_an_object_with_both_methods_is_a_checkpoint(path: Path) -> None:
    for argument in (path, str(path)):
        file = as_checkpoint(argument)
        file.save("1")
        assert path.read_bytes() == b"1\n"
        path.unlink()
    memory = Memory()
    assert as_checkpoint(memory) is memory
    assert isinstance(file, Checkpoint)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: 7, "must be a path, or an object with load.* and save.*, not int"),
        (lambda: b"last.id", "not bytes"),
        (NoLoad, "not NoLoad"),
        (AsyncSave, r"checkpoint\.save must not be async: it runs on a thread, so it may block"),
    ],
    ids=["number", "bytes", "no load", "async"],
)
def test_anything_else_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        as_checkpoint(make())
