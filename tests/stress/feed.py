"""Random faults for a shared feed: an unsteady upstream, and subscribers that join, leave, stall and resume.

Each subscriber compares what it receives with the numbered log of the upstream: exactly the events from its start on,
or a gap that is reported. `make soak ARGS='feed [events] [seed] [switch interval]'` runs longer than `test_feed.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sseclient_dual import EventStreamParser, Gap, ReconnectPolicy, SSEClient, SSEEvent
from sseclient_dual.feed.ring import REMEMBERED
from sseclient_dual.testing import CUT, RESET, SSEServer, status
from support.journals import Journal
from support.logs import quiet
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sseclient_dual import SharedFeed, Subscription
    from sseclient_dual.testing import ReceivedRequest, Reply, Step

EVENTS = 12_000  # of each upstream, in `make soak`
SWITCH_INTERVALS = [sys.getswitchinterval(), 1e-6]  # seconds that a thread runs before another one may
REPLAY = 20
_POLICY = ReconnectPolicy(retry_delay=10, min_retry_delay=0, max_retry_delay=20, jitter=0)
_USUAL_STALL = 100  # events: a multiple of `REPLAY`
_LONG_STALL = 1_500  # events: more than the feed remembers
_MOST_REPEATED = 500  # events since the requested one
_THREADS, _TASKS = 6, 12

Kind = Literal["replays", "cannot replay", "has no ids"]
KINDS: list[Kind] = ["replays", "cannot replay", "has no ids"]


@dataclass
class Tally:
    """The counters and failures of a run."""

    received: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    faults: int = 0
    gaps: int = 0
    catch_ups: int = 0
    requests: int = 0

    def __str__(self) -> str:
        return (
            f"{self.received.total()} received, {dict(self.received)}, {self.faults} faults, "
            f"{self.requests} requests, {self.catch_ups} catch-ups, {self.gaps} gaps, {len(self.failures)} failures"
        )


class Unsteady(Journal):
    """A journal whose connections break at any byte, and repeat up to some events before the requested ones."""

    def __init__(self, kind: Kind, rng: random.Random, tally: Tally) -> None:
        super().__init__(replays=kind == "replays", sends_ids=kind != "has no ids")
        self.kind = kind
        self._rng = rng
        self._tally = tally
        self._connections = 0

    def __call__(self, request: ReceivedRequest) -> Reply:
        """Answer a request, sometimes with an error."""
        self._connections += 1
        if self.kind == "replays" and self._rng.random() < 0.1:
            self._tally.faults += 1
            return status(503)
        return super().__call__(request)

    def repeated(self, number: int) -> int:
        """Return how many events to send again: none to a client that is far behind.

        The feed recognises what is repeated for so long only.
        """
        is_recent = self.published - number < _MOST_REPEATED
        return self._rng.choice([0, 0, 1, 3, 8]) if is_recent else 0

    def event(self, number: int) -> str:
        """Return an event as text, of several lines and of characters of several bytes."""
        lines = "".join(f"data: {line}\n" for line in text_of(number).split("\n"))
        return f"id: {number}\n{lines}\n" if self.sends_ids else f"{lines}\n"

    def _send(self, number: int) -> Iterator[Step]:
        # Events that the shared connection misses, because the upstream cannot replay, cannot be noticed.
        steady = self.kind == "cannot replay" and self._connections == 1
        for step in super()._send(number):
            if not isinstance(step, str):
                yield step
                continue
            data = step.encode()
            if not steady and self._rng.random() < 0.02:
                self._tally.faults += 1
                yield data[: self._rng.randrange(len(data))]
                yield self._rng.choice([CUT, RESET])
                return
            yield data


def text_of(number: int) -> str:
    """Return the data of an event."""
    return f"{number}\n" + "☃é" * (number % 7)


class Oracle:
    """Checks what one subscriber receives."""

    def __init__(self, name: str, journal: Unsteady, tally: Tally, lock: threading.Lock) -> None:
        self.name = name
        self.last: int | None = None  # the number of the last event; None if the next one may be any
        self.last_id = ""
        self._gap_follows = False  # events are missing, of which a gap will tell
        self._journal = journal
        self._tally = tally
        self._lock = lock  # guards the tally

    def begins(self, last_event_id: str) -> None:
        """Expect the events after an id, or any if there is none."""
        self.last = int(last_event_id) if last_event_id else None
        self._gap_follows = False

    def take(self, data: str, last_event_id: str) -> None:
        """Check an event."""
        number = int(data.partition("\n")[0])
        with self._lock:
            self._tally.received[self.name.partition(" ")[0]] += 1
            if data != text_of(number):
                self._tally.failures.append(f"{self.name}: event {number} is damaged: {data!r}")
            if self.last is not None and number != self.last + 1:
                self._misses(number, self.last)
            if last_event_id and last_event_id != str(number):
                self._tally.failures.append(f"{self.name}: event {number} has the id {last_event_id}")
        self.last = number

    def _misses(self, number: int, last: int) -> None:
        """Report missing events, unless a gap may tell of them later. Holds the lock."""
        # A feed that has forgotten the event before them cannot tell until it recognises one after them.
        if self._journal.kind == "cannot replay" and self._journal.published - last > REPLAY + REMEMBERED:
            self._gap_follows = True
        if not self._gap_follows:
            self._tally.failures.append(f"{self.name}: event {number} follows {last}")

    def gap(self) -> None:
        """Expect any later event."""
        with self._lock:
            self._tally.gaps += 1
        self.last = None
        self._gap_follows = False


class Subscriber:
    """What the subscribers of both APIs decide at random."""

    def __init__(self, name: str, feed: SharedFeed, journal: Unsteady, seed: int, tally: Tally) -> None:
        self.oracle = Oracle(name, journal, tally, _lock)
        self.rng = random.Random(seed)
        self.feed = feed
        self.journal = journal

    def arguments(self) -> tuple[str | None, int]:
        """Return the id and the history with which to subscribe next."""
        resumable = self.oracle.last_id if self.rng.random() < 0.7 else ""
        # A subscriber that catches up may be ahead of the feed, which does not recognise then what is repeated.
        if int(resumable or 0) > int(self.feed._upstream.ring.last_id or 0):
            resumable = ""
        return resumable or None, self.rng.choice([0, 0, 5])

    def count(self) -> int:
        """Return how many items to receive before the next pause."""
        return self.rng.choice([1, 3, 10, 50])

    def pause_until(self) -> int:
        """Return the number of published events up to which to stall."""
        usual = self.rng.choice([0, 0, 3, _USUAL_STALL])
        return self.journal.published + (_LONG_STALL if self.rng.random() < 0.01 else usual)

    def take(self, item: SSEEvent | Gap, subscription: Subscription) -> None:
        """Check a signal."""
        if isinstance(item, Gap):
            self.oracle.gap()
        else:
            self.oracle.take(item.data, item.last_event_id)
        self.oracle.last_id = subscription.last_event_id

    def take_bytes(self, piece: bytes, parser: EventStreamParser) -> None:
        """Check what a relay sends."""
        for event in parser.feed(piece):
            if isinstance(event, SSEEvent):
                if event.type == "stream-reset":
                    self.oracle.gap()
                else:
                    self.oracle.take(event.data, event.last_event_id)
        self.oracle.last_id = parser.last_event_id


def in_thread(subscriber: Subscriber, is_over: Callable[[], bool]) -> None:
    """Subscribe again and again with the sync API."""
    while not is_over():
        last_id, history = subscriber.arguments()
        if subscriber.rng.random() < 0.4:
            relay_in_thread(subscriber, last_id, history)
            continue
        subscription = subscriber.feed.subscribe(last_id, history=history)
        subscriber.oracle.begins(subscription.last_event_id)
        signals = subscription.signals()
        with contextlib.suppress(StopIteration), subscription:
            for _ in range(subscriber.rng.choice([1, 3])):
                for _ in range(subscriber.count()):
                    subscriber.take(next(signals), subscription)
                until = subscriber.pause_until()
                while subscriber.journal.published < until and not is_over():
                    time.sleep(0.002)


def relay_in_thread(subscriber: Subscriber, last_id: str | None, history: int) -> None:
    """Relay for a while."""
    parser = EventStreamParser()
    relay = subscriber.feed.relay(last_id, history=history, heartbeat=0.05)
    with contextlib.closing(relay):
        subscriber.oracle.begins("")
        for number, piece in enumerate(relay):
            subscriber.take_bytes(piece, parser)
            if number == 0 and b"data: " not in piece:  # an id alone
                subscriber.oracle.begins(parser.last_event_id)
            if subscriber.rng.random() < 0.05:
                return


async def in_task(subscriber: Subscriber, is_over: Callable[[], bool]) -> None:
    """Subscribe again and again with the async API."""
    while not is_over():
        last_id, history = subscriber.arguments()
        subscription = subscriber.feed.subscribe(last_id, history=history)
        subscriber.oracle.begins(subscription.last_event_id)
        signals = subscription.signals()
        with contextlib.suppress(StopAsyncIteration):
            async with subscription:
                for _ in range(subscriber.rng.choice([1, 3])):
                    for _ in range(subscriber.count()):
                        if subscriber.rng.random() < 0.9:
                            subscriber.take(await anext(signals), subscription)
                            continue
                        waiting = asyncio.ensure_future(anext(signals))
                        await asyncio.sleep(0)
                        if not waiting.done():
                            waiting.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            subscriber.take(await waiting, subscription)
                    until = subscriber.pause_until()
                    while subscriber.journal.published < until and not is_over():  # noqa: ASYNC110 - a thread publishes
                        await asyncio.sleep(0.002)


_lock = threading.Lock()  # guards the tally


def run(kind: Kind, seed: int, events: int, switch_interval: float) -> Tally:
    """Publish numbered events to subscribers of both APIs, and return what they report."""
    tally = Tally()
    rng = random.Random(seed)
    journal = Unsteady(kind, random.Random(rng.random()), tally)
    usual_interval = sys.getswitchinterval()
    sys.setswitchinterval(switch_interval)
    deadline = time.monotonic() + PATIENCE + events / 100
    try:
        with SSEServer(default=journal) as server, SSEClient(policy=_POLICY) as client:
            # With an id, no events are missing if the first connection breaks before the first event.
            first_id = "0" if kind == "replays" else None
            feed = client.share(server.url, replay=REPLAY, linger=0.01, max_catch_ups=3, last_event_id=first_id)
            subscribers = [
                Subscriber(f"{'thread' if n < _THREADS else 'task'} {n}", feed, journal, rng.randrange(2**32), tally)
                for n in range(_THREADS + _TASKS)
            ]

            def is_over() -> bool:
                return journal.published >= events

            async def tasks() -> None:
                await asyncio.gather(*(in_task(each, is_over) for each in subscribers[_THREADS:]))

            threads = [
                threading.Thread(target=in_thread, args=(each, is_over), daemon=True)
                for each in subscribers[:_THREADS]
            ]
            threads.append(threading.Thread(target=lambda: asyncio.run(tasks()), daemon=True))
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                journal.publish(rng.choice([1, 1, 1, 5]))  # also after the end, until all have what they wait for
                time.sleep(rng.choice([0, 0.001, 0.003]))
                if time.monotonic() > deadline:
                    tally.failures.append(f"no end: {feed.stats}")
                    break
            feed.close()
            for thread in threads:
                thread.join(PATIENCE)
            if kind == "replays" and tally.gaps:
                tally.failures.append(f"{tally.gaps} gaps although the upstream replays")
            tally.catch_ups = feed.stats.catch_ups
            tally.requests = len(server.requests)
    finally:
        sys.setswitchinterval(usual_interval)
    return tally


def main() -> int:
    """Run all kinds of upstream, or repeat a run: `[events] [seed] [switch interval]`."""
    quiet()
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    intervals = [float(sys.argv[3])] if len(sys.argv) > 3 else SWITCH_INTERVALS
    failed = False
    for kind in KINDS:
        for interval in intervals:
            tally = run(kind, seed, events, interval)
            print(f"the upstream {kind}, seed {seed}, switch interval {interval:g} s: {tally}", flush=True)
            for failure in tally.failures[:20]:
                print(f"  {failure}")
            failed = failed or bool(tally.failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
