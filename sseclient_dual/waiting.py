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
import sys
import threading
import time
import warnings
import weakref
from inspect import CO_COROUTINE
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Sequence

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


_PACKAGE = __file__.removesuffix("waiting.py")
_FIRST_WAIT = 1.0  # seconds after which a waiting main thread looks for signals, once
LONGEST_WAIT = 86_400.0  # seconds, a day: the longest time for which asyncio sleeps; selectors have a maximum, too


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
        """Wait for a wake-up, at most `timeout` seconds; return False if there was none.

        Warn if an event loop runs in this thread, unless the timeout is 0.
        """
        if timeout != 0:
            _warn_of_blocked_loop()
        left = threading.TIMEOUT_MAX if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        if left > _FIRST_WAIT and self._thread == threading.main_thread().ident:
            # The main thread handles signals, but not one that comes in the microseconds before it waits, or that the
            # system delivers to another thread: it would handle that only when it is woken.
            if self._token.acquire(timeout=_FIRST_WAIT):
                return True
            left -= _FIRST_WAIT
        return self._token.acquire(timeout=-1 if timeout is None else left)


def _warn_of_blocked_loop() -> None:
    """Warn about a wait in the thread of a running event loop; attribute it to the code that uses the package.

    Not in the cell of a notebook: Jupyter runs it in an event loop, for which any cell may block.
    """
    get_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)  # without importing asyncio
    if get_loop is None or get_loop() is None:
        return
    level = 1
    user = frame = sys._getframe()  # noqa: SLF001 - for this purpose
    while user.f_back is not None and user.f_code.co_filename.startswith(_PACKAGE):
        user = frame = user.f_back
        level += 1
    while not (frame.f_code.co_name == "<module>" and "get_ipython" in frame.f_globals):
        if frame.f_back is None or frame.f_code.co_flags & CO_COROUTINE:
            warnings.warn(
                "this call blocks the event loop of this thread, with all of its tasks; use the async API: 'async "
                "for' not 'for', 'async with' not 'with', 'await arecv()' not 'recv()', 'arelay()' not 'relay()'",
                RuntimeWarning,
                stacklevel=level,
            )
            return
        frame = frame.f_back


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop, for the async API.

    :raises RuntimeError: no asyncio event loop is running.
    """
    import asyncio  # noqa: PLC0415 - already imported where a loop is running; sync programs need not import it

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "the async API needs a running asyncio event loop; others, such as trio's, are not supported"
        ) from None


class TaskWaiter:
    """Parks a task of the running event loop, without using a thread.

    :raises RuntimeError: no asyncio event loop is running.
    """

    __slots__ = ("__weakref__", "_deadline", "_due", "_is_woken", "_parked", "_task", "_timer", "loop")

    def __init__(self) -> None:
        import asyncio  # noqa: PLC0415 - see `running_loop`

        self.loop = running_loop()
        self._task = asyncio.current_task()
        self._is_woken = False
        self._parked: asyncio.Future[bool] | None = None
        self._timer: asyncio.Handle | None = None  # of `parked`, due at the deadline or before it
        self._due = 0.0  # when it is, on the loop's clock; not all handles of uvloop can tell
        self._deadline: float | None = None  # that of the current wait by `parked`, on the loop's clock

    @property
    def is_usable(self) -> bool:
        """True if its event loop is running here."""
        return running_loop() is self.loop

    @property
    def abandoned(self) -> bool:
        """See `Waiter.abandoned`."""
        return self.loop.is_closed() or (self._task is not None and self._task.done())

    def wake(self) -> None:
        """See `Waiter.wake`."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no task is waiting
            self.loop.call_soon_threadsafe(self.resolve)

    def resolve(self, woken: bool = True) -> None:  # noqa: FBT001, FBT002 - the future's result
        """End the wait; called in the event loop."""
        if self._parked is None:
            self._is_woken = woken
        elif not self._parked.done():
            self._parked.set_result(woken)

    async def park(self, timeout: float | None = None) -> bool:
        """Wait for a wake-up, at most `timeout` seconds; return False if there was none."""
        if self._is_woken:
            self._is_woken = False
            return True
        self._parked = self.loop.create_future()
        timer = None if timeout is None else self.loop.call_later(timeout, self.resolve, False)  # noqa: FBT003
        parked = _parked_in(self.loop)
        parked.add(self)
        try:
            return await self._parked
        finally:
            self._parked = None
            parked.discard(self)
            if timer is not None:
                timer.cancel()

    def parked(self, timeout: float | None = None) -> asyncio.Future[bool]:
        """Begin a wait as `park` does, faster for a waiter that waits many times: await the future, then call `end`.

        Other code has to reference the waiter meanwhile. Its timer stays when the wait is over, so that the next wait
        need not set one. The task does not.
        """
        import asyncio  # noqa: PLC0415 - see `running_loop`

        self._task = asyncio.current_task(self.loop)
        self._parked = parked = self.loop.create_future()
        if self._is_woken:
            self._is_woken = False
            parked.set_result(True)
        elif timeout is not None:
            self._deadline = deadline = self.loop.time() + timeout
            if self._timer is None or self._due > deadline:
                self._set_timer(deadline)
        return parked

    def end(self) -> None:
        """End the wait that `parked` began."""
        self._parked = self._deadline = self._task = None

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = deadline
        self._timer = self.loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._deadline > self.loop.time():
            self._set_timer(self._deadline)
        else:
            self.resolve(woken=False)


