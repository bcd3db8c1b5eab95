"""The values of options: each function checks the text of one, and returns the value.

They raise ArgumentTypeError, because argparse prints the text with a ValueError, and that may be a credential.
"""

from __future__ import annotations

import argparse
import errno
import math
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from sseclient_dual.checks import check_last_event_id
from sseclient_dual.client import SSEClient
from sseclient_dual.transport import Cookies, prepare

_Value = TypeVar("_Value")
_HEADER: Final = re.compile(r"([^\s:]+):[ \t]*(.*?)[ \t]*", re.DOTALL)


def text(argument: str) -> str:
    """Return an argument as text; it is UTF-8 if the encoding of the locale does not have its characters."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        with suppress(UnicodeDecodeError):
            return os.fsencode(argument).decode()
    return argument


def url(argument: str) -> str:
    """Return an http or https URL."""
    decoded = text(argument)
    if not re.match("https?://", decoded, re.IGNORECASE):
        raise argparse.ArgumentTypeError("must begin with http:// or https://")
    _check("must look like https://host/path, with special characters percent-encoded", url=decoded)
    return decoded


def method(argument: str) -> str:
    """Return an HTTP method."""
    _check("must be an HTTP method, such as GET", method=argument)
    return argument


def header(argument: str) -> tuple[str, bytes]:
    """Return the name and the value of a header."""
    match = _HEADER.fullmatch(argument)
    if match is None:
        raise argparse.ArgumentTypeError("must look like 'Name: value'")
    name, value = match[1], os.fsencode(match[2])
    _check("must not contain control characters, or special characters in the name", headers=[(name, value)])
    return name, value


def credentials(argument: str) -> tuple[str, str]:
    """Return a user and a password."""
    user, colon, password = text(argument).partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("must look like USER:PASSWORD")
    _check("must be valid UTF-8", auth=(user, password))
    return user, password


def cookie(argument: str) -> tuple[str, str]:
    """Return the name and the value of a cookie."""
    name, equals, value = text(argument).partition("=")
    try:
        Cookies({name: value})
    except ValueError:
        equals = ""
    if not equals:
        raise argparse.ArgumentTypeError("must look like NAME=VALUE, without semicolons and control characters")
    return name, value


def proxy(argument: str) -> str:
    """Return the URL of a proxy; "" for none."""
    try:
        SSEClient(proxy=text(argument) or None)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("proxy ")) from None
    return text(argument)


def file(argument: str) -> str:
    """Return the name of a file; an unset variable of a shell leaves none."""
    if not argument:
        raise argparse.ArgumentTypeError("must be the name of a file, not empty")
    return argument


def event_id(argument: str) -> str:
    """Return an ID that a request can send."""
    try:
        return check_last_event_id(text(argument))
    except ValueError:
        raise argparse.ArgumentTypeError("must be valid UTF-8 without CR, LF and NUL") from None


def milliseconds(argument: str) -> float:
    """Return a number that is not negative."""
    number = _number(argument)
    if number < 0:
        raise argparse.ArgumentTypeError("must be at least 0")
    return number


def seconds(argument: str) -> float:
    """Return a positive number."""
    number = _number(argument)
    if number <= 0:
        raise argparse.ArgumentTypeError("must be greater than 0")
    return number


def count(argument: str) -> int:
    """Return a positive whole number."""
    if not re.fullmatch("0*[1-9][0-9]{0,17}", argument):
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(argument)


def count_or_zero(argument: str) -> int:
    """Return a whole number that is not negative."""
    if not re.fullmatch("[0-9]{1,18}", argument):
        raise argparse.ArgumentTypeError("must be a whole number, at least 0")
    return int(argument)


def dedup(argument: str) -> Literal["id"] | bool:
    """Return a setting for de-duplication."""
    return _choice(argument, on=True, id="id", off=False)


def color(argument: str) -> bool | None:
    """Return True for ``always``, False for ``never``, None for ``auto``."""
    return _choice(argument, auto=None, always=True, never=False)


def _choice(argument: str, **choices: _Value) -> _Value:
    if argument not in choices:
        *others, last = choices
        raise argparse.ArgumentTypeError(f"must be {', '.join(others)} or {last}")
    return choices[argument]


def _number(argument: str) -> float:
    try:
        number = float(argument)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError("must be a number")
    return number


def _check(message: str, **arguments: Any) -> None:  # noqa: ANN401 - those of `prepare`
    """Raise an error with this message if the client would refuse these arguments of a request."""
    try:
        prepare(**{"method": "GET", "url": "http://localhost/", **arguments})
    except ValueError:
        raise argparse.ArgumentTypeError(message) from None


def read_body(data: str) -> bytes:
    """Return the request body for the value of ``--data`` or ``--json-data``.

    :raises OSError: the file, or standard input, cannot be read.
    """
    if data in {"-", "@-"}:
        if sys.stdin is None:
            raise OSError(errno.EBADF, "standard input is closed")
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        return Path(data[1:]).read_bytes()
    return os.fsencode(data)
