"""The arguments of the command: options, help, and wrong usage. No message shows the value of an option."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NoReturn

from sseclient_dual import __version__
from sseclient_dual.parser import MAX_EVENT_SIZE

from . import values
from .curl import HINTS
from .feed_arguments import add_feed_options, check_feed

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = "sseclient-dual"

_OPTION: Final = re.compile(r"--[\w-]+|-\w")
_ONE_DASH: Final = re.compile(r"-[a-z][a-z-]+")  # a long option that lacks one, or short ones with their value
_EXAMPLES: Final = """\
examples:
  sseclient-dual https://example.com/stream
  sseclient-dual --to redis://localhost/0 --stream prices https://example.com/
  sseclient-dual --from redis://localhost/0 --stream prices
  sseclient-dual --json --event price https://example.com/stream | jq .data
  sseclient-dual -H 'Authorization: Bearer TOKEN' -j @question.json \\
      --until '[DONE]' https://example.com/chat

exit status:
  0    the stream has ended, or --until or --max-events was reached
  1    an error
  2    wrong usage
  130  Ctrl-C
  141  the reader of the output is gone (closed pipe)
"""


def parse(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the parser, for further usage errors, and the arguments.

    :raises SystemExit: the usage is invalid, or help or version was printed.
    """
    parser = _parser()
    argv = sys.argv[1:] if argv is None else argv
    for name in (argument.partition("=")[0] for argument in argv):
        # Otherwise -json would be -j with the value "son".
        if _ONE_DASH.fullmatch(name) and f"-{name}" in _long_options(parser):
            parser.error(f"unknown option {name}; did you mean -{name}?")
    arguments, unknown = parser.parse_known_args(argv)
    # Unknown options first: the URL may be the value of one.
    options = [match[0] for match in map(_OPTION.match, unknown) if match]
    if options:
        parser.error(f"unknown option {options[0]}{_suggestion(parser, options[0])}")
    if arguments.json and any(re.match(r"[{\[@]", argument) for argument in (arguments.url or "", *unknown)):
        parser.error("argument --json: takes no value; to send JSON, use --json-data")
    if unknown:
        parser.error("more than one URL; are quotes missing?")
    if arguments.url is None and not arguments.demo and arguments.source is None:
        parser.error(f"the URL is missing{_taken(argv)}; see --help")
    if arguments.url is not None and arguments.demo:
        parser.error("pass either a URL or --demo, not both")
    check_feed(parser, arguments)
    if arguments.url is not None:
        try:
            arguments.url = values.url(arguments.url)
        except argparse.ArgumentTypeError as error:
            parser.error(f"argument URL: {error}")
    if arguments.raw and arguments.event:
        parser.error("argument --event: not allowed with argument --raw, which prints everything")
    if arguments.raw and arguments.timestamps:
        parser.error("argument --timestamps: not allowed with argument --raw, which prints bytes unchanged")
    if arguments.key is not None and arguments.cert is None:
        parser.error("argument --key: needs --cert, the certificate of this key")
    return parser, arguments


