"""`Hub`: the thread that waits for all routines at once, and resumes them."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import socket
import threading
import time
from collections import deque
from functools import partial
from selectors import EVENT_READ
from typing import TYPE_CHECKING

from sseclient_dual.waiting import LONGEST_WAIT, Lock, wake_all

from .poller import make_poller
from .routine import BLOCKING
from .timers import Timers
from .workers import WORKER, Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual.waiting import Waiter

    from .poller import Poller
    from .routine import Routine, Wait, Waits

_LONGEST_IDLE = 3.0  # seconds without routines after which the thread ends


class Hub:
    """One thread, its poller, its timers and its wake-up; the thread runs while there are routines."""

    def __init__(self) -> None:
        self._workers = Workers()
        # Guards _running, _routines, _wakeup, and starting and ending the thread.
        self._lock = Lock()
        self._running = False
        self._routines: set[Routine] = set()  # all that have waited here and have not ended
        self._wakeup: socket.socket | None = None  # sending a byte ends the poller's wait
        # Any thread appends to them, and then sends a byte.
        self._arrivals: deque[tuple[Routine, Wait]] = deque()
        self.notified: deque[Routine] = deque()  # see `Keeper`
        # Used by the hub's thread only.
        self._now = 0.0
        self.woken_consumers: list[Waiter] = []
        """To wake at the end of the round; only routines on the hub's thread append to it."""
        self._timers = Timers()
        self._wakeups: socket.socket | None = None  # receives the bytes
        self._poller: Poller | None = None

    # -- called by any thread

    def start(self, routine: Routine, make: Callable[[], Waits]) -> None:
        """Run the generator that `make` returns, first on a worker, in a copy of the caller's context.

        Calling it again, as after an interruption by a signal handler, never runs a second generator.

        :raises RuntimeError: no thread can be started.
        """
        self._workers.submit(partial(self._begin, routine, make, contextvars.copy_context()))

    def call(self, job: Callable[[], object]) -> None:
        """Run a job that may block on a worker, in a copy of the caller's context; the job must not raise.

        :raises RuntimeError: no thread can be started.
        """
        self._workers.submit(partial(contextvars.copy_context().run, job))

    def notify(self, routine: Routine) -> None:
        """Resume a routine that was woken, if it waits."""
        with self._lock:
            self.notified.append(routine)
            self._interrupt()

    def _interrupt(self) -> None:
        """End the poller's wait, or else its next one. Holds the lock."""
        if self._wakeup is not None:
            with contextlib.suppress(BlockingIOError):  # enough bytes are on their way
                self._wakeup.send(b"\0")

    def wait_for_starts(self) -> None:
        """See `Workers.wait_for_starts`."""
        with self._lock:  # under which the thread of the hub is started
            self._workers.wait_for_starts()

    def abandon(self) -> None:
        """In a forked child, where the thread does not run: close the copied descriptors, and keep the routines.

        Freeing their generators would run the code that closes the parent's connections.
        """
        self._lock = Lock()
        self._close()

    # -- called by workers

    def _begin(self, routine: Routine, make: Callable[[], Waits], context: contextvars.Context) -> None:
        try:
            routine.unclaimed.pop()
        except IndexError:  # started twice
            return
        with contextlib.suppress(OSError, RuntimeError), self._lock:  # `_take` tries again, and handles the error
            self._ensure_running()  # before the generator connects and uses the last descriptors
        routine.context = context
        routine.generator = make()
        self._work(routine)

    def _work(self, routine: Routine) -> None:
        thread = threading.current_thread()
        thread.name = f"{WORKER} {routine.name}" if routine.name else WORKER
        try:
            self._run_blocking(routine)
        finally:
            thread.name = WORKER

    def _run_blocking(self, routine: Routine) -> None:
        """Run the generator until its next wait that needs no worker, or its end."""
        assert routine.context is not None  # noqa: S101 - set when it began
        wait: Wait | None = BLOCKING
        while wait is not None:
            if wait is BLOCKING:
                wait = routine.context.run(routine.resume)
                continue
            try:
                self._take(routine, wait)
            except (OSError, RuntimeError) as error:  # the thread cannot be started
                if wait.sock is None:
                    wait = routine.context.run(routine.resume, routine.wait_here(wait.timeout))
                else:
                    wait = routine.context.run(routine.throw, error)
            else:
                return
        self._discard(routine)

    def _take(self, routine: Routine, wait: Wait) -> None:
        """Take a routine over from its worker; start the thread if necessary.

        :raises OSError: there is no descriptor left for the poller.
        :raises RuntimeError: no thread can be started.
        """
        with self._lock:
            self._ensure_running()
            self._routines.add(routine)
            routine.hub = self
            self._arrivals.append((routine, wait))
            self._interrupt()

    def _discard(self, routine: Routine) -> None:
        """Forget a routine that has ended."""
        routine.hub = None
        with self._lock:
            self._routines.discard(routine)

    def _ensure_running(self) -> None:
        if self._running:
            return
        try:
            self._wakeup, self._wakeups = socket.socketpair()
            for sock in (self._wakeup, self._wakeups):
                sock.settimeout(0)
            self._poller = make_poller()
            self._poller.watch(self._wakeups, EVENT_READ, None)
            thread = threading.Thread(target=self._run, name="sseclient_dual hub", daemon=True)
            # Free-threaded builds run a thread in a copy of its starter's context: it must not be that of a user.
            contextvars.Context().run(thread.start)
        except BaseException:
            self._close()
            raise
        self._running = True

    def _close(self) -> None:
        for resource in (self._wakeup, self._wakeups, self._poller):
            if resource is not None:
                resource.close()
        self._wakeup = self._wakeups = self._poller = None
        self._running = False

    # -- called by the hub's thread

    def _run(self) -> None:
        try:
            while self._round():
                pass
        except BaseException as error:  # noqa: BLE001 - the consumers of all streams raise it
            self._fail(error)

    def _round(self) -> bool:
        """Wait, and resume the routines whose waits are over; return False if the thread ends."""
        assert self._poller is not None and self._wakeups is not None  # noqa: S101, PT018 - open while it runs
        ready = self._poller.wait(self._longest_wait())
        self._now = time.monotonic()
        for routine in ready:
            if routine is not None:
                self._serve(routine)
            else:
                with contextlib.suppress(BlockingIOError):  # it was not ready after all, see select(2)
                    self._wakeups.recv(4096)
        if self._arrivals or self.notified:
            self._take_messages()
        if self._timers.are_due(self._now):
            for routine in self._timers.expired(self._now):
                self._resume(routine, value=False)
        if self.woken_consumers:
            # Now, so that they do not compete with this thread for the GIL.
            waiters, self.woken_consumers = self.woken_consumers, []
            wake_all(waiters)
        return bool(ready) or not self._ends()

    def _take_messages(self) -> None:
        for _ in range(len(self._arrivals)):
            self._park(*self._arrivals.popleft())
        for _ in range(len(self.notified)):
            routine = self.notified.popleft()
            if not (routine.is_here and routine.is_woken):
                continue
            if routine.descriptor >= 0:
                self._resume(routine, value=True)
            else:
                routine.is_woken = False
                self._serve(routine)

    def _longest_wait(self) -> float | None:
        """Return the seconds for which the poller may wait."""
        if self.notified:  # by their own generators, without a byte
            return 0
        if not self._routines:
            return _LONGEST_IDLE
        due = self._timers.next()
        return None if due is None else min(max(0.0, due - time.monotonic()), LONGEST_WAIT)

    def _ends(self) -> bool:
        """End the use of this thread if there are no routines, and return whether it ended."""
        with self._lock:
            if self._routines:
                return False
            self._close()
            return True

    def _serve(self, routine: Routine) -> None:
        """Do the work of a wait whose socket is ready, or that has none and was woken."""
        wait = routine.wait
        assert wait is not None  # noqa: S101 - it waits
        try:
            goes_on = routine.events == EVENT_READ and wait.work()
        except BaseException as error:  # noqa: BLE001 - raised from the wait
            self._follow(routine, routine.throw(error))
            return
        if not goes_on:
            self._resume(routine, value=True)
        elif wait.timeout is not None:
            routine.deadline = self._now + wait.timeout  # its timer is due before that, see `Timers`

    def _resume(self, routine: Routine, *, value: bool) -> None:
        routine.is_woken = False
        self._follow(routine, routine.resume(value))

    def _follow(self, routine: Routine, wait: Wait | None) -> None:
        """Do what the generator yielded."""
        while wait is BLOCKING:
            self.unwatch(routine)
            routine.is_here = False  # first: the worker may begin at once
            try:
                self._workers.submit(partial(self._work, routine))
            except RuntimeError as error:
                routine.is_here = True
                wait = routine.resume(error)
            else:
                return
        if wait is not None:
            self._park(routine, wait)
        else:
            self.unwatch(routine)
            self._timers.cancel(routine)
            routine.is_here = False
            self._discard(routine)

    def _park(self, routine: Routine, wait: Wait) -> None:
        if wait is not routine.wait or wait.events != routine.events:
            self.unwatch(routine)
            try:
                self._watch(routine, wait)
            except (OSError, ValueError) as error:
                self._follow(routine, routine.throw(error))
                return
        routine.deadline = None if wait.timeout is None else self._now + wait.timeout
        if routine.deadline is not None:
            self._timers.set(routine, routine.deadline)
        routine.is_here = True
        if routine.is_woken:
            self.notified.append(routine)

    def _watch(self, routine: Routine, wait: Wait) -> None:
        if wait.sock is not None and self._poller is not None:
            routine.descriptor = self._poller.watch(wait.sock, wait.events, routine)
        routine.wait, routine.events = wait, wait.events

    def unwatch(self, routine: Routine) -> None:
        """Stop watching the routine's socket."""
        routine.wait = None
        descriptor, routine.descriptor = routine.descriptor, -1
        if descriptor >= 0 and self._poller is not None:
            self._poller.unwatch(descriptor)

    def _fail(self, error: BaseException) -> None:
        """Raise the error that ended this thread from all waits; the next routine starts another thread."""
        with self._lock:
            waiting = [routine for routine in self._routines if routine.is_here]
            waiting += [routine for routine, _ in self._arrivals]
            consumers, self.woken_consumers = self.woken_consumers, []
            self._arrivals.clear()
            self._timers = Timers()
            for routine in self._routines:
                routine.timer = None
            self._routines.difference_update(waiting)
            self._close()
        wake_all(consumers)
        for routine in waiting:
            routine.is_here = False
            routine.wait, routine.descriptor = None, -1
            failure = RuntimeError("the thread that reads all streams failed")
            failure.__cause__ = error
            while routine.generator is not None:
                routine.throw(failure)


# One for the process; another one once gevent has patched `threading`, because native threads and greenlets cannot
# wake each other.
_hubs: dict[object, Hub] = {}
_hubs_of_parent: list[Hub] = []


def current() -> Hub:
    """Return the hub of this process."""
    return _hubs.get(threading.Lock) or _hubs.setdefault(threading.Lock, Hub())


@atexit.register
def _wait_for_starts() -> None:
    for hub in tuple(_hubs.values()):
        hub.wait_for_starts()


def _after_fork_in_child() -> None:
    for hub in _hubs.values():
        hub.abandon()
        _hubs_of_parent.append(hub)
    _hubs.clear()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
