"""`SharedFeed`: one upstream connection for any number of consumers in one process."""

from __future__ import annotations

import weakref
from operator import attrgetter
from typing import TYPE_CHECKING

from sseclient_dual.checks import check_integer, check_last_event_id, check_number
from sseclient_dual.closing import Closable
from sseclient_dual.errors import SSEClosedError
from sseclient_dual.relay import AsyncRelay, Relay
from sseclient_dual.waiting import renew_locks_after_fork

from .subscription import Subscription
from .upstream import CLOSED, Upstream

if TYPE_CHECKING:
    from sseclient_dual.closing import Closing
    from sseclient_dual.reader import Reader

    from .interface import FeedStats

_encoded = attrgetter("encoded")


class SharedFeed(Closable):
    """One upstream connection for any number of consumers in one process; made by `SSEClient.share`.

    The first subscription opens the upstream. Some time after the last one has left, it is closed; the events are
    kept, and the next subscription resumes after the last of them. One thread receives and parses each event once,
    and encodes it once for all relays. A slow consumer slows neither the upstream nor the others.

    A feed may be made before a fork, and works in each child by itself, with a connection of its own.

    It is a context manager in both APIs. Leaving the block closes it, and so does dropping the last reference to it
    and to its subscriptions.
    """

    def __init__(
        self, template: Reader, *, replay: int, replay_bytes: int, linger: float, max_catch_ups: int
    ) -> None:
        check_integer("replay", replay, least=1)
        check_integer("replay_bytes", replay_bytes, least=1)
        check_number("linger", linger, least=0)
        check_integer("max_catch_ups", max_catch_ups, least=1)
        self._upstream = Upstream(
            template, replay=replay, replay_bytes=replay_bytes, linger=linger, max_catch_ups=max_catch_ups
        )
        renew_locks_after_fork(self)
        # Not at exit: daemon threads need no cleanup then.
        weakref.finalize(self, self._upstream.close).atexit = False

    def _renew_locks(self) -> None:
        """See `waiting.LockOwner`; called in a forked child."""
        self._upstream.renew_locks()

    # -- subscribing

    def subscribe(self, last_event_id: str | None = None, *, history: int = 0) -> Subscription:
        """Return a subscription, an iterator of events with a sync and an async API.

        A subscription without an id begins with the events that arrive from now on; after a pause of the upstream,
        which `linger` describes, those that it missed come first.

        If the events after `last_event_id` are not kept any more, a connection of its own asks the upstream for them,
        until the subscription has caught up with the others. Where events are missing, the subscription reports a
        `Gap`, and continues with the newest ones.

        :param last_event_id: continue after this event: the `Subscription.last_event_id` of another subscription, or
            the ``Last-Event-ID`` of a browser, as your framework returns it: as UTF-8 or as Latin-1. None or ``""``,
            the default: begin with the next event.
        :param history: begin with that many of the last kept events, at most all of them; ignored if `last_event_id`
            can be resumed.
        :raises TypeError: an argument has the wrong type; the message names it.
        :raises ValueError: an argument has an invalid value; the message names it.
        :raises SSEClosedError: the feed is closed.
        """
        check_integer("history", history, least=0)
        first_id = self._meant(check_last_event_id(last_event_id)) if last_event_id else ""
        if self._upstream.ring.closed:
            raise SSEClosedError(CLOSED)
        return Subscription(self, self._upstream, first_id, history)

    def _meant(self, last_event_id: str) -> str:
        """Return an id that arrived in a header: frameworks decode the bytes as Latin-1, browsers send UTF-8."""
        try:
            decoded = last_event_id.encode("latin-1").decode()
        except UnicodeError:
            return last_event_id
        ring = self._upstream.ring
        with ring.lock:
            return last_event_id if ring.find(last_event_id) is not None else decoded

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
        subscription = self.subscribe(last_event_id, history=history)
        subscription._begin_with_id()  # noqa: SLF001 - a hook for this
        return Relay(subscription._recv_entry, _encoded, subscription.close, heartbeat)  # noqa: SLF001 - as above

    def arelay(
        self, last_event_id: str | None = None, *, history: int = 0, heartbeat: float | None = 15.0
    ) -> AsyncRelay:
        """Return an async iterator of the stream's bytes, for an ASGI response; the async form of `relay`.

        Cancelling a wait for the next piece closes the subscription; servers do so when the browser disconnects.
        """
        subscription = self.subscribe(last_event_id, history=history)
        subscription._begin_with_id()  # noqa: SLF001 - a hook for this
        return AsyncRelay(subscription._arecv_entry, _encoded, subscription.close, heartbeat)  # noqa: SLF001

    # -- state and closing

    @property
    def ended(self) -> bool:
        """True once the upstream has ended the stream with status 204, so that a view can answer 204, too."""
        return self._upstream.ended

    @property
    def stats(self) -> FeedStats:
        """The current counters."""
        return self._upstream.stats

    def close(self) -> Closing:
        """Close the feed permanently, without blocking; callable from any thread, signal handler or finalizer.

        All subscriptions and relays end. Closing again does nothing. Await the returned object to wait until the
        feed has released its resources, too.
        """
        return self._upstream.close()

    def _close_with_client(self) -> Closing:
        return self.close()

    def __repr__(self) -> str:
        return f"<SharedFeed of {self._upstream.name}, {self.stats.subscribers} subscribers>"