class _Body(argparse.Action):
    """Stores the request body, which is given once."""

    def __call__(self, _parser: object, namespace: argparse.Namespace, body: object, _option: object = None) -> None:
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "given more than once; a request has one body")
        setattr(namespace, self.dest, body)


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage without the value of an option, which may be a credential."""

    def error(self, message: str) -> NoReturn:
        super().error(re.sub("ignored explicit argument .*", "takes no value", message, flags=re.DOTALL))


def _taken(argv: Sequence[str]) -> str:
    """Return a hint if an option whose value was forgotten has taken the URL as its value."""
    for option, value in pairwise(argv):
        if _OPTION.fullmatch(option) and option != "--proxy" and re.match("https?://", value, re.IGNORECASE):
            return f", or the value of {option} is"
    return ""


def _suggestion(parser: argparse.ArgumentParser, option: str) -> str:
    if option in HINTS:
        return f"; {HINTS[option]}"
    known = _long_options(parser)
    close = [name for name in known if name.startswith(option)] or difflib.get_close_matches(
        option.lower(), known, n=1, cutoff=0.7
    )
    return f"; did you mean {' or '.join(close)}?" if close and option.startswith("--") else "; see --help"


def _long_options(parser: argparse.ArgumentParser) -> list[str]:
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", parser.format_help())))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        usage="%(prog)s [OPTIONS] URL",
        description="Print the events of a Server-Sent Events stream as they arrive.\nReconnect if the connection "
        "drops.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    _add_request_options(parser.add_argument_group("request"))
    _add_connection_options(parser.add_argument_group("connection"))
    _add_stream_options(parser.add_argument_group("stream"))
    _add_resuming_options(parser.add_argument_group("resuming"))
    add_feed_options(parser.add_argument_group("feeds in Redis or Valkey"))
    _add_output_options(parser.add_argument_group("output"))
    parser.set_defaults(strict=True)  # here, because some versions of Python would add it to the help
    others = parser.add_argument_group("others")
    others.add_argument(
        "--demo",
        metavar="redis",
        nargs="?",
        const="stream",
        choices=["stream", "redis"],
        help="run a demo with a local server, or that of feeds in Redis",
    )
    others.add_argument("-h", "--help", action="help", help="print this help")
    others.add_argument("--version", action="version", version=f"%(prog)s {__version__}", help="print the version")
    return parser


def _add_request_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "url",
        metavar="URL",
        nargs="?",
        help="URL of the stream; may contain credentials: https://user:password@host/",
    )
    add(
        "-X",
        "--request",
        metavar="METHOD",
        type=values.method,
        help="HTTP method (default: GET, or POST with a body)",
    )
    add(
        "-H",
        "--header",
        metavar="'NAME: VALUE'",
        type=values.header,
        action="append",
        default=[],
        help="header to send; may be repeated",
    )
    add("-u", "--user", metavar="USER:PASSWORD", type=values.credentials, help="credentials for Basic authentication")
    add(
        "-b",
        "--cookie",
        metavar="NAME=VALUE",
        type=values.cookie,
        action="append",
        help="cookie to send; may be repeated. The cookies that the server sets are sent, too",
    )
    body = group.add_mutually_exclusive_group()
    body.add_argument(
        "-d", "--data", action=_Body, help="request body; @FILE reads it from a file, - from standard input"
    )
    body.add_argument(
        "-j",
        "--json-data",
        metavar="DATA",
        action=_Body,
        help="the same as --data, with the header Content-Type: application/json",
    )
    add("--no-redirect", dest="redirect", action="store_false", help="do not follow redirects")


def _add_connection_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-k", "--insecure", action="store_true", help="do not check certificates")
    add("--cacert", metavar="FILE", type=values.file, help="trust only the authorities in this file or folder (PEM)")
    add("--cert", metavar="FILE", type=values.file, help="client certificate to send (PEM)")
    add(
        "--key",
        metavar="FILE",
        type=values.file,
        help="private key of the client certificate, if it is in another file",
    )
    add(
        "--proxy",
        metavar="URL",
        type=values.proxy,
        help="HTTP, HTTPS or SOCKS proxy; '' for none (default: the proxy set by the environment)",
    )
    versions = group.add_mutually_exclusive_group()
    versions.add_argument(
        "--http2",
        action="store_const",
        const=True,
        default=False,
        help="use HTTP/2 if the server offers it (https only)",
    )
    versions.add_argument(
        "--http2-prior-knowledge",
        dest="http2",
        action="store_const",
        const="prior-knowledge",
        help="use HTTP/2 without asking the server, also over http",
    )
    add(
        "--connect-timeout",
        metavar="SECONDS",
        type=values.seconds,
        help="maximum time for connecting (default: the value of --timeout, or else 10)",
    )


def _add_stream_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--timeout",
        metavar="SECONDS",
        type=values.seconds,
        help="reconnect after this time without any data (default: no limit)",
    )
    add(
        "--reconnect",
        action=argparse.BooleanOptionalAction,
        help="reconnect always, or stop after the first connection (default: reconnect, but send a POST or PATCH "
        "only once)",
    )
    add(
        "--retry-delay",
        metavar="MS",
        type=values.milliseconds,
        help="milliseconds before reconnecting, unless the server sets another value (default: 3000)",
    )
    add(
        "--max-retries",
        metavar="N",
        type=values.count_or_zero,
        help="stop after this many retries in a row without a new event (default: no limit; 4 for a POST or PATCH)",
    )
    add(
        "--until",
        metavar="TEXT",
        type=values.text,
        help="stop at the event with this data, such as [DONE], without printing it",
    )
    add("--max-events", metavar="N", type=values.count, help="stop after printing this many events")
    add(
        "--max-event-size",
        metavar="BYTES",
        type=values.count,
        default=MAX_EVENT_SIZE,
        help="maximum size of one event (default: 64 MiB)",
    )
    add(
        "--strict",
        action=argparse.BooleanOptionalAction,
        help="treat malformed lines as errors, or ignore them like browsers (default: --strict)",
    )


def _add_resuming_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--last-event-id", metavar="ID", type=values.event_id, help="resume after the event with this ID")
    add(
        "--save-id",
        metavar="FILE",
        type=values.file,
        help="save the ID of the last printed event in FILE, and resume after it next time, unless --last-event-id "
        "is given",
    )
    add(
        "--dedup",
        metavar="on|id|off",
        type=values.dedup,
        default=True,
        help="whether to leave out events that the server sends again after a reconnect; id: only those with an ID "
        "(default: on)",
    )


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--event",
        metavar="TYPE",
        type=values.text,
        action="append",
        help="print only events of this type (message for events without one); may be repeated",
    )
    form = group.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print each event as a line of JSON (NDJSON)")
    form.add_argument(
        "--raw",
        action="store_true",
        help="print the response bodies byte for byte, after decompression: with comments, IDs and duplicates",
    )
    add("--timestamps", action="store_true", help="print the time of each event (RFC 3339), in JSON as time")
    add(
        "--color",
        metavar="auto|always|never",
        type=values.color,
        help="color types and IDs (default: auto, on a terminal unless NO_COLOR is set)",
    )
    add("--stats", action="store_true", help="print a summary to standard error at the end")
    add(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="print connections, comments and drops to standard error; -vv: print the complete log",
    )
