"""The options ``--from`` and ``--to`` for feeds in Redis, and what they are not allowed with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import values

if TYPE_CHECKING:
    import argparse

_OF_REQUESTS: Final = {"request", "connection", "stream", "resuming"}  # titles of groups
_OF_FEEDS_TOO: Final = {"max_events", "last_event_id", "save_id"}
_NOT_OF_INGESTS: Final = ("save_id", "max_events", "event", "json", "raw", "color", "stats")


def add_feed_options(group: argparse._ArgumentGroup) -> None:
    """Add the options to a group."""
    add = group.add_argument
    add("--from", dest="source", metavar="URL", type=values.text, help="print a feed; URL is that of Redis")
    add(
        "--to",
        dest="target",
        metavar="URL",
        type=values.text,
        help="store the events as a feed instead of printing them; URL is that of Redis. Start as many as you like: "
        "one reads, the others take over when it ends",
    )
    add("--stream", metavar="NAME", type=values.text, help="name of the feed")
    add(
        "--lease",
        metavar="SECONDS",
        type=values.seconds,
        help="with --to: time after which another one takes over from one that has vanished (default: 10)",
    )
    add("--maxlen", metavar="N", type=values.count, help="with --to: about how many events to keep (default: 100000)")


def check_feed(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Check the arguments together.

    :raises SystemExit: they do not fit.
    """
    if arguments.source is not None:
        _check_source(parser, arguments)
    elif arguments.target is not None:
        _check_target(parser, arguments)
    elif arguments.stream is not None:
        parser.error("argument --stream: needs --from or --to, the URL of Redis")
    if arguments.target is None and (arguments.lease or arguments.maxlen) is not None:
        parser.error("argument --lease or --maxlen: needs --to, the URL of Redis")


def _check_source(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Check the arguments beside ``--from``: those of a request have no meaning."""
    if arguments.stream is None:
        parser.error("argument --from: needs --stream, the name of the stream in Redis")
    if arguments.target is not None:
        parser.error("argument --from: not allowed with --to")
    for group in parser._action_groups:  # noqa: SLF001 - there is no other access
        for action in group._group_actions if group.title in _OF_REQUESTS else ():  # noqa: SLF001 - as above
            is_set = getattr(arguments, action.dest) != parser.get_default(action.dest)
            if is_set and action.dest not in _OF_FEEDS_TOO:
                option = "/".join(action.option_strings) or "a URL to request"
                parser.error(f"argument --from: not allowed with {option}")


def _check_target(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Check the arguments beside ``--to``: it prints nothing, and saves the position in Redis."""
    if arguments.stream is None:
        parser.error("argument --to: needs --stream, the name of the stream in Redis")
    for name in _NOT_OF_INGESTS:
        if getattr(arguments, name) != parser.get_default(name):
            parser.error(f"argument --to: not allowed with --{name.replace('_', '-')}")
