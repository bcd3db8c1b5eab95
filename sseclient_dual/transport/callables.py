"""`UserCalls`: calls the user's functions for one attempt, and awaits the results of async ones.

A worker thread calls the functions. An awaitable runs on the event loop that opened the connection, or else on a
private loop, of which there is one for the process: objects that belong to a loop, such as an `asyncio.Lock` or the
session of an HTTP client, can then be shared by all calls.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from sseclient_dual.errors import SSEConnectionError, unmistakable
from sseclient_dual.waiting import Lock, ThreadWaiter, renew_locks_after_fork

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class UserCalls:
    """Calls functions of the user, one at a time; any thread may abort the wait for an awaitable.

    :param origin: the origin of the request, for messages.
    :param loop: the event loop that opened the connection; None for the private loop.
    :param name: the name of the connection, which the names of tasks contain.
    """

    def __init__(self, origin: str, loop: asyncio.AbstractEventLoop | None, name: str) -> None:
        self._origin = origin
        self._loop = loop
        self._name = name
        self._awaiting: _Awaiting | None = None
        self._aborted = False

    def call(self, argument: str, function: Callable[[], Any], check: Callable[[Any], T]) -> T:
        """Call the function of an argument, and return its checked result, awaited if necessary.

        :raises Exception: any error of the function or of `check`; see `unmistakable`.
        :raises SSEConnectionError: `abort` was called, or the private loop cannot be started.
        """
        try:
            value = function()
            if inspect.isawaitable(value):
                value = self._wait_for(value, argument)
            return check(value)
        except Exception as error:  # noqa: BLE001 - raised again
            raise unmistakable(error, argument)  # noqa: B904 - it has its cause

    def _wait_for(self, awaitable: Awaitable[object], argument: str) -> object:
        awaiting = self._awaiting = _Awaiting(awaitable, f"sseclient_dual {self._name}")
        loop = self._loop
        try:
            if loop is None or loop.is_closed():
                loop = private_loop()
        except (OSError, RuntimeError) as error:
            awaiting.give_up()
            raise SSEConnectionError(
                f"{self._origin}: no event loop could be started for the {argument} callable",
                remedy="raise the limits of threads and of open files (ulimit -u, ulimit -n)",
            ) from error
        awaiting.start(loop)
        while not awaiting.is_over and not self._aborted:
            awaiting.waiter.park()
        self._awaiting = None  # its result may be secret
        if not awaiting.is_over:
            awaiting.give_up()
            raise SSEConnectionError(f"{self._origin}: the wait for the {argument} callable was ended")
        return awaiting.result(argument)

    def abort(self) -> None:
        """End the wait for an awaitable, and cancel that; callable from any thread, signal handler or finalizer."""
        self._aborted = True
        awaiting = self._awaiting
        if awaiting is not None:
            awaiting.waiter.wake()


class _Awaiting:
    """An awaitable on an event loop, for which a thread waits."""

    def __init__(self, awaitable: Awaitable[object], name: str) -> None:
        self.waiter = ThreadWaiter()
        self.is_over = False
        self._name = name
        self._unclaimed = [awaitable]  # empty once the loop has begun to await it, or the thread has given up
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None  # used in the loop until it is over

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        with contextlib.suppress(IndexError):
            awaitable = self._unclaimed.pop()
            assert self._loop is not None  # noqa: S101 - `start` has set it
            self._task = self._loop.create_task(_await(awaitable), name=self._name)
            self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[object]) -> None:
        if not task.cancelled():
            task.exception()  # it is not reported as unnoticed if nothing waits any more
        self.is_over = True
        self.waiter.wake()

    def result(self, argument: str) -> object:
        assert self._task is not None  # noqa: S101 - it is over
        if self._task.cancelled():
            raise RuntimeError(f"the {argument} callable was cancelled")
        return self._task.result()

    def give_up(self) -> None:
        """Cancel the task, or close the coroutine if the loop has not begun with it."""
        try:
            awaitable = self._unclaimed.pop()
        except IndexError:
            assert self._loop is not None  # noqa: S101 - the loop has begun
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._cancel)
        else:
            if inspect.iscoroutine(awaitable):
                awaitable.close()

    def _cancel(self) -> None:
        assert self._task is not None  # noqa: S101 - `_begin` ran before
        self._task.cancel()


async def _await(awaitable: Awaitable[object]) -> object:
    return await awaitable


class _PrivateLoop:
    """An event loop on a thread, started on demand; both live until the end of the process."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards _loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loops_of_parents: list[asyncio.AbstractEventLoop | None] = []  # of a forked process; never freed
        renew_locks_after_fork(self)

    def _renew_locks(self) -> None:
        """See `waiting.LockOwner`; called in a forked child, where the thread does not run."""
        self._lock = Lock()
        self._loops_of_parents.append(self._loop)
        self._loop = None

    def get(self) -> asyncio.AbstractEventLoop:
        """Return the running loop.

        :raises OSError: no descriptor is left for the loop.
        :raises RuntimeError: no thread can be started.
        """
        import asyncio  # noqa: PLC0415 - sync programs need not import it

        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run, args=(loop,), name="sseclient_dual loop", daemon=True)
                try:
                    contextvars.Context().run(thread.start)  # not in the user's context, see `Hub`
                except BaseException:
                    loop.close()
                    raise
                self._loop = loop
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        with contextlib.suppress(SystemExit, KeyboardInterrupt):  # of a task, which also keeps it for its waiter
            loop.run_forever()


_private_loop = _PrivateLoop()


def private_loop() -> asyncio.AbstractEventLoop:
    """Return the private loop of this process; see `_PrivateLoop.get`."""
    return _private_loop.get()
