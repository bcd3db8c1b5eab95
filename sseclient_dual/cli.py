"""The command line: the events of a stream on standard output, all else on standard error.

Standard output is for whoever reads it: each event is written at once, and when nobody reads any more, the command
ends. Nothing that is printed shows a credential, the usage errors included.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import select
import signal
import stat
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from . import Comment, Opened, SSEClient, SSEError, SSEEvent
from .cli_arguments import PROGRAM, body_of, parse
from .saved_id import SavedId

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from . import Interrupted, SSEConnection
    from .reader import Signal

_BY_SIGNAL: Final = 128  # the shell's way to say that a signal ended a command, plus its number
_LONGEST_EXCERPT: Final = 500  # characters of what a server says of a refusal

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 but for newline and tab, DEL, C1
_LINE_ENDS: Final = re.compile(r"[\x7f-\x9f\u2028\u2029]")  # what JSON may hold as it is, but no line should


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status that its help tells.

    It is a process's last act: when that is interrupted, or its output lost, standard output goes nowhere afterwards.

    :param argv: the arguments, None for those of the process.
    :raises SystemExit: as argparse does: with status 0 after ``--help`` and ``--version``, 2 for wrong usage.
    """
    try:
        try:
            return _run(argv)
        except SystemExit:
            if sys.stdout is not None:
                sys.stdout.flush()  # to fail here rather than at the interpreter's end
            raise
    except KeyboardInterrupt:
        _abandon(sys.stdout)
        return _BY_SIGNAL + signal.SIGINT
    except BrokenPipeError:
        _abandon(sys.stdout, sys.stderr)
        return _BY_SIGNAL + 13  # SIGPIPE, which Windows has no name for
    except OSError as error:  # of the output: what goes wrong with the network is an SSEError
        _abandon(sys.stdout)
        _say(f"cannot go on: {error.strerror or error}")
        return 1


def _run(argv: Sequence[str] | None) -> int:
    parser, arguments = parse(argv)
    if arguments.demo:
        from . import demo  # noqa: PLC0415 - with asyncio and a server, which nothing else needs

        return demo.run()
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    with _logging(arguments.verbose), SSEClient() as client:
        with _wrong_usage(parser, "argument -d/--data: "):
            body = None if arguments.data is None else body_of(arguments.data)
        with _wrong_usage(parser, "argument --save-id: "):
            saved_id = None if arguments.save_id is None else SavedId(arguments.save_id)
            first_id = arguments.last_event_id
            if saved_id is not None and first_id is None:
                first_id = saved_id.load()
        with _wrong_usage(parser):
            connection = client.connect(
                arguments.url,
                arguments.request or ("GET" if body is None else "POST"),
                arguments.header,
                data=body,
                timeout=arguments.timeout,
                reconnect=arguments.reconnect,
                retry_delay=arguments.retry_delay,
                last_event_id=first_id,
                strict=arguments.strict,
            )
        if saved_id is not None:
            with _wrong_usage(parser, "argument --save-id: "):
                saved_id.save(connection.last_event_id)  # to fail before an event is taken
        follower = _Follower(connection, arguments, saved_id)
        try:
            follower.follow()
        except SSEError as error:
            _say(str(error))
            if arguments.verbose and (said := _said(error)):
                _say(f"it said: {said}")
            return 1
        finally:
            if arguments.stats:
                _say(follower.summary())
    return 0


@contextmanager
def _wrong_usage(parser: argparse.ArgumentParser, argument: str = "") -> Iterator[None]:
    """Take what goes wrong for a mistake in the arguments, or in this one of them."""
    try:
        yield
    except (OSError, TypeError, ValueError) as error:
        parser.error(f"{argument}{getattr(error, 'strerror', None) or error}")


# -- output


