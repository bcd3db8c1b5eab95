"""The arguments of the command line. Nothing that is said of wrong ones shows a credential."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import __version__
from .transport import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = "sseclient-dual"

_HEADER: Final = re.compile(r"([^\s:]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_OPTION: Final = re.compile(r"--[\w-]+|-\w")


def parse(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the arguments, and the parser to refuse them by.

    :raises SystemExit: they are wrong, or ask for the help or the version.
    """
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:  # by itself argparse would print all of it, such as half a header that was not quoted
        options = [match[0] for match in map(_OPTION.match, unknown) if match]
        parser.error("unrecognized arguments" + (f": {' '.join(options)}" if options else "; are quotes missing?"))
    if (arguments.url is None) != arguments.demo:
        parser.error("give one URL, or --demo")
    if arguments.raw and arguments.event:
        parser.error("argument --event: not allowed with argument --raw, which prints all that comes")
    return parser, arguments


def body_of(data: str) -> bytes:
    """Return the body that ``--data`` asks for.

    :raises OSError: it is in a file, or comes from standard input, and cannot be read.
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
    add("-d", "--data", help="the body to send; @FILE: what is in the file, -: what comes from standard input")
    add("--last-event-id", metavar="ID", help="resume after the event with this id")
    add(
        "--save-id",
        metavar="FILE",
        help="resume after the event whose id is in the file, unless --last-event-id is given, and keep in it the id "
        "of the last event printed",
    )
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
    add(
        "--strict",
        action=argparse.BooleanOptionalAction,
        help="whether a line that no event stream has is an error, or passed over as browsers do (default: an error)",
    )
    parser.set_defaults(strict=True)  # told above: some Pythons would tell it once more
    add(
        "--event",
        metavar="TYPE",
        action="append",
        help="print only events of this type, message being that of those without one; may be given several times",
    )
    add("--max-events", metavar="N", type=_count, help="end after this many events")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print each event as a line of JSON (NDJSON)")
    form.add_argument(
        "--raw",
        action="store_true",
        help="print the bytes of each response's body as they come, decompressed and otherwise untouched: comments, "
        "ids, and what is sent twice",
    )
    add("--stats", action="store_true", help="tell at the end, on standard error, what there was")
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
