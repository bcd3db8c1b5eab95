"""`Routine`: a generator that yields its waits, and what the hub knows about it."""

from __future__ import annotations

import logging
from collections.abc import Generator
from selectors import EVENT_READ
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from sseclient_dual.logs import log
from sseclient_dual.waiting import ThreadWaiter

if TYPE_CHECKING:
    import contextvars
    import socket
    from collections import deque
    from collections.abc import Callable

    from sseclient_dual.waiting import Waiter


class Wait:
    """A wait: until the socket is ready, or `Routine.wake` is called, or the time is over.

    ``yield`` of it returns False if the time is over, True otherwise. An object may be yielded any number of times.

    :param timeout: seconds since the hub last looked at the clock, None for no limit.
    :param sock: the socket to wait for; call `Routine.unwatch` before it is closed.
    :param work: called by the hub whenever the socket can be read; without a socket, whenever `Routine.wake` was
        called. If it returns True, the wait starts again, without the generator, which takes longer. An error that it
        raises is raised by the ``yield``.
    """

    __slots__ = ("events", "sock", "timeout", "work")

    def __init__(
        self,
        timeout: float | None = None,
        sock: socket.socket | None = None,
        work: Callable[[], bool] = bool,  # which returns False
    ) -> None:
        self.timeout = timeout
        self.sock = sock
        self.work = work
        self.events = EVENT_READ
        """Or ``EVENT_WRITE``, to wait until the socket can send, or both together."""


BLOCKING: Final = Wait()
"""Yielded to continue on a worker; returns None, or the RuntimeError if no thread can be started."""

Waits: TypeAlias = Generator[Wait, Any, None]


class Timer:
    """An entry of `Timers`; its routine is None once it is cancelled."""

    __slots__ = ("routine", "when")

    def __init__(self, when: float, routine: Routine) -> None:
        self.when = when
        self.routine: Routine | None = routine

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Keeper(Protocol):
    """The hub, as seen by its routines."""

    woken_consumers: list[Waiter]
    """To wake at the end of the round; for routines on the hub's thread."""
    notified: deque[Routine]
    """To resume soon; only routines on the hub's thread may append to it without ending the poller's wait."""

    def notify(self, routine: Routine) -> None:
        """Resume a routine that was woken, if it waits."""

    def unwatch(self, routine: Routine) -> None:
        """Stop watching the routine's socket."""


class Routine:
    """A generator, run by the hub's thread and by workers, by one at a time; see `Hub.start`.

    Any thread may call `wake`; only the generator may call `again`, `unwatch`, `wake_consumer` and
    `wake_routine`.

    :param name: added to the name of a worker while it runs the generator.
    """

    __slots__ = (
        "_waiter", "context", "deadline", "descriptor", "events", "generator", "hub", "is_here", "is_woken", "name",
        "timer", "unclaimed", "wait",
    )  # fmt: skip

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.unclaimed = [True]
        """Empty once a worker has begun to run the generator."""
        # Used by the thread that runs the generator.
        self.generator: Waits | None = None
        self.context: contextvars.Context | None = None
        self.is_woken = False
        """Set by `wake`, cleared before the generator is resumed after a wait."""
        self.hub: Keeper | None = None
        """Set before the first wait."""
        # Used by the hub's thread.
        self.is_here = False
        """True if the generator waits, or runs, on the hub's thread."""
        self.wait: Wait | None = None
        """The current wait, or the last one."""
        self.descriptor = -1
        """That of the wait's socket while it is watched, for the `events`."""
        self.events = 0
        self.deadline: float | None = None
        """The end of the current wait."""
        self.timer: Timer | None = None
        self._waiter: ThreadWaiter | None = None  # while it waits on a worker

    def wake(self) -> None:
        """End the current wait, or the next one; callable from any thread, signal handler or finalizer."""
        self.is_woken = True
        hub, waiter = self.hub, self._waiter
        if hub is not None:
            hub.notify(self)
        if waiter is not None:
            waiter.wake()

    def again(self) -> None:
        """End the next wait at once, as soon as the other routines had their turn."""
        self.is_woken = True

    def unwatch(self) -> None:
        """Stop watching the socket of the last wait, which is about to be closed."""
        if self.descriptor >= 0 and self.hub is not None:
            self.hub.unwatch(self)

    def wake_consumer(self, waiter: Waiter) -> None:
        """Wake a waiter; on the hub's thread, at the end of the round, with all others."""
        if self.is_here and self.hub is not None:
            self.hub.woken_consumers.append(waiter)
        else:
            waiter.wake()

    def wake_routine(self, other: Routine) -> None:
        """Wake another routine; on the hub's thread without the system call of `wake`."""
        if self.is_here and self.hub is not None and other.hub is self.hub:
            other.is_woken = True
            self.hub.notified.append(other)
        else:
            other.wake()

    # -- called by the hub and the workers

    def wait_here(self, timeout: float | None) -> bool:
        """Wait on this thread, because the hub cannot run; return False if the time is over."""
        self._waiter = ThreadWaiter()
        woken = self.is_woken or self._waiter.park(timeout)
        self._waiter = None
        self.is_woken = False
        return woken

    def resume(self, value: object = None) -> Wait | None:
        """Run the generator to its next wait, and return that; None at its end."""
        return self._step(self.generator.send, value)  # type: ignore[union-attr] # an ended one is not resumed

    def throw(self, error: BaseException) -> Wait | None:
        """Raise an error from the current wait; otherwise as `resume`."""
        return self._step(self.generator.throw, error)  # type: ignore[union-attr] # as above

    def _step(self, step: Callable[[Any], Wait], argument: object) -> Wait | None:
        try:
            return step(argument)
        except StopIteration:
            pass
        except BaseException:  # noqa: BLE001 - it must not end the thread that all routines use
            log(logging.ERROR, "unexpected error", name=self.name, exc_info=True)
        self.generator = None
        return None
