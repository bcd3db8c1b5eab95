"""How a thread or a task waits: waiters, latches and deadlines.

Code that has to wait uses a *waiter* of its own, and other code only wakes waiters. The sync and the async API differ
only in the kind of waiter. Four rules make the waits correct:

- **Register, then check.** A waiter is registered before the condition is checked for the last time. Any later change
  of the condition finds the waiter, and a wake-up that comes before the waiter parks is kept.
- **A wake-up is a hint.** A woken waiter checks the condition again.
- **Wake, then unregister.** Ctrl-C may interrupt any line; an extra wake-up is harmless, a missing one is not.
- **Locks are re-entrant and held briefly.** `close()` may run in a signal handler or a finalizer that interrupts its
  own thread anywhere, including inside a locked block, and the first rules hold there, too. A handler that raises
  leaves no lock locked, see `Lock`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_lock_owners: weakref.WeakSet[LockOwner] = weakref.WeakSet()


class LockOwner(Protocol):
    """An object with locks that a forked child needs; see `renew_locks_after_fork`."""

    def _renew_locks(self) -> None:
        """Replace the locks by new ones: in the child, no thread is left to release a lock held at the fork."""


def renew_locks_after_fork(owner: LockOwner) -> None:
    """Register an object for `LockOwner._renew_locks` in every forked child, as long as the object lives."""
    _lock_owners.add(owner)


def _after_fork_in_child() -> None:
    for owner in tuple(_lock_owners):
        owner._renew_locks()  # noqa: SLF001 - the protocol's only method; private, because owners are public classes


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Lock:
    """A re-entrant lock for ``with`` blocks, which is released even if a signal handler raises.

    From Python 3.14 on, ``with`` calls `__enter__` outside of the code that `__exit__` protects. Signal handlers run
    after calls of C functions: if one raised just after the `__enter__` of an `RLock`, the lock would stay locked.
    They do not run after a function in Python, so this `__enter__` handles the exception itself. They do run at the
    start of a function in Python, so `__exit__` has to be that of the `RLock`.
    """

    __slots__ = ("__exit__", "_lock")

    __exit__: Callable[..., None]

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.__exit__ = self._lock.__exit__

    def __enter__(self) -> None:
        try:
            self._lock.acquire()
        except BaseException:
            # The handler ran after the call, or else during a wait, in which case this thread holds no lock.
            try:  # noqa: SIM105 - a context manager is a function in Python: a second handler could run before the release
                self._lock.release()
            except RuntimeError:
                pass
            raise


_LONGEST_WAIT = 86_400.0  # seconds, a day: the longest time for which asyncio sleeps


class Waiter(Protocol):
    """A waiting thread or task, as seen by the code that wakes it."""

    def wake(self) -> None:
        """End the wait, or the next one if none is on; callable from any thread, signal handler or finalizer."""

    @property
    def abandoned(self) -> bool:
        """True if the waiter ended without unregistering."""


class ThreadWaiter:
    """Parks a thread."""

    def __init__(self) -> None:
        # A lock used as a flag. Queues and conditions are unsuitable: a queue may sleep past its timeout (CPython up
        # to 3.12), and a condition is not safe in signal handlers.
        self._token = threading.Lock()
        self._token.acquire()
        self._thread = threading.get_ident()

    @property
    def abandoned(self) -> bool:
        """See `Waiter.abandoned`. A thread that asks about itself is not parked, except in a signal handler."""
        return self._thread == threading.get_ident()

    def wake(self) -> None:
        """See `Waiter.wake`."""
        try:  # noqa: SIM105 - on the hot path, and making a context manager takes as long as all of this
            self._token.release()
        except RuntimeError:  # already woken
            pass

    def park(self, timeout: float | None = None) -> bool:
        """Wait for a wake-up, at most `timeout` seconds; return False if there was none."""
        return self._token.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))


class TaskWaiter:
    """Parks a task of the running event loop, without using a thread.

    :raises RuntimeError: no asyncio event loop is running.
    """

    def __init__(self) -> None:
        import asyncio  # noqa: PLC0415 - already imported where a loop is running; sync programs need not import it

        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "the async API needs a running asyncio event loop; others, such as trio's, are not supported"
            ) from None
        self._task = asyncio.current_task()
        self._woken: asyncio.Future[bool] = self._loop.create_future()

    @property
    def abandoned(self) -> bool:
        """See `Waiter.abandoned`."""
        return self._loop.is_closed() or (self._task is not None and self._task.done())

    def wake(self) -> None:
        """See `Waiter.wake`."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no task is waiting
            self._loop.call_soon_threadsafe(self._resolve, True)  # noqa: FBT003 - the future's result

    def _resolve(self, woken: bool) -> None:  # noqa: FBT001 - the future's result
        if not self._woken.done():
            self._woken.set_result(woken)

    async def park(self, timeout: float | None = None) -> bool:
        """Wait for a wake-up, at most `timeout` seconds; return False if there was none."""
        # Without a timeout, too, a timer is set: through it the event loop references this waiter and so the task,
        # which the garbage collector would otherwise free if nothing else does. Expiry is then an extra wake-up.
        limit = _LONGEST_WAIT if timeout is None else timeout
        timer = self._loop.call_later(limit, self._resolve, timeout is None)
        try:
            return await self._woken
        finally:
            self._woken = self._loop.create_future()  # for the next wait
            timer.cancel()


class Deadline:
    """The moment at which a timeout expires; never for a timeout of None."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float | None:
        """Return the seconds left, at least 0, or None for no limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


class Latch:
    """An event that happens once; any number of threads and tasks can wait for it."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards _waiters
        self._waiters: weakref.WeakSet[Waiter] = weakref.WeakSet()  # weak references, as in Handoff
        self._is_set = False

    def renew_lock(self) -> None:
        """See `LockOwner._renew_locks`."""
        self._lock = Lock()

    @property
    def is_set(self) -> bool:
        """True once it has happened."""
        return self._is_set

    def set(self) -> None:
        """Record that it has happened, and wake all waiters."""
        self._is_set = True
        with self._lock:
            for waiter in tuple(self._waiters):  # a copy: a waiter may unregister meanwhile (last rule)
                waiter.wake()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has happened, at most `timeout` seconds; return False if it has not."""
        waiter = ThreadWaiter()
        try:
            return self._register(waiter) or waiter.park(timeout)
        finally:
            self._unregister(waiter)

    async def _wait(self) -> None:
        """Wait without a limit: the async form of `wait`."""
        waiter = TaskWaiter()
        try:
            while not self._register(waiter):
                await waiter.park()
        finally:
            self._unregister(waiter)

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    def _register(self, waiter: Waiter) -> bool:
        with self._lock:
            self._waiters.add(waiter)
        return self._is_set

    def _unregister(self, waiter: Waiter) -> None:
        with self._lock:
            self._waiters.discard(waiter)
