"""`Feed`: what all feeds have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from sseclient_dual.closing import Closing
    from sseclient_dual.relay import AsyncRelay, Relay

    from .stats import FeedStats
    from .subscription import Subscription


class Feed(Protocol):
    """One upstream stream for many consumers.

    A feed is a context manager in both APIs; leaving the block closes it.
    """

    @property
    def ended(self) -> bool:
        """True once the upstream has ended the stream with status 204, so that a view can answer 204, too."""

    @property
    def stats(self) -> FeedStats:
        """The current counters."""

    def subscribe(self, last_event_id: str | None = None, *, history: int = 0) -> Subscription:
        """Return a subscription, an iterator of events with a sync and an async API.

        :param last_event_id: continue after this event: the `Subscription.last_event_id` of another subscription, or
            the ``Last-Event-ID`` of a browser. None or ``""``, the default: begin with the next event.
        :param history: begin with that many of the last kept events; ignored if `last_event_id` can be resumed.
        :raises TypeError: an argument has the wrong type; the message names it.
        :raises ValueError: an argument has an invalid value; the message names it.
        :raises SSEClosedError: the feed is closed.
        """

    def relay(self, last_event_id: str | None = None, *, history: int = 0, heartbeat: float | None = 15.0) -> Relay:
        """Return an iterator of the stream's bytes, to be returned by a sync view; see `subscribe`.

        It begins with the id of its position, so that a browser that reconnects at once resumes there. A gap is an
        event of type ``stream-reset`` without data.

        :param heartbeat: seconds without an event after which a comment is sent; see `SSEConnection.relay`.
        """

    def arelay(
        self, last_event_id: str | None = None, *, history: int = 0, heartbeat: float | None = 15.0
    ) -> AsyncRelay:
        """Return an async iterator of the stream's bytes, for an ASGI response; the async form of `relay`."""

    def close(self) -> Closing:
        """Close the feed and its upstream permanently, without blocking; its subscriptions end."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
