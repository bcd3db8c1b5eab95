"""`Checkpoint`: where a consumer saves its position, the last event ID, and `FileCheckpoint`, which uses a file."""

from __future__ import annotations

import glob
import inspect
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from .checks import check_last_event_id


@runtime_checkable
class Checkpoint(Protocol):
    """Stores the position of one consumer; any class with these two methods will do.

    A connection calls them one at a time: in the thread of the consumer, or in the async API on a thread of its own,
    so that they may block. Their exceptions are raised to the consumer.
    """

    def load(self) -> str | None:
        """Return the last event ID saved, None if there is none."""

    def save(self, last_event_id: str) -> None:
        """Replace the saved ID; ``""`` if the stream has reset it. A crash must leave the old ID or the new one."""


class FileCheckpoint:
    """A file that holds one last event ID: a line of UTF-8.

    Each save replaces the whole file, so that it always holds either this ID or the previous one, even if the
    process is killed. A missing or empty file means that there is no ID.

    Use a file for one consumer only. If two processes save in it, it holds the ID that was saved last, so the
    consumer that is behind may miss events when it starts again.

    The file is not synced to disk, because the work of most consumers is not synced either: after a power failure, an
    ID ahead of the work would lose events. Store both in one transaction to survive that.

    :param path: the file; symbolic links are followed, and a relative path stays the same if the process changes its
        directory.
    :raises OSError: the path cannot be examined.
    :raises ValueError: the path is not that of a regular file: replacing a device, for example, would do damage.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(os.path.realpath(path))
        if self._path.exists() and not self._path.is_file():
            raise ValueError(f"not a regular file, so it cannot hold an event ID: {path}")

    def load(self) -> str | None:
        """Return the ID in the file, None if the file is missing.

        :raises OSError: the file cannot be read.
        :raises ValueError: the file does not contain an ID.
        """
        self._remove_unfinished()
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return check_last_event_id(content.decode().removesuffix("\n").removesuffix("\r"))
        except ValueError:  # not UTF-8, or several lines, or NUL
            raise ValueError(
                f"not an event ID, which is one line of UTF-8 without NUL; correct or delete the file: {self._path}"
            ) from None

    def save(self, last_event_id: str) -> None:
        """Replace the content of the file by this ID.

        :raises OSError: the file cannot be written. It still holds the previous ID.
        :raises ValueError: the ID contains a CR, LF, NUL or lone surrogate.
        """
        line = check_last_event_id(last_event_id).encode() + b"\n"
        try:
            while not self._replace(line):
                pass
        except OSError as error:
            raise OSError(error.errno, f"could not save the event ID: {error.strerror}", str(self._path)) from error

    def _replace(self, line: bytes) -> bool:
        """Replace the file, and return True; return False if `load` of another process removed the new one."""
        # The name is unique: another thread or process may save at the same time, and must not replace the file by
        # a half of this one.
        new = self._path.with_name(f".{self._path.name}.{os.urandom(8).hex()}.new")
        try:
            with new.open("xb") as file:
                with suppress(FileNotFoundError):  # there is no file yet
                    shutil.copymode(self._path, new)
                file.write(line)
            with suppress(FileNotFoundError):
                new.replace(self._path)
                return True
        except BaseException:  # a full disk, or Ctrl-C
            new.unlink(missing_ok=True)
            raise
        return False

    def _remove_unfinished(self) -> None:
        """Remove the new files that killed processes have left."""
        for path in self._path.parent.glob(f".{glob.escape(self._path.name)}.{'[0-9a-f]' * 16}.new"):
            with suppress(OSError):  # another process has removed it, or this one may not
                path.unlink()


def as_checkpoint(value: object) -> Checkpoint:
    """Return the checkpoint for an argument, which is one or the path of a file.

    :raises TypeError: it is neither.
    :raises ValueError: the path is not that of a regular file.
    :raises OSError: the path cannot be examined.
    """
    if isinstance(value, (str, os.PathLike)):
        return FileCheckpoint(value)
    if not isinstance(value, Checkpoint):
        raise TypeError(f"checkpoint must be a path, or an object with load() and save(), not {type(value).__name__}")
    for method in (value.load, value.save):
        if inspect.iscoroutinefunction(method):
            raise TypeError(f"checkpoint.{method.__name__} must not be async: it runs on a thread, so it may block")
    return value
