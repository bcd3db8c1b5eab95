"""`Retrying`: repeats a call until Redis answers; any thread can stop it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from sseclient_dual.waiting import ThreadWaiter

from .connections import RedisError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .connections import Client

T = TypeVar("T")

_FIRST_DELAY = 0.05  # seconds before the first repetition; it doubles with each further one
_MOST_DOUBLINGS = 64  # more than any delay needs; a float overflows after a thousand


def doubled(first: float, times: int, longest: float) -> float:
    """Return a delay that has been doubled so many times, at most `longest`."""
    return min(longest, first * 2.0 ** min(times, _MOST_DOUBLINGS))


class StoppedError(Exception):
    """`Retrying.stop` was called."""


class Retrying:
    """Calls Redis in one thread, that which makes it; any thread may stop it.

    :param client: sends the commands of the calls; its connections are made anew after a failure.
    :param longest: seconds, the longest time between two attempts.
    :param report: called with the first error of a series, and with None when Redis answers again.
    """

    def __init__(self, client: Client, longest: float, report: Callable[[RedisError | None], object]) -> None:
        self._client = client
        self._longest = longest
        self._report = report
        self._waiter = ThreadWaiter()
        self.stopped = False
        """True once `stop` was called."""

    def stop(self) -> None:
        """End the pauses; callable from any thread, signal handler or finalizer."""
        self.stopped = True
        self._waiter.wake()

    def __call__(self, call: Callable[[], T]) -> T:
        """Return what `call` returns when it raises no `RedisError`; it may have been executed several times.

        :raises StoppedError: it raised one, and no further attempt follows.
        """
        failures = 0
        while True:
            try:
                answer = call()
            except RedisError as error:  # noqa: PERF203 - to try again
                self._client.reset()
                if not failures:
                    self._report(error)
                self.back_off(failures)
                failures += 1
            else:
                if failures:
                    self._report(None)
                return answer

    def back_off(self, failures: int) -> None:
        """Pause after a failure, longer after each: as `pause`."""
        delay = doubled(_FIRST_DELAY, failures, self._longest)
        self.pause(delay * random.uniform(0.5, 1))  # noqa: S311 - so that not all ingests try at the same moment

    def pause(self, seconds: float) -> None:
        """Wait.

        :raises StoppedError: `stop` was called, perhaps before.
        """
        if not self.stopped:
            self._waiter.park(seconds)
        if self.stopped:
            raise StoppedError
