"""The exceptions of the package.

::

    SSEError
    ├── SSEConnectionError          the stream was not opened, or broke
    │   ├── SSEStatusError          the response has a status other than 200
    │   ├── SSEContentTypeError     the response is not an event stream
    │   ├── SSEParsingError         the stream has a malformed line (strict parsing)
    │   └── SSEEventTooLargeError   one event is larger than ``max_event_size``
    └── SSEClosedError              the connection or the client is closed

The exception of the layer below, if any, is the ``__cause__`` of an `SSEConnectionError`.

Other exceptions: `TypeError` and `ValueError` for arguments; `TimeoutError` for a wait with a timeout;
`RuntimeError` for a second concurrent consumer, for use after a fork, for a commit without a checkpoint, and for a
callable or a checkpoint that raised an exception that the caller would mistake for the end of the stream or
for a timeout.

Messages name the origin only (scheme, host and port): never a credential, a query or a header value.
"""

from __future__ import annotations

import copy as copy_module
import enum
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_QUOTE = 80  # characters of the peer's text that a message shows


class Remedy(str, enum.Enum):
    """The remedies that name a part of the Python API; the command line replaces them by its own words."""

    READ_BODY = "see the error's body attribute for the response body"
    IGNORE_LINES = (
        "check that the URL serves text/event-stream, or pass strict=False to ignore such lines (see the error's "
        "line attribute)"
    )
    ALLOW_LARGER_EVENTS = "pass a larger max_event_size if the stream has such events"
    ALLOW_SLOW_CONNECT = "check the scheme, host and port in the URL, or use a longer timeout"
    ALLOW_SILENCE = "use a longer timeout if the server is only quiet"
    ALLOW_MORE_RETRIES = "check the URL and the server, or raise max_retries"
    TRUST_AUTHORITY = "check the host in the URL, or trust the authority that signed it (verify=PATH)"
    SET_CLIENT_CERTIFICATE = "load one that the server trusts into the ssl_context"
    READ_CAUSE = "see its cause for details"
    CHECK_UNTIL = "check the value of until if every response ends like this"


class SSEError(Exception):
    """The base class of all errors of this package."""


class SSEConnectionError(SSEError):
    """The stream could not be opened, or broke, and no further attempt follows.

    The exception of the layer below, if any, is its ``__cause__``.

    :param final: see the attribute of the same name.
    :param remedy: how to fix the problem; the end of the message.
    """

    final: bool
    """True if a retry cannot help (a rejected certificate, an invalid redirect), so that no policy retries it."""

    def __init__(self, message: str, *, final: bool = False, remedy: str = "") -> None:
        super().__init__(_with_remedy(message, remedy))
        self.final = final
        self._problem = message
        self._remedy = remedy

    def _add_problem(self, problem: str) -> None:
        """Add a consequence of the problem to the message."""
        self._problem += f"; {problem}"
        self.args = (_with_remedy(self._problem, self._remedy),)

    def _prefix(self, prefix: str) -> None:
        """Add the name of the connection at the beginning of the message."""
        self._problem = prefix + self._problem
        self.args = (prefix + str(self),)

    def _reworded(self, remedies: Mapping[str, str]) -> str:
        """Return the message with another remedy, according to `remedies`; a hook for the command line and logs."""
        return _with_remedy(self._problem, remedies.get(self._remedy, self._remedy))


class _ResponseError(SSEConnectionError):
    """An error caused by the head of a response; holds the parts of that response that a handler needs."""

    status: int
    """The HTTP status code."""
    reason: str
    """The reason phrase of the status line; may be empty."""
    headers: Mapping[str, str]
    """The response headers; look-ups ignore case."""
    url: str
    """The URL of the response, after redirects."""
    body: bytes
    """The beginning of the response body, at most 64 KiB; for an accepted media type see `SSEContentTypeError`."""

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
        remedy: str = "",
    ) -> None:
        super().__init__(message, final=final, remedy=remedy)
        self.status = status
        self.reason = reason
        self.headers = {} if headers is None else headers
        self.url = url
        self.body = body

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)

    def json(self) -> Any:  # noqa: ANN401 - JSON is any of several types
        """Return the body, parsed as JSON.

        :raises ValueError: the body is not JSON, or is longer than the part that is kept.
        """
        return json.loads(self.body)


class SSEStatusError(_ResponseError):
    """The response has a status other than 200, and the policy does not retry it (any more).

    WHATWG HTML 9.2.3: any status other than 200 fails the connection.
    """


class SSEContentTypeError(_ResponseError):
    """The response has status 200 and a media type other than ``text/event-stream``.

    WHATWG HTML 9.2.3: this fails the connection permanently.

    Some APIs answer a request with either a stream or JSON. If the ``Accept`` header of the request names the media
    type of the response, as ``application/json, text/event-stream`` does, the body is read to its end, with the
    limits of an event: the read timeout, and ``max_event_size`` bytes. If it breaks off, an `SSEConnectionError` is
    raised or retried, as for a stream. For other media types, the body is the beginning, at most 64 KiB.
    """

    content_type: str = ""
    """The media type of the response in lower case, without parameters, such as ``application/json``; "" for none."""


class SSEParsingError(SSEConnectionError):
    """The stream has a malformed line; raised by strict parsing only."""

    line: str
    """The malformed line, without its line end."""

    def __init__(self, message: str, line: str = "", *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.line = line


class SSEEventTooLargeError(SSEConnectionError):
    """One event, or one line, is larger than ``max_event_size``; a retry would return the same."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message, final=True, remedy=remedy)


class SSEClosedError(SSEError):
    """The connection or the client was used after it was closed."""


# Exceptions that mean the end of the stream, or a timeout, to a consumer; no other code may raise them to it.
_CONTROL_EXCEPTIONS = (StopIteration, StopAsyncIteration, SSEClosedError, TimeoutError)


def unmistakable(error: Exception, argument: str) -> Exception:
    """Return the error to raise to the consumer in place of `error`, which a callable of the user raised.

    :param argument: the name of the argument with the callable.
    """
    if not isinstance(error, _CONTROL_EXCEPTIONS):
        return error
    failure = RuntimeError(f"the {argument} callable raised {type(error).__name__}")
    failure.__cause__ = error
    return failure


def copied(error: BaseException) -> BaseException:
    """Return a copy of an error, to raise it in several threads; the error itself if it cannot be copied."""
    try:
        copy = copy_module.copy(error)
    except Exception:  # noqa: BLE001 - the error of a user may have any constructor
        return error
    copy.__cause__ = error.__cause__
    return copy


def quoted(text: str) -> str:
    """Return text of a peer, safe for a message or a log: printable, and at most 80 characters long."""
    shown = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text[: _LONGEST_QUOTE + 1])
    return shown if len(shown) <= _LONGEST_QUOTE else shown[:_LONGEST_QUOTE] + "…"


def _with_remedy(problem: str, remedy: str) -> str:
    return "; ".join(filter(None, [problem, remedy]))


def _restore(cls: type[_ResponseError], args: tuple[Any, ...], state: dict[str, Any]) -> _ResponseError:
    """Rebuild a pickled error: its constructor takes keyword arguments, which exceptions do not pickle."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def clear_tracebacks(error: BaseException) -> None:
    """Remove the tracebacks of an error: their frames reference the unfinished event, the response and the reader.

    These would live as long as the error, which a consumer may keep, and are of no use to it.
    """
    inner: BaseException | None = error
    while inner is not None:
        inner.__traceback__ = None
        inner = inner.__cause__ or inner.__context__
