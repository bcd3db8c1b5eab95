"""`Upstream`: reads the upstream of a `SharedFeed` into its ring, while there are subscriptions.

What waits for what: the reader waits for the network only. It appends to the ring and wakes the subscriptions, which
never make it wait. Subscriptions hold the ring's lock only while they look something up. No user's code runs with a
lock held, nor on the hub's thread.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from sseclient_dual.closing import Closing
from sseclient_dual.event import Opened, SSEEvent
from sseclient_dual.hub import BLOCKING, Routine, Wait, current
from sseclient_dual.logs import log
from sseclient_dual.waiting import wake_all

from .catch_up import Replay, Turns, entry_after
from .engine import Members, Run, closed_error
from .ring import Entry, Ring, entry_of_gap
from .stats import FeedStats

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from sseclient_dual.event import Signal
    from sseclient_dual.handoff import Producer
    from sseclient_dual.reader import Reader
    from sseclient_dual.waiting import Waiter


class Upstream:
    """The engine of a `SharedFeed`; see `Engine`.

    :param template: makes the readers; it is never started.
    :param replay: the maximum number of events to keep.
    :param replay_bytes: the maximum number of bytes to keep.
    :param linger: seconds for which the upstream stays open without subscriptions.
    :param max_catch_ups: the maximum number of catch-ups that run at once.
    """

    def __init__(
        self, template: Reader, *, replay: int, replay_bytes: int, linger: float, max_catch_ups: int
    ) -> None:
        self.name = template.name
        self.linger = linger
        self._template = template
        self._make_ring = partial(Ring, replay, replay_bytes, template.pipeline.queued_id)
        self._make_turns = partial(Turns, max_catch_ups)
        self._begin()

    def _begin(self) -> None:
        """Begin with nothing: no events, no subscriptions, no connections."""
        self.ring = self._make_ring()
        self.members = Members(self._wake_watch)
        self._turns = self._make_turns()
        # Guarded by the ring's lock:
        self.ended = False
        self._events = 0
        self._reconnects = 0  # of earlier runs
        self._catch_ups = 0
        self._reader: Reader | None = None  # the last one
        self._run: SharedRun | None = None  # None before the first, and while there are no subscriptions
        self._was_open = False

    def renew_locks(self) -> None:
        """See `Engine.renew_locks`: close the descriptors of the parent's connections."""
        readers = [turn.reader for turn in self._turns.running]
        if self._run is not None:
            readers.append(self._run.reader)
        self._turns.renew_lock()
        self.ring.entries.clear()  # so that the parent's subscriptions end
        self._begin()
        for reader in readers:
            reader.renew_locks()
            reader.close()

    # -- called by subscriptions

    def join(self, cursor: object) -> Run:
        """See `Engine.join`."""
        with self.ring.lock:
            if self.ring.closed:
                raise closed_error(self.name)
            self.members.add(cursor)
            run = self._run
            if run is None or (run.end is not None and not self.ended):
                run = self._run = self._new_run()
        run.start()
        return run

    def _new_run(self) -> SharedRun:
        run = SharedRun(self, self._template)
        ring = self.ring
        run.reader.resume_after(ring.last_id, ring.events())
        if self._reader is not None:
            self._reconnects += self._reader.reconnects
        self._reader = run.reader
        return run

    def leave(self, cursor: object) -> None:
        """See `Engine.leave`."""
        self.members.remove(cursor)

    def _wake_watch(self) -> None:
        run = self._run
        if run is not None:
            run.watch.wake()

    def catch_up(self, run: Run, last_event_id: str, position: int | None, history: int) -> Replay:
        """See `Engine.catch_up`."""
        ring = self.ring
        with ring.lock:
            self._catch_ups += 1
            return Replay(ring, self._turns, self._template, run, last_event_id, position, history)

    # -- called by the readers, on the hub's thread or a worker

    def receive(self, run: SharedRun, signals: list[Signal]) -> None:
        """Append events to the ring, and wake the subscriptions."""
        ring = self.ring
        last_id = ring.last_id  # only the reader of the current run appends, so it needs no lock for that
        entries: list[Entry] = []
        for signal in signals:
            if isinstance(signal, SSEEvent):
                entries.append(entry_after(last_id, signal))
                last_id = signal.last_event_id
            elif isinstance(signal, Opened):
                entries += self._opened(run)
        if not entries:  # comments and reconnects wake no subscription
            return
        with ring.lock:
            waiters: list[Waiter] = []
            if self._run is run:
                self._events += sum(isinstance(entry.item, SSEEvent) for entry in entries)
                waiters = ring.append(entries)
        wake_all(waiters)

    def _opened(self, run: SharedRun) -> list[Entry]:
        """Return a gap if the connection that has opened does not continue an earlier one."""
        missed = self._was_open and not run.reader.pipeline.queued_id
        self._was_open = True
        if not missed:
            return []
        # Opening runs on a worker, so log handlers may block.
        log(
            logging.WARNING,
            "%s: the feed may miss events, because the upstream sends no ids by which to resume",
            self.name,
            name=self.name,
        )
        return [entry_of_gap("", "")]

    def finish(self, run: SharedRun, error: BaseException | None) -> None:
        """End a run: its subscriptions end after the last event."""
        ring = self.ring
        with ring.lock:
            if self._run is not run or ring.closed:
                return
            self.ended = error is None and run.reader.status == HTTPStatus.NO_CONTENT
            run.error = error
            run.end = ring.end
            waiters = ring.take_waiters()
        run.watch.wake()
        wake_all(waiters)

    def pause(self, run: SharedRun) -> bool:
        """Close the connection of a run if it is still on, and there are no subscriptions; return whether it did."""
        with self.ring.lock:
            if len(self.members) or self._run is not run or run.end is not None:
                return False
            self._run = None
        run.reader.close()
        return True

    # -- called by the feed

    def close(self) -> Closing:
        """See `Engine.close`."""
        ring = self.ring
        with ring.lock:
            waiters = ring.close()
            run, reader = self._run, self._reader
            self._run = None
        closings = []
        if reader is not None:
            reader.close()
            closings.append(Closing(reader.finished))
        if run is not None:
            run.watch.wake()
        for turn in self._turns.running:
            turn.end()
            closings.append(Closing(turn.reader.finished))
        wake_all(waiters)
        return Closing(*closings)

    @property
    def stats(self) -> FeedStats:
        """See `Feed.stats`."""
        ring = self.ring
        with ring.lock:
            return FeedStats(
                subscribers=len(self.members),
                events=self._events,
                kept=len(ring.entries),
                kept_bytes=ring.size,
                gaps=ring.gaps,
                reconnects=self._reconnects + (0 if self._reader is None else self._reader.reconnects),
                catch_ups=self._catch_ups,
            )

    @property
    def running(self) -> SharedRun | None:
        """The current run."""
        return self._run


