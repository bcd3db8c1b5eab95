"""Every exception that the package raises on its own account, what messages quote, and the checks of arguments.

::

    SSEError
    ├── SSEConnectionError          the stream could not be opened, or broke; the original is ``__cause__``
    │   ├── SSEStatusError          the answer's status is not one that a stream can have
    │   ├── SSEContentTypeError     the answer is no event stream
    │   ├── SSEParsingError         the peer is not speaking the event-stream format (strict reading)
    │   └── SSEEventTooLargeError   one event is larger than ``max_event_size``
    └── SSEClosedError              the connection, or the client, is closed

Besides these there are `TypeError` and `ValueError` for arguments, `TimeoutError` for a wait that the caller
bounded, and `RuntimeError` for a second concurrent consumer, for use after a fork, and for a callable that raised
what would be taken for one of these or for the end of the stream.

Messages name the origin (scheme, host and port) alone: never a credential, a path's query or a header's value.
"""

from __future__ import annotations

import json
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_QUOTE = 80  # characters of a peer's that a message shows


class SSEError(Exception):
    """The root of every error of this package."""


class SSEConnectionError(SSEError):
    """The stream could not be opened, or broke, and there will be no further attempt.

    The exception of the layer below, where there is one, is its ``__cause__``.

    :param final: see the attribute of that name.
    """

    final: bool
    """True where trying again cannot help (a rejected certificate, a redirect that leads nowhere), so that no
    policy retries it."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class _ResponseError(SSEConnectionError):
    """An error that is told by the head of a response; keeps what a handler needs of that response."""

    status: int
    """The HTTP status code."""
    reason: str
    """The reason phrase of the status line, perhaps empty."""
    headers: Mapping[str, str]
    """The response's headers; look-ups ignore case."""
    url: str
    """Where the response came from, after redirects."""
    body: bytes
    """The beginning of the response's body, 64 KiB at most."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        reason: str = "",
        headers: Mapping[str, str] | None = None,
        url: str = "",
        body: bytes = b"",
        final: bool = False,
    ) -> None:
        super().__init__(message, final=final)
        self.status = status
        self.reason = reason
        self.headers = {} if headers is None else headers
        self.url = url
        self.body = body

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)

    def json(self) -> Any:  # noqa: ANN401 - JSON is any of several types
        """Return the body, read as JSON.

        :raises ValueError: the body is not JSON (or was longer than the 64 KiB that are kept).
        """
        return json.loads(self.body)


class SSEStatusError(_ResponseError):
    """The response has a status other than 200, and the policy does not (or no longer) retry it.

    WHATWG HTML 9.2.3: any status but 200 fails the connection.
    """


class SSEContentTypeError(_ResponseError):
    """The response has status 200 but a media type other than ``text/event-stream``.

    WHATWG HTML 9.2.3: this fails the connection, for good.
    """


class SSEParsingError(SSEConnectionError):
    """The peer sent a line that no event stream has; raised by the strict reading only."""

    line: str
    """The offending line, without its end."""

    def __init__(self, message: str, line: str = "") -> None:
        super().__init__(message)
        self.line = line


class SSEEventTooLargeError(SSEConnectionError):
    """One event, or one line, is larger than ``max_event_size``; asking again would bring the same."""

    def __init__(self, message: str) -> None:
        super().__init__(message, final=True)


class SSEClosedError(SSEError):
    """The connection or the client was used after its end."""


def quoted(text: str) -> str:
    """Return what a peer says as it may stand in a message, and so in a log: printable, and not too long."""
    shown = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text[: _LONGEST_QUOTE + 1])
    return shown if len(shown) <= _LONGEST_QUOTE else shown[:_LONGEST_QUOTE] + "…"


def check_number(name: str, value: object, *, least: float) -> None:
    """Raise a `TypeError` or `ValueError` that names the argument, unless `value` is a number that will do."""
    if not isinstance(value, Real) or isinstance(value, bool):
        msg = f"{name} must be a number, not {value!r}"
        raise TypeError(msg)
    try:
        in_range = least <= float(value) < float("inf")
    except OverflowError:  # an integer that no float can hold
        in_range = False
    if not in_range:
        msg = f"{name} must be at least {least} and finite, not {value!r}"
        raise ValueError(msg)


def check_bools(**values: object) -> None:
    """Raise a `TypeError` that names the argument, unless all are booleans."""
    for name, value in values.items():
        if not isinstance(value, bool):
            msg = f"{name} must be a bool, not {value!r}"
            raise TypeError(msg)


def check_integer(name: str, value: object, *, least: int) -> None:
    """Raise a `TypeError` or `ValueError` that names the argument, unless `value` is an integer that will do."""
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} must be an integer, not {value!r}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} must be at least {least}, not {value!r}"
        raise ValueError(msg)


def _restore(cls: type[_ResponseError], args: tuple[Any, ...], state: dict[str, Any]) -> _ResponseError:
    """Build a pickled error again: its constructor takes keywords, which an exception's own pickling drops."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
