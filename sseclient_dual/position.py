"""`Position`: the hand-off of a connection with a checkpoint; it saves how far the consumer is.

Asking for the next item *commits* the event before it: the consumer is done with that event. A committed event is
saved at once if the last save is at least an interval ago, else as soon as it is, also while the consumer waits.

The checkpoint belongs to the user, so its methods may block and raise. They run in the consumer's thread; in the
async API on a worker, so that they do not block the event loop.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from .checks import check_last_event_id
from .errors import unmistakable
from .event import SSEEvent
from .handoff import Finished
from .hub import current
from .waiting import Deadline, Latch, Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .checkpoint import Checkpoint
    from .event import Signal
    from .handoff import Handoff

T = TypeVar("T")


class Position:
    """Hands the items of a hand-off to the consumer, and saves its position.

    :param interval: the minimum number of seconds between two saves, except for those by `commit` and at the end.
    :param last_event_id: resume after this event; None: after the one that the checkpoint holds.
    """

    ready: Iterator[Signal] = iter(())
    """Always empty: the fast path of the connection, which commits nothing, is never taken."""

    def __init__(
        self, handoff: Handoff[Signal], checkpoint: Checkpoint, interval: float, last_event_id: str | None
    ) -> None:
        self._handoff = handoff
        self._checkpoint = checkpoint
        self._interval = interval
        self.first_id = last_event_id or ""
        """The ID to resume after; see `load`."""
        self._last: SSEEvent | None = None  # the last event handed to the consumer
        # Guards taking over the ID of `_last`, so that no thread takes over an older one later.
        self._commit_lock = Lock()
        self._committed: str | None = None  # the ID to save, None before the first
        # Held during each call of the checkpoint, so that calls never overlap; guards the attributes below.
        self._lock = Lock()
        self._loaded = last_event_id is not None
        self._saved: str | None = None  # the ID that the checkpoint holds, None if unknown
        self._due = 0.0  # from this time on, another save is allowed
        self._job: _Job | None = None  # the last call on a worker

    def renew_lock(self) -> None:
        """See `LockOwner._renew_locks`."""
        self._lock = Lock()
        self._commit_lock = Lock()
        self._job = None

    # -- the position

    def load(self) -> None:
        """Set `first_id` to the ID that the checkpoint holds, unless that was done before.

        :raises TypeError: `Checkpoint.load` returned something else.
        :raises ValueError: `Checkpoint.load` returned a str that is not an ID.
        :raises Exception: any error of `Checkpoint.load`.
        """
        with self._lock:
            if self._loaded:
                return
            loaded = _called("load", self._checkpoint.load)
            try:
                self.first_id = "" if loaded is None else check_last_event_id(loaded)
            except (TypeError, ValueError) as error:
                raise type(error)(f"checkpoint.load() returned an invalid ID: {error}") from None
            self._saved = self._committed = self.first_id
            self._loaded = True

    async def aload(self) -> None:
        """Call `load` on a worker."""
        if not self._loaded:
            await self._on_worker(self.load)

    def commit(self) -> None:
        """Save the position after the last event handed to the consumer.

        :raises Exception: any error of `Checkpoint.save`.
        """
        self._commit_last()
        self._save()

    async def acommit(self) -> None:
        """Save the position: the async form of `commit`."""
        self._commit_last()
        if self._delay() is not None:
            await self._on_worker(self._save)

    def _commit_last(self) -> None:
        with self._commit_lock:
            if self._last is not None:
                self._committed = self._last.last_event_id

    def _delay(self) -> float | None:
        """Return the seconds until the next save, None if there is nothing to save."""
        if self._committed == self._saved:
            return None
        return max(0.0, self._due - time.monotonic())

    def _save(self) -> None:
        with self._lock:
            committed = self._committed
            if committed is None or committed == self._saved:
                return
            self._due = time.monotonic() + self._interval
            self._saved = None  # until the call returns
            _called("save", lambda: self._checkpoint.save(committed))
            self._saved = committed

    async def _on_worker(self, call: Callable[[], None]) -> None:
        if self._job is not None:
            await self._job.done  # a cancelled task may have left it running
        job = _Job(call)
        current().call(job.run)
        self._job = job
        await job.done
        job.check()

    @property
    def calls(self) -> list[Latch]:
        """The latch of the last call on a worker, which may be running."""
        return [] if self._job is None else [self._job.done]

    # -- the hand-off

    def __len__(self) -> int:
        return len(self._handoff)

    def take_error(self) -> BaseException | None:
        """See `Handoff.take_error`."""
        return self._handoff.take_error()

    def get(self, timeout: float | None = None) -> Signal:
        """Commit the last event, and return the next item; see `Handoff.get`.

        :raises Exception: any error of `Checkpoint.save`. No item is lost.
        """
        self._commit_last()
        deadline = Deadline(timeout)
        while True:
            delay = self._delay()
            if delay == 0:
                self._save()
                delay = None
            left = deadline.remaining()
            wait = _shorter(delay, left)
            try:
                signal = self._handoff.get(wait)
            except TimeoutError:
                if wait == left:
                    raise
                continue  # a save is due
            except Finished:
                self._save()
                raise
            if signal.__class__ is SSEEvent:  # no call, see `Handoff.ready`
                self._last = signal
            return signal

    async def aget(self, timeout: float | None = None) -> Signal:
        """Commit the last event, and return the next item: the async form of `get`.

        If the wait is cancelled, a save that has begun goes on, and the next call waits for it.
        """
        self._commit_last()
        deadline = Deadline(timeout)
        while True:
            delay = self._delay()
            if delay == 0:
                await self._on_worker(self._save)
                delay = None
            left = deadline.remaining()
            wait = _shorter(delay, left)
            try:
                signal = await self._handoff.aget(wait)
            except TimeoutError:
                if wait == left:
                    raise
                continue
            except Finished:
                await self.acommit()
                raise
            if signal.__class__ is SSEEvent:
                self._last = signal
            return signal


class _Job:
    """A call on a worker."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self.done = Latch()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Make the call, and keep its error."""
        try:
            self._call()
        except BaseException as error:  # noqa: BLE001 - raised by the task that waits
            self.error = error
        finally:
            self.done.set()

    def check(self) -> None:
        """Raise the error of the call, if there is one."""
        try:
            if self.error is not None:
                raise self.error
        finally:
            self.error = None  # it would keep itself alive, through its traceback and this object


def _called(name: str, method: Callable[[], T]) -> T:
    """Call a method of the checkpoint, so that its errors are not taken for the end of the stream or a timeout."""
    try:
        return method()
    except Exception as error:  # noqa: BLE001 - raised again
        raise unmistakable(error, f"checkpoint.{name}")  # noqa: B904 - it has its cause


def _shorter(one: float | None, other: float | None) -> float | None:
    """Return the shorter of two timeouts."""
    return other if one is None or (other is not None and other < one) else one
