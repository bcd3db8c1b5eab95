"""What an engine of feeds, its feed and its subscriptions know of each other.

An engine reads the upstream of a feed into its ring, and has a way for subscriptions to catch up.
"""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sseclient_dual.errors import SSEClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual.closing import Closing
    from sseclient_dual.waiting import Waiter

    from .ring import Entry, Ring
    from .stats import FeedStats


def closed_error(name: str) -> SSEClosedError:
    """Return the exception for the use of a closed feed."""
    return SSEClosedError(f"{name}: the feed is closed; make another one")


class Run:
    """One run of a feed's engine, from its start until it ends or fails."""

    def __init__(self) -> None:
        # Set under the ring's lock:
        self.end: int | None = None
        """The position after the last entry of the run; None while more may follow."""
        self.error: BaseException | None = None
        """What ended it, if it failed."""

    @property
    def failure(self) -> Exception | None:
        """Why the upstream is not open at the moment; None if it is, or if there is no failure yet."""
        return None


class Joined(NamedTuple):
    """The end of a catch-up: the subscription continues in the ring."""

    position: int
    """Where it continues."""
    has_gap: bool
    """True if events are missing before it."""


class CatchUp(Protocol):
    """The way of one subscription back into the ring; only the subscription calls `poll` and `unregister`."""

    def poll(self, waiter: Waiter, taken: Entry | None) -> Entry | Joined | None:
        """Return the next entry, or where to continue; or register `waiter`, and return None.

        :raises Finished: the stream has ended.
        :param taken: the last entry that the consumer has got; any other is returned again.
        """

    def unregister(self, waiter: Waiter) -> None:
        """End the wait of `poll`."""

    def longest_wait(self) -> float | None:
        """Return the seconds after which to call `poll` again, even if nothing has woken the waiter."""

    def close(self) -> Closing:
        """Release all resources; callable from any thread, signal handler or finalizer."""


class Members:
    """The subscriptions that have started and are not closed; adding and removing are one operation each, no lock.

    :param when_empty: a method, called when the last one has left; its object is not kept alive.
    """

    def __init__(self, when_empty: Callable[[], object] | None = None) -> None:
        self.left_at = 0.0
        """When the last one left, on the clock of ``time.monotonic``."""
        self._when_empty = (lambda: None) if when_empty is None else weakref.WeakMethod(when_empty)
        self._references: set[weakref.ref[object]] = set()

    def __len__(self) -> int:
        return len(self._references)

    def add(self, cursor: object) -> None:
        """Add a subscription, which leaves when it is dropped, at the latest."""
        self._references.add(weakref.ref(cursor, self._discard))

    def remove(self, cursor: object) -> None:
        """Remove a subscription."""
        self._discard(weakref.ref(cursor))

    def _discard(self, reference: weakref.ref[object]) -> None:
        self._references.discard(reference)
        if not self._references:
            self.left_at = time.monotonic()
            when_empty = self._when_empty()
            if when_empty is not None:
                when_empty()


class Engine(Protocol):
    """What reads the upstream of a feed and fills its ring, as seen by the feed and its subscriptions."""

    ring: Ring
    """Another one in a forked child."""
    name: str
    ended: bool
    """See `Feed.ended`."""

    def join(self, cursor: object) -> Run:
        """Count a subscription, and start a run unless one is on.

        :raises SSEClosedError: the feed is closed.
        :raises RuntimeError: no thread can be started.
        """

    def leave(self, cursor: object) -> None:
        """Stop counting it; callable from any thread, signal handler or finalizer."""

    def catch_up(self, run: Run, last_event_id: str, position: int | None, history: int) -> CatchUp:
        """Return the way back into the ring for a subscription.

        :param run: that of the subscription.
        :param last_event_id: the id after which to continue.
        :param position: the position after it, None if it is not known.
        :param history: after a gap, continue with so many of the kept events.
        """

    @property
    def stats(self) -> FeedStats:
        """See `Feed.stats`."""

    def close(self) -> Closing:
        """Close everything, for good; callable from any thread, signal handler or finalizer."""

    def renew_locks(self) -> None:
        """In a forked child, begin anew, and release what belongs to the parent."""
