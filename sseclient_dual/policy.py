"""Decide whether and when to reconnect: an outcome in, a decision out; no I/O and no thread.

`ReconnectPolicy` holds the settings, a `Reconnector` applies them to one connection.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from .checks import check_integer, check_number, check_retry_delay
from .errors import Remedy, SSEConnectionError, SSEContentTypeError, SSEParsingError, SSEStatusError

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86_400_000.0  # ms: the longest wait that a server may ask for
UNREPEATED_RETRIES = 4  # in a row, of a request that may be sent again only because the server has not acted on it
SETTLED = 60.0  # s: a connection that stayed open this long has made progress, even without an event
# Statuses by which a server says that it did not act on the request.
NOT_ACTED_UPON = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
RETRY_STATUSES = NOT_ACTED_UPON | {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.GATEWAY_TIMEOUT,
}


@dataclass(frozen=True)
class ReconnectPolicy:
    """Settings for reconnecting and de-duplication; immutable, shareable by any number of connections.

    :param retry_delay: milliseconds to wait before reconnecting, until the server sends ``retry:`` (the
        reconnection time of WHATWG HTML 9.2.2).
    :param max_retry_delay: milliseconds, the maximum of the backoff; it does not limit a wait that the server
        asks for.
    :param min_retry_delay: milliseconds, the minimum for the server's ``retry:`` and the backoff; a smaller
        ``retry_delay`` is honoured.
    :param multiplier: the factor by which the wait grows with each further attempt without progress; at least 1.
    :param jitter: the maximum random fraction of the wait that is added to it; nothing is subtracted, because the
        reconnection time is a minimum.
    :param max_retries: how many attempts in a row may fail or make no progress before the last error is raised;
        None for no limit, or for 4 if the request is one that is not repeated (a POST or PATCH, see ``reconnect``).
    :param retry_statuses: the response statuses after which to reconnect.
    :param dedup: whether to drop events that the server sends again after a reconnect; ``"id"`` to recognise them by
        their id only, and to deliver all events without an id.
    :param dedup_window: how many of the last events with an id are remembered when a connection ends, to compare the
        events of the next one with.
    :raises TypeError: a setting has the wrong type.
    :raises ValueError: a setting is out of range.
    """

    retry_delay: float = 3000
    max_retry_delay: float = 60_000
    min_retry_delay: float = 100
    multiplier: float = 2.0
    jitter: float = 0.1
    max_retries: int | None = None
    retry_statuses: Collection[int] = RETRY_STATUSES
    dedup: bool | Literal["id"] = True
    dedup_window: int = 1024

    def __post_init__(self) -> None:
        check_retry_delay(self.retry_delay)
        for name in ("max_retry_delay", "min_retry_delay", "jitter"):
            check_number(name, getattr(self, name), least=0)
        check_number("multiplier", self.multiplier, least=1)
        check_integer("dedup_window", self.dedup_window, least=0)
        if self.max_retries is not None:
            check_integer("max_retries", self.max_retries, least=0)
        if not isinstance(self.dedup, (bool, str)):
            raise TypeError(f"dedup must be True, 'id' or False, not {self.dedup!r}")
        if self.dedup not in {True, "id", False}:
            raise ValueError(f"dedup must be True, 'id' or False, not {self.dedup!r}")
        if isinstance(self.retry_statuses, (str, bytes)) or not isinstance(self.retry_statuses, Iterable):
            raise TypeError(f"retry_statuses must be a set of integers, not {self.retry_statuses!r}")
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
    """End the stream, with an error to raise or without one."""

    error: SSEConnectionError | None = None


class Reconnector:
    """Decides whether and when one connection reconnects; not thread-safe.

    :param policy: the settings.
    :param reconnect: True: always; False: never; None: unless `replayable` is false and the request may have
        reached the server.
    :param replayable: whether the request may be sent twice without the user asking for it.
    :param retry_delay: milliseconds; replaces the policy's value.
    :param origin: the origin that error messages name.
    :param clock: returns monotonic seconds.
    :param wall_clock: returns seconds since the epoch, to compare with a ``Retry-After`` date.
    :param uniform: returns random numbers from 0 to 1.
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
        """The current number of milliseconds to wait before reconnecting."""
        self.failures = 0
        """How many attempts in a row have made no progress."""
        self._policy = policy
        self._max_retries = policy.max_retries
        if self._max_retries is None and reconnect is None and not replayable:
            self._max_retries = UNREPEATED_RETRIES
        self._reconnect = reconnect
        self._replayable = replayable
        self._origin = origin
        self._clock = clock
        self._wall_clock = wall_clock
        self._uniform = uniform
        self._backoff = 0.0
        self._opened_at: float | None = None
        self._progress = False
        self._malformed = False  # True if the last open connection ended with a parsing error

    def opened(self) -> None:
        """Record that a response was accepted."""
        self._opened_at = self._clock()

    def progressed(self) -> None:
        """Record that a new event was delivered."""
        self._progress = True

    def set_reconnection_time(self, retry: int) -> None:
        """Apply a ``retry:`` field of the stream, in milliseconds (WHATWG HTML 9.2.6)."""
        self.reconnection_time = min(max(float(retry), float(self._policy.min_retry_delay)), DAY)

    def restarted(self) -> None:
        """Record that the user asked for a new attempt: neither progress nor a failure."""
        self._opened_at = None
        self._progress = False

    def decide(self, outcome: Outcome) -> Retry | Stop:
        """Return the decision that follows from `outcome`; the next attempt begins with this call."""
        error = outcome.error
        opened, self._opened_at = self._opened_at, None
        progress, self._progress = self._progress, False
        if progress or (opened is not None and self._clock() - opened >= SETTLED):
            self.failures = 0
        else:
            self.failures += 1
        malformed_before = self._malformed
        if opened is not None:
            self._malformed = isinstance(error, SSEParsingError)

        if not self._is_retryable(error) or not self._may_retry(outcome):
            return Stop(error)
        if malformed_before and isinstance(error, SSEParsingError):
            return Stop(error)
        if self._max_retries is not None and self.failures > self._max_retries:
            return Stop(error or self._no_progress())
        return Retry(self._wait(error))

    def _no_progress(self) -> SSEConnectionError:
        count = "a connection" if self.failures == 1 else f"{self.failures} connections in a row"
        return SSEConnectionError(
            f"{self._origin}: gave up after {count} that ended without a new event",
            remedy=Remedy.ALLOW_MORE_RETRIES,
        )

    def _is_retryable(self, error: SSEConnectionError | None) -> bool:
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
        """Return the milliseconds to wait: the reconnection time, or longer after attempts without progress."""
        base = self.reconnection_time
        if self.failures <= 1:
            self._backoff = wait = base
        else:
            grown = max(self._backoff * self._policy.multiplier, self._policy.min_retry_delay)
            self._backoff = wait = max(base, min(grown, self._policy.max_retry_delay))
        if isinstance(error, SSEStatusError):
            wait = max(wait, min(retry_after(error.headers, self._wall_clock()), DAY))
        return wait * (1 + self._policy.jitter * self._uniform())


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Return the milliseconds to wait according to ``Retry-After``, 0 if it is missing or invalid.

    RFC 9110, section 10.2.3: a number of seconds, or a date.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value) * 1000
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # the obsolete forms are in GMT, too
            date = date.replace(tzinfo=timezone.utc)
        return max(0.0, date.timestamp() - now) * 1000
    except (TypeError, ValueError, OverflowError):
        return 0.0
