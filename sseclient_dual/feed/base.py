"""`BaseFeed`: what the feeds of all engines have in common."""

from __future__ import annotations

import weakref
from operator import attrgetter
from typing import TYPE_CHECKING

from sseclient_dual.checks import check_integer, check_last_event_id, decoded_id
from sseclient_dual.closing import Closable
from sseclient_dual.relay import AsyncRelay, Relay
from sseclient_dual.waiting import renew_locks_after_fork

from .engine import closed_error
from .subscription import Subscription

if TYPE_CHECKING:
    from sseclient_dual.closing import Closing

    from .engine import Engine
    from .stats import FeedStats

_encoded = attrgetter("encoded")


class BaseFeed(Closable):
    """A feed of an engine; see `Feed`.

    :param engine: is closed with the feed, and when the last reference to it and to its subscriptions is dropped.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        renew_locks_after_fork(self)
        # Not at exit: daemon threads need no cleanup then.
        weakref.finalize(self, engine.close).atexit = False

    def _renew_locks(self) -> None:
        """See `waiting.LockOwner`; called in a forked child."""
        self._engine.renew_locks()

    # -- subscribing

    def subscribe(self, last_event_id: str | None = None, *, history: int = 0) -> Subscription:
        """Return a subscription, an iterator of events with a sync and an async API.

        A subscription without an id begins with the events that arrive from now on.

        If the events after `last_event_id` are no longer kept, the feed asks the upstream (a `SharedFeed`) or Redis
        (a `RedisFeed`) for them, until the subscription has caught up with the others. Where events are missing, the
        subscription reports a `Gap`, and continues with the newest ones.

        :param last_event_id: continue after this event: the `Subscription.last_event_id` of another subscription, or
            the ``Last-Event-ID`` of a browser, as your framework returns it: as UTF-8 or as Latin-1. None or ``""``,
            the default: begin with the next event.
        :param history: begin with that many of the last kept events, at most all of them; ignored if `last_event_id`
            can be resumed.
        :raises TypeError: an argument has the wrong type; the message names it.
        :raises ValueError: an argument has an invalid value; the message names it.
        :raises SSEClosedError: the feed is closed.
        """
        return self._subscribe(last_event_id, history)

    def _subscribe(self, last_event_id: str | None, history: int, *, with_id: bool = False) -> Subscription:
        check_integer("history", history, least=0)
        first_id = self._meant(check_last_event_id(last_event_id)) if last_event_id else ""
        if self._engine.ring.closed:
            raise closed_error(self._engine.name)
        return Subscription(self, self._engine, first_id, history, with_id=with_id)

    def _meant(self, last_event_id: str) -> str:
        """Return an id of the ring as it is, and any other as `decoded_id` does."""
        ring = self._engine.ring
        with ring.lock:
            return last_event_id if ring.find(last_event_id) is not None else decoded_id(last_event_id)

    def relay(self, last_event_id: str | None = None, *, history: int = 0, heartbeat: float | None = 15.0) -> Relay:
        """Return an iterator of the stream's bytes, to be returned by a sync view (Flask; Django under WSGI).

        It begins with the id of its position, if that is known, so that a browser that reconnects at once resumes
        there. A gap is an event of type ``stream-reset`` without data. Closing the iterator, as the server does at
        the end of the response, closes the subscription; so does dropping the iterator.

        The end of the feed ends the iteration. A fatal error is raised from it.

        :param last_event_id: see `subscribe`.
        :param history: see `subscribe`.
        :param heartbeat: seconds without an event after which a comment is sent; see `SSEConnection.relay`.
        :raises TypeError: an argument has the wrong type; the message names it.
        :raises ValueError: an argument has an invalid value; the message names it.
        :raises SSEClosedError: the feed is closed.
        """
        subscription = self._subscribe(last_event_id, history, with_id=True)
        return Relay(subscription._recv_entry, _encoded, subscription.close, heartbeat)  # noqa: SLF001 - for this

    def arelay(
        self, last_event_id: str | None = None, *, history: int = 0, heartbeat: float | None = 15.0
    ) -> AsyncRelay:
        """Return an async iterator of the stream's bytes, for an ASGI response; the async form of `relay`.

        Cancelling a wait for the next piece closes the subscription; servers do so when the browser disconnects.
        """
        subscription = self._subscribe(last_event_id, history, with_id=True)
        return AsyncRelay(subscription._arecv_entry, _encoded, subscription.close, heartbeat)  # noqa: SLF001 - as above

    # -- state and closing

    @property
    def ended(self) -> bool:
        """True once the upstream has ended the stream with status 204, so that a view can answer 204, too."""
        return self._engine.ended

    @property
    def stats(self) -> FeedStats:
        """The current counters."""
        return self._engine.stats

    def close(self) -> Closing:
        """Close the feed permanently, without blocking; callable from any thread, signal handler or finalizer.

        All subscriptions and relays end. Closing again does nothing. Await the returned object to wait until the
        feed has released its resources, too.
        """
        return self._engine.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._engine.name}, {self.stats.subscribers} subscribers>"
