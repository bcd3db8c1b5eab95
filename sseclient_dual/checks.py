"""Checks of arguments: each raises a `TypeError` or `ValueError` that names the argument, or warns about it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

_PACKAGE = __name__.partition(".")[0]
_FEW_MILLISECONDS = 10


def check_number(name: str, value: object, *, least: float) -> None:
    """Require a finite number of at least `least`.

    :raises TypeError: `value` is not a number.
    :raises ValueError: `value` is out of range.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        in_range = least <= float(value) < float("inf")
    except OverflowError:  # an integer too large for a float
        in_range = False
    if not in_range:
        raise ValueError(f"{name} must be at least {least} and finite, not {value!r}")


def check_retry_delay(value: object) -> None:
    """Require a number of milliseconds, and warn if it looks like seconds.

    :raises TypeError: `value` is not a number.
    :raises ValueError: `value` is out of range.
    """
    check_number("retry_delay", value, least=0)
    delay = float(value)  # type: ignore[arg-type] # it is a number
    if looks_like_seconds(delay):
        warn(
            f"retry_delay is in milliseconds: pass {delay * 1000:g} for {delay:g} s, or at least {_FEW_MILLISECONDS}"
        )


def looks_like_seconds(milliseconds: float) -> bool:
    """Return True if a number of milliseconds is so small that it is almost always one of seconds."""
    return 0 < milliseconds < _FEW_MILLISECONDS


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, attributed to the code that uses the package."""
    level, frame = 1, sys._getframe()  # noqa: SLF001 - for this purpose
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def check_integer(name: str, value: object, *, least: int) -> None:
    """Require an integer of at least `least`.

    :raises TypeError: `value` is not an integer.
    :raises ValueError: `value` is too small.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def check_bools(**values: object) -> None:
    """Require booleans.

    :raises TypeError: a value is not a bool.
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be a bool, not {value!r}")


def check_timeout(timeout: float | None) -> None:
    """Require None or a number of seconds, 0 included.

    :raises TypeError: `timeout` is not a number.
    :raises ValueError: `timeout` is negative or not finite.
    """
    if timeout is not None:
        check_number("timeout", timeout, least=0)


def check_last_event_id(value: object) -> str:
    """Return `value` if it is a valid last event ID (WHATWG HTML 9.2.6).

    :raises TypeError: `value` is not a str.
    :raises ValueError: `value` contains a CR, LF, NUL or lone surrogate.
    """
    if not isinstance(value, str):
        raise TypeError(f"last_event_id must be a str, not {type(value).__name__}")
    if any(character in value for character in "\r\n\0"):
        raise ValueError("last_event_id must not contain CR, LF or NUL: no event stream can send such an id")
    encode_utf8("last_event_id", value)
    return value


def decoded_id(last_event_id: str) -> str:
    """Return the id that a browser has sent: frameworks decode headers as Latin-1, but browsers send UTF-8."""
    try:
        return last_event_id.encode("latin-1").decode()
    except UnicodeError:
        return last_event_id  # it was decoded as UTF-8, or is none


def check_name(value: object) -> str:
    """Return `value` if it can name a connection in messages and log records.

    :raises TypeError: `value` is not a str.
    :raises ValueError: `value` is empty or contains a character that is not printable.
    """
    if not isinstance(value, str):
        raise TypeError(f"name must be a str, not {type(value).__name__}")
    if not value or not value.isprintable():
        raise ValueError(f"name must be printable and not empty, not {value!r}")
    return value


def encode_utf8(name: str, text: str) -> bytes:
    """Return `text` in UTF-8.

    :raises ValueError: `text` contains a lone surrogate.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Without its cause, which would show the text.
        raise ValueError(f"{name} contains a lone surrogate, which UTF-8 cannot encode") from None


def check_pairs(name: str, source: object) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of a mapping or of an iterable of pairs.

    :raises TypeError: `source` is neither.
    """
    if isinstance(source, Mapping):
        return source.items()
    if not isinstance(source, Iterable) or isinstance(source, (str, bytes)):
        raise TypeError(f"{name} must be a mapping or pairs, not {type(source).__name__}")
    pairs = list(source)
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):  # noqa: PLR2004 - a pair
        raise TypeError(f"{name} must be a mapping or pairs, such as [('name', 'value')]")
    return pairs
