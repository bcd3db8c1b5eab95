"""Everything that the command prints: events on standard output, everything else on standard error.

Each event is written at once. When the reader of standard output disappears, the connection is closed. Errors are in
the words of the command line: they name its options, not arguments of Python functions.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import re
import select
import stat
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from sseclient_dual import Comment, Ignored, Opened, SSEConnectionError
from sseclient_dual.errors import Remedy

from .arguments import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from sseclient_dual import Interrupted, SSEConnection, SSEError, SSEEvent

REMEDIES: Final[dict[str, str]] = {
    Remedy.READ_BODY: "",  # `report` points to -v
    Remedy.IGNORE_LINES: "check that the URL serves text/event-stream, or use --no-strict to ignore such lines",
    Remedy.ALLOW_LARGER_EVENTS: "this command cannot read larger events",
    Remedy.ALLOW_SLOW_CONNECT: "check the host and port in the URL, or raise --timeout",
    Remedy.ALLOW_SILENCE: "raise --timeout if the server is only quiet",
    Remedy.SET_CLIENT_CERTIFICATE: "this command cannot send a client certificate",
    Remedy.READ_CAUSE: "please report it",
    Remedy.CHECK_UNTIL: "check the value of --until if every response ends like this",
}
"""What a command-line user can do about an error, by the remedy for Python users."""

_MAX_EXCERPT: Final = 500  # characters of a response that an error shows
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 except newline and tab, DEL, C1
_LINE_ENDS: Final = re.compile(r"[\x7f-\x9f\u2028\u2029]")  # allowed in JSON, but line ends to some readers


# -- standard output


class EventPrinter:
    """Prints events, and counts them.

    :param as_json: print JSON rather than text.
    :param silent: only count, because the bytes of the events are printed as they arrive.
    """

    def __init__(self, *, as_json: bool, silent: bool) -> None:
        self.count = 0
        self._as_json = as_json
        self._silent = silent
        self._start = time.monotonic()

    def print(self, event: SSEEvent) -> None:
        """Print one event at once; to a terminal without control characters."""
        if not self._silent:
            text = _json(event) if self._as_json else _text(event)
            print(_escaped(text) if sys.stdout.isatty() else text, flush=True)
        self.count += 1

    def summary(self, connection: SSEConnection) -> str:
        """Return the line that ``--stats`` prints."""
        seconds = max(time.monotonic() - self._start, 0.001)
        return (
            f"events {self.count} in {seconds:.1f} s ({self.count / seconds:.1f}/s), "
            f"reconnects {connection.stats.reconnects}, "
            f"last id {connection.last_event_id or 'none'}"
        )


def _text(event: SSEEvent) -> str:
    """Return an event for people: type and id, if any, then the data; several lines of data as an indented block."""
    kind = [] if event.type == "message" else [event.type]
    head = " ".join([*kind, f"#{event.id}"] if event.id else kind)
    if "\n" in event.data:
        return "\n    ".join([f"{head or event.type}:", *event.data.split("\n")])
    return f"{head}: {event.data}" if head else event.data


def _json(event: SSEEvent) -> str:
    """Return an event as JSON that every program reads as one line."""
    text = json.dumps({**event, "last_event_id": event.last_event_id}, ensure_ascii=False)
    return _escaped(text, _LINE_ENDS)


def _escaped(text: str, characters: re.Pattern[str] = _CONTROLS) -> str:
    """Return `text` with `characters` in JSON's notation; control characters could take over a terminal."""
    return characters.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


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


def close_without_reader(connection: SSEConnection) -> threading.Event:
    """Close the connection when the reader of a pipe on standard output disappears; return an event set then.

    Without this, ``| head -1`` would run until the stream's second event. On systems that do not report it, printing
    that event fails.
    """
    reader_gone = threading.Event()

    def watch() -> None:
        poll = select.poll()
        poll.register(sys.stdout, 0)  # errors only
        poll.poll()
        reader_gone.set()
        connection.close()

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


# -- standard error


def say(line: str) -> None:
    """Print a line to standard error, without control characters."""
    if sys.stderr is not None:
        sys.stderr.write(f"{PROGRAM}: {_escaped(line)}\n")


def report(error: SSEError, *, verbose: bool) -> None:
    """Print an error: a line, and if `verbose` the beginning of the response, or the malformed line in it."""
    excerpt = getattr(error, "line", "") or getattr(error, "body", b"").decode(errors="replace")
    excerpt = excerpt[:_MAX_EXCERPT].strip()
    if not excerpt:
        say(message(error))
    elif verbose:
        say(message(error))
        say(f"response: {excerpt}")
    else:
        say(f"{message(error)}; use -v to see the response")


def message(error: BaseException) -> str:
    """Return the message of an error, in the words of the command line."""
    return error._reworded(REMEDIES) if isinstance(error, SSEConnectionError) else str(error)  # noqa: SLF001 - the hook for this


def description(signal: Comment | Ignored | Opened | Interrupted) -> str:
    """Return the line that ``-v`` prints for a signal."""
    if isinstance(signal, Opened):
        return f"connected to {signal.url.partition('?')[0]}, status {signal.status}"  # a query may hold a secret
    if isinstance(signal, Comment):
        return f"comment: {signal.text.removeprefix(' ')}"
    if isinstance(signal, Ignored):
        return f"ignored line: {signal.line}"
    reason = "the response ended" if signal.error is None else message(signal.error)
    return f"{reason} (reconnecting in {signal.retry_in / 1000:.1f} s)"


def ending(connection: SSEConnection) -> str:
    """Return the line that ``-v`` prints at the end of the stream."""
    return "ended by the server" + (", status 204" if connection.status == HTTPStatus.NO_CONTENT else "")


@contextmanager
def logging_to_stderr(verbose: int) -> Iterator[None]:
    """Print the package's log to standard error.

    :param verbose: 0: warnings. 1: errors only, because the lines of ``-v`` include the warnings. 2: everything.
    """
    logger = logging.getLogger("sseclient_dual")
    handler = logging.StreamHandler()
    handler.setFormatter(_LogFormatter(f"{PROGRAM}: %(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel([logging.WARNING, logging.ERROR, logging.DEBUG][min(verbose, 2)])
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _LogFormatter(logging.Formatter):
    """Formats records with errors in the words of the command line, and without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)
        record.args = tuple(message(arg) if isinstance(arg, Exception) else arg for arg in record.args or ())
        return _escaped(super().format(record))
