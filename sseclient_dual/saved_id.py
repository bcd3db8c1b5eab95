"""The last event ID in a file, so that the next run of the command goes on where this one ended."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from .transport import check_last_event_id


class SavedId:
    """A file that holds one last event ID: a line of UTF-8.

    It is replaced as a whole, so that at any moment it holds this id or the one before. That outlives the death of
    the process. It is not forced to the disk for each event: neither is what was printed, and after a power failure
    an id that is ahead of the output would lose events.

    :param path: the file; if it is a link, what that leads to.
    :raises OSError: it cannot be looked at.
    :raises ValueError: it is something else than a file, such as a device, which to replace would do harm.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(os.path.realpath(path))
        if self._path.exists() and not self._path.is_file():
            raise ValueError("this is no regular file")
        self._saved: str | None = None

    def load(self) -> str:
        """Return the id that the file holds, ``""`` if it is empty or there is none.

        :raises OSError: it cannot be read.
        :raises ValueError: it holds something else than an id.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return ""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise ValueError("the file is not UTF-8") from None
        return check_last_event_id(text.removesuffix("\n").removesuffix("\r"))

    def save(self, event_id: str) -> None:
        """Have the file hold this id.

        :raises OSError: it cannot be written.
        """
        if event_id == self._saved:
            return
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            new.unlink(missing_ok=True)  # of a process that was killed here
            with new.open("xb") as file:  # which follows no link that somebody has put there
                with suppress(FileNotFoundError):  # it is the first
                    shutil.copymode(self._path, new)
                file.write(event_id.encode() + b"\n")
            new.replace(self._path)
        except OSError as error:
            raise OSError(error.errno, f"the id cannot be saved: {error.strerror}") from error
        self._saved = event_id
