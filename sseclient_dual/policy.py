"""When to connect again, and which events were seen before: outcomes in, decisions out; no I/O and no thread.

`ReconnectPolicy` is the settings, `Reconnector` and `Deduplicator` are the state of one connection under them.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from .errors import (
    SSEConnectionError,
    SSEContentTypeError,
    SSEParsingError,
    SSEStatusError,
    check_bools,
    check_integer,
    check_number,
)
from .event import SSEEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from .event import Comment

DAY = 86_400_000.0  # ms: the longest that a server may make us wait
SETTLED = 60.0  # s: a connection that stayed open for as long has made progress, events or not
NOT_ACTED_UPON = frozenset({429, 503})  # statuses by which a server says that it did not act upon the request


@dataclass(frozen=True)
class ReconnectPolicy:
    """Settings for reconnecting and de-duplication: immutable, to be shared by any number of connections.

    :param retry_delay: milliseconds to wait before reconnecting, until the server sends ``retry:`` (the
        reconnection time of WHATWG HTML 9.2.2).
    :param max_retry_delay: milliseconds, the cap of the backoff; never a cap of what the server asked for.
    :param min_retry_delay: milliseconds, the least that the server's ``retry:`` and the backoff come down to; a
        smaller `retry_delay` is honoured.
    :param multiplier: by what the wait grows with each further attempt without progress; 1 at the least.
    :param jitter: a random fraction of the wait that is added to it, from 0 up to this; never subtracted, since
        the reconnection time is a minimum.
    :param max_retries: how many attempts in a row may go without progress before the last error is raised; None
        for no limit.
    :param retry_statuses: the response statuses after which it is worth to connect again.
    :param dedup: whether to drop what a server sends again after a reconnect.
    :param dedup_window: how many of the last events with an id are remembered for that.
    :raises TypeError: a setting is of another type.
    :raises ValueError: a setting is out of range.
    """

    retry_delay: float = 3000
    max_retry_delay: float = 60_000
    min_retry_delay: float = 100
    multiplier: float = 2.0
    jitter: float = 0.1
    max_retries: int | None = None
    retry_statuses: Collection[int] = frozenset({408, 429, 500, 502, 503, 504})
    dedup: bool = True
    dedup_window: int = 1024

    def __post_init__(self) -> None:
        for name in ("retry_delay", "max_retry_delay", "min_retry_delay", "jitter"):
            check_number(name, getattr(self, name), least=0)
        check_number("multiplier", self.multiplier, least=1)
        check_integer("dedup_window", self.dedup_window, least=0)
        if self.max_retries is not None:
            check_integer("max_retries", self.max_retries, least=0)
        check_bools(dedup=self.dedup)
        if isinstance(self.retry_statuses, (str, bytes)) or not isinstance(self.retry_statuses, Iterable):
            msg = f"retry_statuses must be a set of integers, not {self.retry_statuses!r}"
            raise TypeError(msg)
        statuses = frozenset(self.retry_statuses)
        for status in statuses:
            check_integer("retry_statuses", status, least=100)
        object.__setattr__(self, "retry_statuses", statuses)


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a connection ended.

    :param error: what went wrong; None if the response ended cleanly.
    :param sent: whether a byte of the request may have reached the server.
    """

    error: SSEConnectionError | None = None
    sent: bool = True


@dataclass(frozen=True)
class Retry:
    """Connect again in `delay` milliseconds."""

    delay: float


@dataclass(frozen=True)
class Stop:
    """The stream is over, with an error to raise or without one."""

    error: SSEConnectionError | None = None


