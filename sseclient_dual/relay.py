"""What a web view returns to relay an event stream to browsers: `Relay` under WSGI, `AsyncRelay` under ASGI.

Each has one face only: a framework looks which one an object has, and an object with both gets the wrong treatment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from .errors import SSEClosedError, check_number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .event import SSEEvent

_HEARTBEAT = b":\n\n"  # a comment, which every client passes over (WHATWG HTML 9.2.6)


class Relay(Iterator[bytes]):
    """The bytes of an event stream, each event as it comes; made by `SSEConnection.relay`.

    The end of the stream ends the iteration. A fatal error is raised from it, and breaks off the response.
    """

    def __init__(
        self, receive: Callable[[float | None], SSEEvent], close: Callable[[], object], heartbeat: float | None
    ) -> None:
        self._receive = receive
        self._close = close
        self._heartbeat = _checked(heartbeat)
        self._encoder = _Encoder()

    def __next__(self) -> bytes:
        try:
            return self._encoder.encode(self._receive(self._heartbeat))
        except TimeoutError:
            return _HEARTBEAT
        except SSEClosedError:
            raise StopIteration from None

    def close(self) -> None:
        """Close the connection; a WSGI server does so when the response is over (PEP 3333)."""
        self._close()


class AsyncRelay(AsyncIterator[bytes]):
    """As `Relay`, awaited; made by `SSEConnection.arelay`.

    Cancelling a wait closes the connection, as it ends an async generator.
    """

    def __init__(
        self,
        receive: Callable[[float | None], Awaitable[SSEEvent]],
        close: Callable[[], Awaitable[object]],
        heartbeat: float | None,
    ) -> None:
        self._receive = receive
        self._close = close
        self._heartbeat = _checked(heartbeat)
        self._encoder = _Encoder()

    async def __anext__(self) -> bytes:
        try:
            return self._encoder.encode(await self._receive(self._heartbeat))
        except TimeoutError:
            return _HEARTBEAT
        except SSEClosedError:
            raise StopAsyncIteration from None
        except Exception:
            raise
        except BaseException:  # cancelled: nothing else tells it when Starlette is done
            self._close()
            raise

    def close(self) -> None:
        """Close the connection, without waiting; Django does so when the response is over."""
        self._close()

    async def aclose(self) -> None:
        """Close the connection, and wait until its thread has ended."""
        await self._close()


class _Encoder:
    """Encodes the events of one response, each with the last event ID a client is to know after it."""

    def __init__(self) -> None:
        self._told = ""

    def encode(self, event: SSEEvent) -> bytes:
        encoded = event.encode()
        if event.id is None and event.last_event_id != self._told:  # an id came in a block without data, or before
            encoded = b"id: %b\n" % event.last_event_id.encode() + encoded
        self._told = event.last_event_id
        return encoded


def _checked(heartbeat: float | None) -> float | None:
    if heartbeat is not None:
        check_number("heartbeat", heartbeat, least=0.001)
    return heartbeat
