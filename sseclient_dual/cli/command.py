"""The command itself: read the arguments, connect, print events until the end, and return the exit status."""

from __future__ import annotations

import errno
import signal
import sys
from typing import TYPE_CHECKING, Final

from sseclient_dual import SSEError, SSEEvent
from sseclient_dual.checks import looks_like_seconds

from . import output
from .arguments import parse
from .connecting import connect, make_client, make_ingest
from .events import EventPrinter
from .feeds import print_feed, store
from .messages import Messages, description, ending

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from sseclient_dual import SSEConnection
    from sseclient_dual.event import Signal
    from sseclient_dual.redis import RedisIngest

_SIGNAL_STATUS: Final = 128  # shells add the number of the signal that ended a command
_SIGPIPE: Final = 13  # Windows has no name for it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status.

    Call it last in a process: after an interrupt or a failure of the output, it redirects standard output to nowhere.

    :param argv: the arguments; None for those of the process.
    :raises SystemExit: by argparse: with status 0 after ``--help`` and ``--version``, 2 after invalid usage.
    """
    try:
        try:
            return _run(argv)
        except SystemExit:
            if sys.stdout is not None:
                sys.stdout.flush()  # fail here rather than when the interpreter exits
            raise
    except KeyboardInterrupt:
        output.discard(sys.stdout)
        return _SIGNAL_STATUS + signal.SIGINT
    except BrokenPipeError:
        output.discard(sys.stdout, sys.stderr)
        return _SIGNAL_STATUS + _SIGPIPE
    except OSError as error:  # of the output or of --save-id; network errors are SSEErrors
        output.discard(sys.stdout)
        Messages().say(f"stopped: {error.strerror or error}")
        return 1


def _run(argv: Sequence[str] | None) -> int:
    parser, arguments = parse(argv)
    if arguments.demo:
        from . import demo, demo_redis  # noqa: PLC0415 - import asyncio and the scripted server, which nothing else needs

        return demo_redis.run() if arguments.demo == "redis" else demo.run()
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    messages = Messages(arguments.verbose, timestamps=arguments.timestamps)
    printer = EventPrinter(
        as_json=arguments.json, silent=arguments.raw, timestamps=arguments.timestamps, color=arguments.color
    )
    output.set_encoding("utf-8" if arguments.json else None)
    if arguments.source is not None:
        with messages.of_the_log(has_signals=False):
            print_feed(parser, arguments, printer, messages)
        return 0
    if arguments.retry_delay is not None and looks_like_seconds(arguments.retry_delay):
        messages.say("--retry-delay is in milliseconds")
    if arguments.target is not None:
        with messages.of_the_log(has_signals=False), make_client(parser, arguments) as client:
            return _store(make_ingest(client, parser, arguments), messages)
    with messages.of_the_log(), make_client(parser, arguments) as client:
        connection = connect(client, parser, arguments)
        try:
            _follow(connection, arguments, printer, messages)
        except SSEError as error:
            messages.report(error)
            return 1
        finally:
            if arguments.stats:
                messages.say(printer.summary(connection.stats.reconnects, connection.last_event_id))
    return 0


def _store(ingest: RedisIngest, messages: Messages) -> int:
    try:
        store(ingest)
    except SSEError as error:
        messages.report(error)
    except ValueError as error:
        messages.say(str(error))
    else:
        return 0
    return 1


def _follow(
    connection: SSEConnection, arguments: argparse.Namespace, printer: EventPrinter, messages: Messages
) -> None:
    """Print events until the stream ends or the maximum number of events is printed; save the position."""
    if arguments.raw:
        connection._tap(output.raw_writer())  # noqa: SLF001 - the hook for this
    signals: Iterator[Signal] = iter(connection.signals()) if arguments.verbose else connection
    reader_gone = output.close_without_reader(connection.close)
    for item in signals:
        if not isinstance(item, SSEEvent):
            messages.say(description(item, connection.http_version))
            continue
        if arguments.event is None or item.type in arguments.event:
            printer.print(item)
        if printer.count == arguments.max_events:
            if arguments.save_id is not None:
                connection.commit()
            return
    if reader_gone.is_set():
        raise BrokenPipeError
    if arguments.verbose:
        messages.say(ending(connection, until=arguments.until))
