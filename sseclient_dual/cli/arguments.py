"""The arguments of the command: options, help, and checks. Messages about invalid values never show a credential."""

from __future__ import annotations

import argparse
import errno
import math
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sseclient_dual import __version__
from sseclient_dual.checks import check_last_event_id
from sseclient_dual.transport import DEFAULT_TIMEOUT, prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = "sseclient-dual"

_HEADER: Final = re.compile(r"([^\s:]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_OPTION: Final = re.compile(r"--[\w-]+|-\w")


def parse(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the parser, for further usage errors, and the arguments.

    :raises SystemExit: the usage is invalid, or help or version was printed.
    """
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:  # argparse would print all of it, such as half of an unquoted header
        options = [match[0] for match in map(_OPTION.match, unknown) if match]
        parser.error("unrecognized arguments" + (f": {' '.join(options)}" if options else "; are quotes missing?"))
    if (arguments.url is None) != arguments.demo:
        parser.error("pass either one URL or --demo")
    if arguments.raw and arguments.event:
        parser.error("argument --event: not allowed with argument --raw, which prints everything")
    return parser, arguments


def read_body(data: str) -> bytes:
    """Return the request body for the value of ``--data``.

    :raises OSError: the file, or standard input, cannot be read.
    """
    if data in {"-", "@-"}:
        if sys.stdin is None:
            raise OSError(errno.EBADF, "standard input is closed")
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        return Path(data[1:]).read_bytes()
    return os.fsencode(data)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Print the events of a Server-Sent Events stream as they arrive. Reconnect if the connection "
        "drops.",
        epilog="Exit status: 0 if the stream ended or --max-events was reached, 1 after an error, 2 after invalid "
        "usage, 130 after Ctrl-C, 141 if the reader of the output is gone (closed pipe).",
        allow_abbrev=False,
    )
    _add_request_options(parser)
    _add_reconnect_options(parser)
    _add_output_options(parser)
    parser.add_argument("--demo", action="store_true", help="run a demo with a local server")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _add_request_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "url",
        metavar="URL",
        nargs="?",
        type=_url,
        help="URL of the stream; may contain credentials: https://user:password@host/",
    )
    add("-X", "--request", metavar="METHOD", type=_method, help="HTTP method (default: GET, or POST with --data)")
    add(
        "-H",
        "--header",
        metavar="'NAME: VALUE'",
        type=_header,
        action="append",
        default=[],
        help="header to send; may be repeated",
    )
    add("-d", "--data", help="request body; @FILE reads it from a file, - from standard input")
    add("--last-event-id", metavar="ID", type=_event_id, help="resume after the event with this ID")
    add(
        "--save-id",
        metavar="FILE",
        help="save the ID of the last printed event in FILE, and resume after it next time, unless --last-event-id "
        "is given",
    )


def _add_reconnect_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--no-reconnect",
        dest="reconnect",
        action="store_false",
        default=None,
        help="stop after the first connection (default: reconnect, but send a POST or PATCH only once)",
    )
    add(
        "--retry-delay",
        metavar="MS",
        type=_milliseconds,
        help="milliseconds before reconnecting, unless the server sets another value (default: 3000)",
    )
    add(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=DEFAULT_TIMEOUT,
        help="maximum time for connecting, and for silence of the server (default: 10 to connect, no limit of "
        "silence)",
    )
    add(
        "--strict",
        action=argparse.BooleanOptionalAction,
        help="treat malformed lines as errors, or ignore them like browsers (default: --strict)",
    )
    parser.set_defaults(strict=True)  # here, because some versions of Python would add it to the help


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--event",
        metavar="TYPE",
        action="append",
        help="print only events of this type (message for events without one); may be repeated",
    )
    add("--max-events", metavar="N", type=_count, help="stop after printing this many events")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print each event as a line of JSON (NDJSON)")
    form.add_argument(
        "--raw",
        action="store_true",
        help="print the response bodies byte for byte, after decompression: with comments, IDs and duplicates",
    )
    add("--stats", action="store_true", help="print a summary to standard error at the end")
    add(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="print connections, comments and drops to standard error; -vv: print the complete log",
    )


# -- checks of values, each in the words of the command line
#
# They raise ArgumentTypeError, because argparse prints the value with a ValueError, and that may be a credential.


def _url(text: str) -> str:
    if not re.match("https?://", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError("must begin with http:// or https://")
    _check("must look like https://host/path, with special characters percent-encoded", url=text)
    return text


def _method(text: str) -> str:
    _check("must be an HTTP method, such as GET", method=text)
    return text


def _header(text: str) -> tuple[str, bytes]:
    match = _HEADER.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("must look like 'Name: value'")
    header = match[1], os.fsencode(match[2])
    _check("must not contain control characters, or special characters in the name", headers=[header])
    return header


def _check(message: str, **arguments: Any) -> None:  # noqa: ANN401 - those of `prepare`
    """Raise an error with this message if the client would refuse these arguments of a request."""
    try:
        prepare(**{"method": "GET", "url": "http://localhost/", **arguments})
    except ValueError:
        raise argparse.ArgumentTypeError(message) from None


def _event_id(text: str) -> str:
    try:
        return check_last_event_id(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be valid UTF-8 without CR, LF and NUL") from None


def _milliseconds(text: str) -> float:
    number = _number(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must be at least 0")
    return number


def _seconds(text: str) -> float:
    number = _number(text)
    if number <= 0:
        raise argparse.ArgumentTypeError("must be greater than 0")
    return number


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError("must be a number")
    return number


def _count(text: str) -> int:
    if not re.fullmatch("0*[1-9][0-9]{0,17}", text):
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(text)
