"""`Runner`: uses a Redis client on a thread, and tries again after a failure."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from sseclient_dual.closing import Closing
from sseclient_dual.hub import BLOCKING, Routine, Wait, current
from sseclient_dual.waiting import Latch

from .retrying import doubled

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual.hub import Waits

    from .connections import Client

_FIRST_DELAY = 0.1  # seconds; twice that before the first repetition
LONGEST_DELAY = 5.0
"""Seconds before another attempt, at most."""


class Runner:
    """Calls a function again and again on a thread, which nothing else uses meanwhile.

    :param client: is passed to the function, and closed at the end.
    :param name: added to the name of the thread.
    :param work: uses the client, and returns False when nothing is left to do. An error that it raises is a failure
        of Redis or of what it contains: it is called again later.
    :param failed: called with each error.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        work: Callable[[Client], bool],
        failed: Callable[[Exception], object] = bool,
    ) -> None:
        self._client = client
        self._work = work
        self._failed = failed
        self._routine = Routine(name)
        self._started = False
        self._closed = False
        self._finished = Latch()

    def start(self) -> None:
        """Start, unless it was started before.

        :raises RuntimeError: no thread can be started.
        """
        if not self._started:
            current().start(self._routine, self._run)
            self._started = True

    def close(self) -> Closing:
        """End the function's current command, and stop; callable from any thread, signal handler or finalizer."""
        self._closed = True
        self._client.abort()
        self._routine.wake()
        return Closing(self._finished) if self._started else Closing()

    def disown(self) -> None:
        """In a forked child, release what belongs to the parent."""
        self._client.disown()

    def _run(self) -> Waits:
        failures = 0
        try:
            while not self._closed:
                try:
                    if not self._work(self._client):
                        return
                    failures = 0
                except Exception as error:  # noqa: BLE001, PERF203 - see above
                    if not self._closed:
                        self._failed(error)
                        self._client.reset()
                        failures += 1
                        yield Wait(_delay_after(failures))
                        yield BLOCKING
        finally:
            self._client.close()
            self._finished.set()


def _delay_after(failures: int) -> float:
    """Return the seconds before another attempt, random so that the processes of a site do not try at the same time.

    :param failures: the number of failures in a row.
    """
    return random.uniform(0.5, 1) * doubled(_FIRST_DELAY, failures, LONGEST_DELAY)  # noqa: S311 - no secret
