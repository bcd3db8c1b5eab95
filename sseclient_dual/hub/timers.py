"""`Timers`: the deadlines of all waits.

A stream that receives data moves its deadline with every read. So a routine keeps its timer: the timer is due at the
deadline or before it, and then set again.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from .routine import Timer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .routine import Routine

_FEW = 64  # cancelled timers that may stay in the heap


class Timers:
    """The timers of all routines, at most one each; times are those of ``time.monotonic``."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._cancelled = 0  # the number of cancelled ones in the heap

    def next(self) -> float | None:
        """Return the time at which `expired` may return something, None if never."""
        return self._heap[0].when if self._heap else None

    def are_due(self, now: float) -> bool:
        """Return whether `expired` may return something."""
        return bool(self._heap) and self._heap[0].when <= now

    def set(self, routine: Routine, deadline: float) -> None:
        """Make sure that a timer is due at the routine's deadline, or before it."""
        if routine.timer is None or routine.timer.when > deadline:
            self.cancel(routine)
            routine.timer = Timer(deadline, routine)
            heapq.heappush(self._heap, routine.timer)

    def cancel(self, routine: Routine) -> None:
        """Remove the routine's timer."""
        timer, routine.timer = routine.timer, None
        if timer is None:
            return
        timer.routine = None
        self._cancelled += 1
        if self._cancelled > _FEW and self._cancelled > len(self._heap) // 2:
            self._heap = [timer for timer in self._heap if timer.routine is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def expired(self, now: float) -> Iterator[Routine]:
        """Remove the timers that are due, and return the waiting routines whose deadline has come."""
        while self._heap and self._heap[0].when <= now:
            routine = heapq.heappop(self._heap).routine
            if routine is None:
                self._cancelled -= 1
                continue
            routine.timer = None
            if routine.is_here and routine.deadline is not None:
                if routine.deadline <= now:
                    yield routine
                else:
                    self.set(routine, routine.deadline)
