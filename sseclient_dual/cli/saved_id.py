"""The file of ``--save-id``: the last event ID, so that the next run resumes where this one ended."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from sseclient_dual.checks import check_last_event_id


class SavedId:
    """A file that holds one last event ID: a line of UTF-8.

    Each save replaces the whole file, so that it always holds either this ID or the previous one, even if the
    process is killed. It is not synced to disk, because the printed events are not synced either: after a power
    failure, an ID ahead of the output would lose events.

    :param path: the file; symbolic links are followed.
    :raises OSError: the path cannot be examined.
    :raises ValueError: the path is not a regular file: replacing a device, for example, would do damage.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(os.path.realpath(path))
        if self._path.exists() and not self._path.is_file():
            raise ValueError("not a regular file")
        self._saved: str | None = None

    def load(self) -> str:
        """Return the ID in the file, ``""`` if the file is empty or missing.

        :raises OSError: the file cannot be read.
        :raises ValueError: the file does not contain an ID.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return ""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise ValueError("the file is not UTF-8") from None
        try:
            return check_last_event_id(text.removesuffix("\n").removesuffix("\r"))
        except ValueError:
            raise ValueError("the file does not contain an event ID, which is one line without NUL") from None

    def save(self, event_id: str) -> None:
        """Replace the content of the file by this ID, unless this object saved it last.

        :raises OSError: the file cannot be written.
        """
        if event_id == self._saved:
            return
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            new.unlink(missing_ok=True)  # left by a killed process
            with new.open("xb") as file:  # exclusively, so that no symbolic link is followed
                with suppress(FileNotFoundError):  # there is no file yet
                    shutil.copymode(self._path, new)
                file.write(event_id.encode() + b"\n")
            new.replace(self._path)
        except OSError as error:
            raise OSError(error.errno, f"could not save the ID: {error.strerror}") from error
        self._saved = event_id