# The parked waiters of each event loop. The loop references its set by a timer, so that the garbage collector frees
# no waiting task, but does free the tasks of a loop that is dropped. A timer for each wait would cost more than it.
_parked_waiters: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[set[TaskWaiter]]]
_parked_waiters = weakref.WeakKeyDictionary()


def _parked_in(loop: asyncio.AbstractEventLoop) -> set[TaskWaiter]:
    """Return the parked waiters of the running loop."""
    reference = _parked_waiters.get(loop)
    parked = None if reference is None else reference()
    if parked is None:
        parked = set()
        _keep(loop, parked)
        _parked_waiters[loop] = weakref.ref(parked)
    return parked


def _keep(loop: asyncio.AbstractEventLoop, parked: set[TaskWaiter]) -> None:
    loop.call_later(LONGEST_WAIT, _keep, loop, parked)


def wake_all(waiters: Sequence[Waiter]) -> None:
    """Wake several waiters, those of an event loop with one call."""
    if len(waiters) == 1:
        waiters[0].wake()
        return
    tasks: dict[asyncio.AbstractEventLoop, list[TaskWaiter]] = {}
    for waiter in waiters:
        if isinstance(waiter, TaskWaiter):
            tasks.setdefault(waiter.loop, []).append(waiter)
        else:
            waiter.wake()
    for loop, group in tasks.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no task is waiting
            loop.call_soon_threadsafe(_resolve_all, group)


def _resolve_all(waiters: list[TaskWaiter]) -> None:
    for waiter in waiters:
        waiter.resolve()


class Deadline:
    """The moment at which a timeout expires; never for a timeout of None."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float | None:
        """Return the seconds left, at least 0, or None for no limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


class Latch:
    """An event that happens once; any number of threads and tasks can wait for it.

    It needs no lock: a waiter is registered, and the list copied, in one step each.
    """

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._waiters: list[weakref.ref[Any]] = []  # weak references, as in Handoff
        self._is_set = False

    @property
    def is_set(self) -> bool:
        """True once it has happened."""
        return self._is_set

    def set(self) -> None:
        """Record that it has happened, and wake all waiters."""
        self._is_set = True
        for reference in tuple(self._waiters):
            waiter: Waiter | None = reference()
            if waiter is not None:  # pragma: no branch - rare: it ended after the line above made its copy
                waiter.wake()

    def wait(self, timeout: float | None = None, waiter: ThreadWaiter | None = None) -> bool:
        """Block until it has happened or `waiter` was woken, at most `timeout` seconds; return False if neither."""
        waiter = waiter or ThreadWaiter()
        reference = weakref.ref(waiter)
        try:
            self._waiters.append(reference)
            return self._is_set or waiter.park(timeout)
        finally:
            self._unregister(reference)

    async def _wait(self) -> None:
        """Wait without a limit: the async form of `wait`."""
        waiter = TaskWaiter()
        reference = weakref.ref(waiter)
        try:
            self._waiters.append(reference)
            while not self._is_set:
                await waiter.park()
        finally:
            self._unregister(reference)

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    def _unregister(self, reference: weakref.ref[Any]) -> None:
        with contextlib.suppress(ValueError):  # an interruption came before it was registered
            self._waiters.remove(reference)