class SharedRun(Run):
    """One run of a reader, and the queue that takes its events: one that is never full; see `Sink`."""

    is_full = False

    def __init__(self, upstream: Upstream, template: Reader) -> None:
        super().__init__()
        self.reader = template.another(self)
        self.reader.pipeline.wants_signals = True  # for `Opened`
        self.watch = Routine(upstream.name)
        """Closes the connection some time after the last subscription has left."""
        self._upstream = upstream
        self._started = False

    @property
    def failure(self) -> Exception | None:
        """See `Run.failure`."""
        return self.reader.failure

    def start(self) -> None:
        """Start the reader, unless it was started before.

        :raises RuntimeError: no thread can be started.
        """
        if not self._started:
            self.reader.start()
            current().start(self.watch, self._watch)
            self._started = True

    def _watch(self) -> Generator[Wait, Any, None]:
        upstream = self._upstream
        while upstream.running is self and self.end is None:
            left = upstream.members.left_at + upstream.linger - time.monotonic()
            if len(upstream.members):
                yield Wait()
            elif left > 0:
                yield Wait(left)
            elif upstream.pause(self):
                yield BLOCKING  # as log handlers may
                log(
                    logging.INFO,
                    "%s: disconnected, because there were no subscriptions for %g s",
                    upstream.name,
                    upstream.linger,
                    name=upstream.name,
                )

    def offer(self, items: list[Signal], producer: Producer, weight: int | None = None) -> int:  # noqa: ARG002
        """See `Sink.offer`."""
        self._upstream.receive(self, items)
        return 0

    def withdraw(self) -> int:
        """See `Sink.withdraw`."""
        return 0

    def finish(self, error: BaseException | None = None) -> None:
        """See `Sink.finish`."""
        self._upstream.finish(self, error)

    def close(self) -> None:
        """See `Sink.close`: the upstream has ended the run before."""

    def renew_lock(self) -> None:
        """See `Sink.renew_lock`: there is none."""
