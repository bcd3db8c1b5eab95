"""``--from`` and ``--to``: print the events of a feed in Redis, or store those of a stream there."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from sseclient_dual import SSEClosedError, SSEEvent

from . import output
from .connecting import saved_position

if TYPE_CHECKING:
    import argparse

    from sseclient_dual.redis import RedisFeed, RedisIngest

    from .events import EventPrinter
    from .messages import Messages


def print_feed(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, printer: EventPrinter, messages: Messages
) -> None:
    """Print events until the feed ends or the maximum number of events is printed; save the position.

    :raises SystemExit: the value of an option cannot be used, or redis-py is missing.
    """
    first_id, checkpoint = saved_position(parser, arguments)
    with make_feed(parser, arguments) as feed, feed.subscribe(first_id) as subscription:
        write = output.raw_writer() if arguments.raw else None
        reader_gone = output.close_without_reader(subscription.close)
        try:
            while printer.count != arguments.max_events:
                entry = subscription._recv_entry()  # noqa: SLF001 - it has the bytes, too
                event = entry.item
                if write is not None:
                    write(entry.encoded)
                if isinstance(event, SSEEvent) and (arguments.event is None or event.type in arguments.event):
                    printer.print(SSEEvent(event.data, event.event, event.id, event.retry, last_event_id=entry.id))
                if checkpoint is not None:
                    checkpoint.save(entry.id)
        except SSEClosedError:
            if reader_gone.is_set():
                raise BrokenPipeError from None
            if arguments.verbose:
                messages.say("ended by the upstream")
        finally:
            if arguments.stats:
                messages.say(printer.summary(feed.stats.reconnects, subscription.last_event_id))


def make_feed(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> RedisFeed:
    """Return the feed; no I/O over the network happens yet.

    :raises SystemExit: the value of an option cannot be used, or redis-py is missing.
    """
    try:
        from sseclient_dual.redis import RedisFeed  # noqa: PLC0415 - needs an extra

        return RedisFeed(arguments.source, arguments.stream)
    except (ImportError, ValueError) as error:
        parser.error(f"argument --from or --stream: {error}")


def store(ingest: RedisIngest) -> None:
    """Store events in Redis until the stream ends, or until SIGTERM, with which service managers stop a process.

    :raises ValueError: the feed is that of another URL.
    """
    signal.signal(signal.SIGTERM, lambda *_: ingest.close())
    ingest.run()
