"""The command line: the events of a stream on standard output, all else on standard error.

Standard output is for whoever reads it: each event is written at once, and when nobody reads any more, the command
ends. Nothing that is printed shows a credential, the usage errors included.
"""

from __future__ import annotations

import argparse
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
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from . import Comment, Opened, SSEClient, SSEError, SSEEvent, __version__
from .transport import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from . import Interrupted, SSEConnection
    from .reader import Signal

_PROGRAM: Final = "sseclient-dual"
_BY_SIGNAL: Final = 128  # the shell's way to say that a signal ended a command, plus its number

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 but for newline and tab, DEL, C1
_LINE_ENDS: Final = re.compile(r"[\x7f-\x9f\u2028\u2029]")  # what JSON may hold as it is, but no line should
_HEADER: Final = re.compile(r"([^\s:]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_OPTION: Final = re.compile(r"--[\w-]+|-\w")


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
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:  # by itself argparse would print all of it, such as half a header that was not quoted
        options = [match[0] for match in map(_OPTION.match, unknown) if match]
        parser.error("unrecognized arguments" + (f": {' '.join(options)}" if options else "; are quotes missing?"))
    if (arguments.url is None) != arguments.demo:
        parser.error("give one URL, or --demo")
    if arguments.demo:
        from . import demo  # noqa: PLC0415 - with asyncio and a server, which nothing else needs

        return demo.run()
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    with _logging(arguments.verbose), SSEClient() as client:
        try:
            connection = client.connect(
                arguments.url,
                arguments.request or ("GET" if arguments.data is None else "POST"),
                arguments.header,
                data=None if arguments.data is None else os.fsencode(arguments.data),
                timeout=arguments.timeout,
                reconnect=arguments.reconnect,
                retry_delay=arguments.retry_delay,
                last_event_id=arguments.last_event_id,
            )
        except (TypeError, ValueError) as error:
            parser.error(str(error))
        try:
            _print_events(connection, arguments)
        except SSEError as error:
            _say(str(error))
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Print the events of an event stream (Server-Sent Events) as they come; reconnect if it breaks.",
        epilog="Exit status: 0 when the stream has ended or enough events have come, 1 after an error, 2 for wrong "
        "usage, 130 after Ctrl-C, 141 when nobody reads the output any more.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("url", metavar="URL", nargs="?", type=_url, help="may hold credentials, as in https://user:password@host/")
    add("-X", "--request", metavar="METHOD", help="the HTTP method (default: GET, or POST with --data)")
    add(
        "-H",
        "--header",
        metavar="'NAME: VALUE'",
        type=_header,
        action="append",
        default=[],
        help="a header to send; may be given several times",
    )
    add("-d", "--data", help="the body to send")
    add("--last-event-id", metavar="ID", help="resume after the event with this id")
    add(
        "--no-reconnect",
        dest="reconnect",
        action="store_false",
        default=None,
        help="end with the first connection (default: reconnect, except that a POST or PATCH is sent only once)",
    )
    add(
        "--retry-delay",
        metavar="MS",
        type=_number,
        help="milliseconds to wait before reconnecting, until the server says otherwise (default: 3000)",
    )
    add(
        "--timeout",
        metavar="SECONDS",
        type=_number,
        default=DEFAULT_TIMEOUT,
        help="for connecting, and for each silence of the server (default: 10 to connect, no limit of silence)",
    )
    add("--max-events", metavar="N", type=_count, help="end after this many events")
    add("--json", action="store_true", help="print each event as a line of JSON")
    add(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="also tell, on standard error, of connections, comments and drops; -vv: all that is logged",
    )
    add("--demo", action="store_true", help="play a demo of what this package does, with a server of its own")
    add("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


# argparse prints what a type refuses by a ValueError, which may be a credential in the wrong place. So may be what
# stands before the first colon of something that is no URL.


def _url(text: str) -> str:
    if not re.match("https?://", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError("must begin with http:// or https://")
    return text


def _header(text: str) -> tuple[str, bytes]:
    match = _HEADER.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("must look like 'Name: value'")
    return match[1], os.fsencode(match[2])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a number") from None


def _count(text: str) -> int:
    if not re.fullmatch("0*[1-9][0-9]{0,17}", text):
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(text)


# -- output


def _print_events(connection: SSEConnection, arguments: argparse.Namespace) -> None:
    """Print events until there are no more, or enough."""
    _prepare_stdout("utf-8" if arguments.json else None)
    on_terminal = sys.stdout.isatty()
    left = arguments.max_events or -1  # which never comes down to 0
    signals: Iterator[Signal] = iter(connection.signals()) if arguments.verbose else connection
    deserted = _watch_stdout(connection)
    for item in signals:
        if not isinstance(item, SSEEvent):
            _say(_description(item))
            continue
        text = _json(item) if arguments.json else _text(item)
        print(_escaped(text) if on_terminal else text, flush=True)
        left -= 1
        if not left:
            return
    if deserted.is_set():
        raise BrokenPipeError
    if arguments.verbose:
        _say("ended by the server" + (", status 204" if connection.status == 204 else ""))  # noqa: PLR2004


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
        sys.stderr.write(f"{_PROGRAM}: {_escaped(line)}\n")


def _prepare_stdout(encoding: str | None) -> None:
    """Have no character fail; JSON is UTF-8 whatever the locale, and text keeps the encoding of the terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")


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
    handler.setFormatter(_Formatter(f"{_PROGRAM}: %(message)s"))
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