class Reconnector:
    """Decides for one connection whether and when to connect again. For one thread's use.

    :param policy: the settings.
    :param reconnect: True: always; False: never; None: unless `replayable` is false and the request may have
        reached the server.
    :param replayable: whether the request may be sent twice without having been asked for.
    :param retry_delay: milliseconds, in place of the policy's own.
    :param origin: what the message names when it gives up.
    :param clock: monotonic seconds.
    :param wall_clock: seconds since the epoch, what a ``Retry-After`` date is compared with.
    :param uniform: random numbers from 0 to 1.
    """

    def __init__(
        self,
        policy: ReconnectPolicy,
        *,
        reconnect: bool | None = None,
        replayable: bool = True,
        retry_delay: float | None = None,
        origin: str = "",
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.reconnection_time = float(policy.retry_delay if retry_delay is None else retry_delay)
        """Milliseconds to wait before reconnecting: the value in force."""
        self.failures = 0
        """How many attempts in a row have gone without progress."""
        self._policy = policy
        self._reconnect = reconnect
        self._replayable = replayable
        self._origin = origin
        self._clock = clock
        self._wall_clock = wall_clock
        self._uniform = uniform
        self._backoff = 0.0
        self._opened_at: float | None = None
        self._progress = False
        self._broken_off = False  # whether the last connection that opened ended in a line that is no SSE

    def opened(self) -> None:
        """Note that a response was accepted."""
        self._opened_at = self._clock()

    def progressed(self) -> None:
        """Note that a new event was delivered."""
        self._progress = True

    def server_asks(self, retry: int) -> None:
        """Take over the ``retry:`` of the stream, in milliseconds (WHATWG HTML 9.2.6)."""
        self.reconnection_time = min(max(float(retry), float(self._policy.min_retry_delay)), DAY)

    def restarted(self) -> None:
        """Note that an attempt ended because the user asked for another one: neither progress nor a failure."""
        self._opened_at = None
        self._progress = False

    def decide(self, outcome: Outcome) -> Retry | Stop:
        """Decide what follows `outcome`, and begin the next attempt."""
        error = outcome.error
        opened, self._opened_at = self._opened_at, None
        progress, self._progress = self._progress, False
        if progress or (opened is not None and self._clock() - opened >= SETTLED):
            self.failures = 0
        else:
            self.failures += 1
        broken_off_before = self._broken_off
        if opened is not None:
            self._broken_off = isinstance(error, SSEParsingError)

        if not self._worth_retrying(error) or not self._may_retry(outcome):
            return Stop(error)
        if broken_off_before and isinstance(error, SSEParsingError):
            return Stop(error)
        if self._policy.max_retries is not None and self.failures > self._policy.max_retries:
            return Stop(error or SSEConnectionError(_NO_PROGRESS.format(self._origin, self.failures)))
        return Retry(self._wait(error))

    def _worth_retrying(self, error: SSEConnectionError | None) -> bool:
        if error is None:
            return True
        if isinstance(error, SSEStatusError):
            return error.status in self._policy.retry_statuses
        return not error.final and not isinstance(error, SSEContentTypeError)

    def _may_retry(self, outcome: Outcome) -> bool:
        if self._reconnect is not None:
            return self._reconnect
        if self._replayable or not outcome.sent:
            return True
        return isinstance(outcome.error, SSEStatusError) and outcome.error.status in NOT_ACTED_UPON

    def _wait(self, error: SSEConnectionError | None) -> float:
        """Return the milliseconds to wait: the reconnection time, or more the longer there is no progress."""
        base = self.reconnection_time
        if self.failures <= 1:
            self._backoff = wait = base
        else:
            grown = max(self._backoff * self._policy.multiplier, self._policy.min_retry_delay)
            self._backoff = wait = max(base, min(grown, self._policy.max_retry_delay))
        if isinstance(error, SSEStatusError):
            wait = max(wait, min(retry_after(error.headers, self._wall_clock()), DAY))
        return wait * (1 + self._policy.jitter * self._uniform())


class Deduplicator:
    """Tells which events a server sent again after a reconnect; must never take a live event for one.

    Remembered is, for each of the last `window` events with an id of their own, on which connection it came last
    and a digest of its type and data; and of the id a digest as well, since it may be as long as an event.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._seen: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._connection = 0
        self.after_reconnect = False
        """Whether the next event is the first one after a reconnect, which may be a duplicate without an id."""
        self._ids_identify = True
        self._last: int | None = None  # the digest of the last event delivered

    def reconnected(self) -> None:
        """Note that what follows comes on another connection."""
        self._connection += 1
        self.after_reconnect = True

    def without_duplicates(self, items: list[SSEEvent | Comment]) -> list[SSEEvent | Comment]:
        """Return `items` without the events that `is_duplicate` tells of, which it asks only where it may be so."""
        if self.after_reconnect or not self._ids_identify:
            return [item for item in items if not (isinstance(item, SSEEvent) and self.is_duplicate(item))]
        seen, connection = self._seen, self._connection
        kept = []
        for item in items:
            if isinstance(item, SSEEvent) and (event_id := item._about[1]):  # noqa: SLF001 - its id, in half the time
                if (key := hash(event_id)) in seen:
                    self._forget_oldest()  # which may be the one
                    if self.is_duplicate(item):
                        continue
                else:
                    seen[key] = (connection, _digest(item))
            kept.append(item)
        self._forget_oldest()
        return kept

    def is_duplicate(self, event: SSEEvent) -> bool:
        """Tell whether an earlier connection delivered `event`; if not, take it for one to be delivered."""
        first, self.after_reconnect = self.after_reconnect, False
        event_id = event.id
        if not event_id:
            return first and _digest(event) == self._last
        if not self._ids_identify:
            return False
        key, digest = hash(event_id), _digest(event)
        known = self._seen.get(key)
        if known is None:
            self._seen[key] = (self._connection, digest)
            self._forget_oldest()
            return False
        if known[0] == self._connection:
            self._ids_identify = False  # twice on one connection: the server numbers something else than events
            self._seen.clear()
            return False
        duplicate = known[1] == digest
        if not duplicate:
            self._seen.clear()  # the server began to count anew: what else was remembered means nothing now
        self._seen[key] = (self._connection, digest)
        return duplicate

    def _forget_oldest(self) -> None:
        for _ in range(len(self._seen) - self._window):
            self._seen.popitem(last=False)

    def delivered(self, event: SSEEvent) -> None:
        """Note that `event` is the last one delivered."""
        self._last = _digest(event)

    def retract(self, events: Iterable[SSEEvent]) -> None:
        """Forget `events`, which were not delivered after all."""
        for event in events:
            if event.id:
                self._seen.pop(hash(event.id), None)


def _digest(event: SSEEvent) -> int:
    return hash((event._about[0] or "message", event._data))  # noqa: SLF001 - its type and data, in half the time


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Return the milliseconds that ``Retry-After`` asks to wait, 0 if it is not there or cannot be read.

    RFC 9110, section 10.2.3: a number of seconds, or a date.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value) * 1000
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # of the obsolete forms, which are in GMT as well
            date = date.replace(tzinfo=timezone.utc)
        return max(0.0, date.timestamp() - now) * 1000
    except (TypeError, ValueError, OverflowError):
        return 0.0


_NO_PROGRESS = (
    "{}: gave up after {} connections in a row that brought no new event; each was accepted and ended by the server. "
    "Check the URL and the server, or raise max_retries"
)
