"""Standard output: its encoding, raw bytes, and a reader that disappears.

When the reader of standard output disappears, the connection is closed.
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO


def set_encoding(encoding: str | None) -> None:
    """Set the encoding of standard output, None for the present one; escape characters that it lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")


def raw_writer() -> Callable[[bytes], None]:
    """Return a function that writes bytes to standard output without its buffer.

    A worker thread calls it. If it blocked there with the lock of the buffer, the process could not exit.
    """
    descriptor = sys.stdout.fileno()

    def write(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return write


def close_without_reader(close: Callable[[], object]) -> threading.Event:
    """Call `close` when the reader of a pipe on standard output disappears; return an event set then.

    Without this, ``| head -1`` would run until the stream's second event. On systems that do not report it, printing
    that event fails.
    """
    reader_gone = threading.Event()

    def watch() -> None:
        poll = select.poll()
        poll.register(sys.stdout, 0)  # errors only
        poll.poll()
        reader_gone.set()
        close()

    with suppress(OSError):  # a replacement of standard output has no descriptor
        if stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode) and hasattr(select, "poll"):
            threading.Thread(target=watch, name="stdout", daemon=True).start()
    return reader_gone


def discard(*streams: TextIO | None) -> None:
    """Redirect streams to nowhere, so that flushing their buffers at exit neither fails nor blocks."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, streams):
        with suppress(OSError):  # a replacement has no descriptor
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
