"""Relay an event stream to browsers: a WSGI view returns a `Relay`, an ASGI view an `AsyncRelay`.

Each has only one API: frameworks check which iterator an object is, and would choose the wrong API of an object with
both.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .checks import check_number
from .errors import SSEClosedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .event import SSEEvent

T = TypeVar("T")

# Packages that iterate over the body of a response, or over the result of a view (pydantic, for FastAPI). Parts of
# Django also run code of the user.
_FRAMEWORKS = frozenset(
    {
        "aiohttp", "bottle", "falcon", "fastapi", "flask", "gunicorn", "litestar", "pydantic", "quart", "sanic",
        "sse_starlette", "starlette", "waitress", "werkzeug", "wsgiref",
    }
)  # fmt: skip
_IN_DJANGO = ("django.http.", "django.core.handlers.", "django.core.servers.")

_HEARTBEAT = b":\n\n"  # a comment, which every client ignores (WHATWG HTML 9.2.6)


def reject_web_frameworks(iterated: str = "a connection", relayed: str = "conn") -> None:
    """Raise an error if a web framework or server called the calling function, to iterate over a connection.

    Some would send the ``repr`` of each event, others fail without naming the mistake.

    :param iterated: names the object in the message.
    :param relayed: the object that has the methods to use instead.
    :raises RuntimeError: see above.
    """
    caller = sys._getframe(1).f_back  # noqa: SLF001 - for this purpose; None if C code called, as in a greenlet
    module: str = "" if caller is None else caller.f_globals.get("__name__", "")
    if module.partition(".")[0] in _FRAMEWORKS or module.startswith(_IN_DJANGO):
        raise RuntimeError(
            f"{iterated} cannot be the body of a response, because it returns events, not bytes; pass "
            f"{relayed}.relay() in a sync view, and {relayed}.arelay() in an async view"
        )


class Relay(Iterator[bytes]):
    """An iterator of the bytes of an event stream, event by event; made by `SSEConnection.relay` and `Feed.relay`.

    The end of the stream ends the iteration. A fatal error is raised from it, and ends the response early.
    """

    def __init__(
        self,
        receive: Callable[[float | None], T],
        encode: Callable[[T], bytes],
        close: Callable[[], object],
        heartbeat: float | None,
    ) -> None:
        self._receive: Callable[[float | None], Any] = receive
        self._encode: Callable[[Any], bytes] = encode
        self._close = close
        self._heartbeat = _checked(heartbeat)

    def __next__(self) -> bytes:
        try:
            return self._encode(self._receive(self._heartbeat))
        except TimeoutError:
            return _HEARTBEAT
        except SSEClosedError:
            raise StopIteration from None

    def close(self) -> None:
        """Close the connection; a WSGI server calls this at the end of the response (PEP 3333)."""
        self._close()


class AsyncRelay(AsyncIterator[bytes]):
    """The async form of `Relay`; made by `SSEConnection.arelay` and `Feed.arelay`.

    Cancelling a wait closes the connection, as cancelling ends an async generator.
    """

    def __init__(
        self,
        receive: Callable[[float | None], Awaitable[T]],
        encode: Callable[[T], bytes],
        close: Callable[[], Awaitable[object]],
        heartbeat: float | None,
    ) -> None:
        self._receive: Callable[[float | None], Awaitable[Any]] = receive
        self._encode: Callable[[Any], bytes] = encode
        self._close = close
        self._heartbeat = _checked(heartbeat)

    async def __anext__(self) -> bytes:
        try:
            return self._encode(await self._receive(self._heartbeat))
        except TimeoutError:
            return _HEARTBEAT
        except SSEClosedError:
            raise StopAsyncIteration from None
        except Exception:
            raise
        except BaseException:  # cancelled: Starlette gives no other notice that the response has ended
            self._close()
            raise

    def close(self) -> None:
        """Close the connection, without waiting; Django calls this at the end of the response."""
        self._close()

    async def aclose(self) -> None:
        """Close the connection, and wait until it has released its resources."""
        await self._close()


class Encoder:
    """Encodes the events of one response."""

    def __init__(self) -> None:
        self._sent_id = ""

    def encode(self, event: SSEEvent) -> bytes:
        """Return the bytes of the next event."""
        encoded = encode_after(self._sent_id, event)
        self._sent_id = event.last_event_id
        return encoded


def encode_after(last_event_id: str, event: SSEEvent) -> bytes:
    """Return the bytes of an event, so that the client's last event ID is right after it.

    :param last_event_id: the client's last event ID before it.
    """
    encoded = event.encode()
    if event.id is None and event.last_event_id != last_event_id:  # an earlier block, without data, set the id
        encoded = encode_id(event.last_event_id) + encoded
    return encoded


def encode_id(last_event_id: str) -> bytes:
    """Return the line that sets the client's last event ID; a block of this line alone is no event."""
    return b"id: %b\n" % last_event_id.encode()


def _checked(heartbeat: float | None) -> float | None:
    if heartbeat is not None:
        check_number("heartbeat", heartbeat, least=0.001)
    return heartbeat