class _Follower:
    """Prints what comes of a stream, until there is no more, or enough."""

    def __init__(self, connection: SSEConnection, arguments: argparse.Namespace, saved_id: SavedId | None) -> None:
        self._connection = connection
        self._arguments = arguments
        self._saved_id = saved_id
        self._printed = 0
        self._began = time.monotonic()

    def follow(self) -> None:
        """Print, and save the id of what was printed."""
        _prepare_stdout("utf-8" if self._arguments.json else None)
        if self._arguments.raw:
            self._connection._reader.tap = _raw_output()  # noqa: SLF001 - it is no use to others
        verbose = self._arguments.verbose
        signals: Iterator[Signal] = iter(self._connection.signals()) if verbose else self._connection
        deserted = _watch_stdout(self._connection)
        for item in signals:
            if not isinstance(item, SSEEvent):
                _say(_description(item))
                continue
            if self._arguments.event is None or item.type in self._arguments.event:
                self._print(item)
            if self._saved_id is not None:
                self._saved_id.save(item.last_event_id)
            if self._printed == self._arguments.max_events:
                return
        if deserted.is_set():
            raise BrokenPipeError
        if verbose:
            ended = self._connection.status == 204  # noqa: PLR2004
            _say("ended by the server" + (", status 204" if ended else ""))

    def _print(self, event: SSEEvent) -> None:
        if not self._arguments.raw:  # else its bytes are out
            text = _json(event) if self._arguments.json else _text(event)
            print(_escaped(text) if sys.stdout.isatty() else text, flush=True)
        self._printed += 1

    def summary(self) -> str:
        """Sum up what there was."""
        seconds = max(time.monotonic() - self._began, 0.001)
        return (
            f"events {self._printed} in {seconds:.1f} s ({self._printed / seconds:.1f}/s), "
            f"reconnects {self._connection.stats.reconnects}, "
            f"last id {self._connection.last_event_id or 'none'}"
        )


def _text(event: SSEEvent) -> str:
    """Return an event for people: its data, after its type and id if there are any; several lines as a block."""
    kind = [] if event.type == "message" else [event.type]
    head = " ".join([*kind, f"#{event.id}"] if event.id else kind)
    if "\n" in event.data:
        return "\n    ".join([f"{head or event.type}:", *event.data.split("\n")])
    return f"{head}: {event.data}" if head else event.data


def _json(event: SSEEvent) -> str:
    """Return an event as JSON that is one line to every reader of lines."""
    text = json.dumps({**event, "last_event_id": event.last_event_id}, ensure_ascii=False)
    return _escaped(text, _LINE_ENDS)


def _escaped(text: str, characters: re.Pattern[str] = _CONTROLS) -> str:
    """Return `text` with these characters as JSON escapes them; the control characters drive terminals."""
    return characters.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _description(item: Comment | Opened | Interrupted) -> str:
    if isinstance(item, Opened):
        return f"connected to {item.url.partition('?')[0]}, status {item.status}"  # a query may hold a secret
    if isinstance(item, Comment):
        return f"comment: {item.text.removeprefix(' ')}"
    return f"{item.error or 'the response ended'} (reconnecting in {item.retry_in / 1000:.1f} s)"


def _say(line: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{PROGRAM}: {_escaped(line)}\n")


def _said(error: SSEError) -> str:
    """Return the beginning of what the peer said, which errors keep out of their messages."""
    said = getattr(error, "line", "") or getattr(error, "body", b"").decode(errors="replace")
    return said[:_LONGEST_EXCERPT].strip()


def _prepare_stdout(encoding: str | None) -> None:
    """Have no character fail; JSON is UTF-8 whatever the locale, and text keeps the encoding of the terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")


def _raw_output() -> Callable[[bytes], None]:
    """Return what writes bytes to standard output, past its buffer.

    The connection's thread calls it. Were it blocked there with the lock of the buffer, the process could not end.
    """
    descriptor = sys.stdout.fileno()

    def write(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return write


def _watch_stdout(connection: SSEConnection) -> threading.Event:
    """Close the connection as soon as nobody reads our standard output; return what is set then.

    Without this, ``| head -1`` would last until the stream's second event. Where the system does not tell, printing
    that event does.
    """
    deserted = threading.Event()

    def watch() -> None:
        poll = select.poll()
        poll.register(sys.stdout, 0)  # nothing but errors
        poll.poll()
        deserted.set()
        connection.close()

    with suppress(OSError):  # of a stand-in for standard output, which has no descriptor
        if stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode) and hasattr(select, "poll"):
            threading.Thread(target=watch, name="stdout", daemon=True).start()
    return deserted


def _abandon(*streams: TextIO | None) -> None:
    """Let what these streams have in their buffers go nowhere, where it neither fails nor blocks at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, streams):
        with suppress(OSError):  # of a stand-in, which has no descriptor
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _escaped(super().format(record))


@contextmanager
def _logging(verbose: int) -> Iterator[None]:
    """Show the package's log on standard error: its warnings, or nothing where signals tell the same, or all."""
    logger = logging.getLogger("sseclient_dual")
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(f"{PROGRAM}: %(message)s"))
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
