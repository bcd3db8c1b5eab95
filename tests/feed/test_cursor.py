"""Subscriptions of an engine whose ring is filled after its start: where they begin, and that none is forgotten."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import FeedStats, Gap, SSEEvent
from sseclient_dual.closing import Closing
from sseclient_dual.feed.base import BaseFeed
from sseclient_dual.feed.engine import Joined, Members, Run
from sseclient_dual.feed.ring import Entry, Ring, entry_of_gap
from sseclient_dual.waiting import wake_all
from support.waiting import wait_until

if TYPE_CHECKING:
    from sseclient_dual.waiting import Waiter
    from support.apis import Api


class Engine:
    """Fills and appends when a test asks for it; its catch-ups join the oldest entry at once, with a gap."""

    name = "engine"
    ended = False

    def __init__(self, replay: int = 100) -> None:
        self.ring = Ring(replay, 1_000_000, None)
        self.members = Members(self.leave_all)
        self.run = Run()
        self.asked: list[tuple[str, int | None]] = []

    def join(self, cursor: object) -> Run:
        self.members.add(cursor)
        return self.run

    def leave(self, cursor: object) -> None:
        self.members.remove(cursor)

    def leave_all(self) -> None:
        pass

    def catch_up(self, run: Run, last_event_id: str, position: int | None, history: int) -> CatchUp:
        self.asked.append((last_event_id, position))
        return CatchUp(self.ring)

    @property
    def stats(self) -> FeedStats:
        return FeedStats(len(self.members), 0, 0, 0, 0, 0, 0)

    def close(self) -> Closing:
        with self.ring.lock:
            waiters = self.ring.close()
        wake_all(waiters)
        return Closing()

    def renew_locks(self) -> None:
        pass

    def fill(self, *numbers: int) -> None:
        with self.ring.lock:
            waiters = self.ring.fill("0", numbered(*numbers))
        wake_all(waiters)

    def append(self, *entries: Entry) -> None:
        with self.ring.lock:
            waiters = self.ring.append(entries)
        wake_all(waiters)


class CatchUp:
    def __init__(self, ring: Ring) -> None:
        self.ring = ring

    def poll(self, waiter: Waiter, taken: Entry | None) -> Joined:
        with self.ring.lock:
            return Joined(self.ring.start, has_gap=True)

    def unregister(self, waiter: Waiter) -> None:
        pass

    def longest_wait(self) -> None:
        pass

    def close(self) -> Closing:
        return Closing()


def numbered(*numbers: int) -> list[Entry]:
    return [Entry(str(n), str(n), b"id: %d\ndata: %d\n\n" % (n, n), SSEEvent(str(n), id=str(n))) for n in numbers]


def test_the_id_of_the_position_follows_when_the_ring_is_filled(api: Api) -> None:
    engine = Engine()
    feed = BaseFeed(engine)
    with api.relay_feed(feed, heartbeat=0.01) as now, api.relay_feed(feed, history=1, heartbeat=0.01) as history:
        with api.relay_feed(feed, "1", heartbeat=0.01) as resumed:
            assert {next(relay) for relay in (now, history, resumed)} == {b":\n\n"}
            engine.fill(1, 2)
            engine.append(*numbered(3))
            received = dict.fromkeys(("now", "history", "resumed"), b"")
            for name, relay in (("now", now), ("history", history), ("resumed", resumed)):
                while not received[name].endswith(b"data: 3\n\n"):
                    received[name] += next(relay)
    assert received == {
        "now": b"id: 2\n\nid: 3\ndata: 3\n\n",
        "history": b"id: 1\n\nid: 2\ndata: 2\n\nid: 3\ndata: 3\n\n",
        "resumed": b"id: 1\n\nid: 2\ndata: 2\n\nid: 3\ndata: 3\n\n",
    }
    assert engine.asked == []


def test_without_an_id_a_subscription_begins_after_the_entries_of_the_fill(api: Api) -> None:
    engine = Engine()
    subscription = BaseFeed(engine).subscribe()
    engine.fill(1, 2)
    engine.append(*numbered(3, 4))
    assert [event.data for event in api.take(subscription, 2)] == ["3", "4"]


def test_a_subscription_whose_first_entry_is_dropped_since_the_fill_catches_up(api: Api) -> None:
    engine = Engine(replay=2)
    subscription = BaseFeed(engine).subscribe(history=1)
    engine.fill(1, 2)
    engine.append(*numbered(3, 4, 5))
    assert api.next(subscription).data == "4"
    assert engine.asked == [("2", 2)]


def test_an_id_from_before_the_fill_can_be_resumed(api: Api) -> None:
    engine = Engine()
    subscription = BaseFeed(engine).subscribe("0")
    engine.fill(1)
    assert api.next(subscription).data == "1"
    assert engine.asked == []


def test_closing_ends_the_wait_for_the_fill(api: Api) -> None:
    engine = Engine()
    feed = BaseFeed(engine)

    def close() -> None:
        wait_until(lambda: bool(engine.ring.waiters))
        feed.close()

    thread = threading.Thread(target=close)
    thread.start()
    assert api.rest(feed.subscribe()) == []
    thread.join()


def test_one_gap_is_not_reported_twice(api: Api) -> None:
    """The oldest kept entry is a gap, too."""
    engine = Engine()
    engine.fill()
    engine.append(entry_of_gap("0", "6"), *numbered(7))
    signals = api.signals(BaseFeed(engine).subscribe("unknown"))
    assert signals.take(2) == [Gap("unknown", "6"), SSEEvent("7", id="7")]


def test_the_members_do_not_keep_their_engine_alive() -> None:
    engine = Engine()
    members = engine.members
    subscription = BaseFeed(engine).subscribe()
    members.add(subscription)
    del engine, subscription
    assert len(members) == 0


@pytest.mark.parametrize("count", [1, 100])
def test_the_fill_wakes_all_waiting_tasks(count: int) -> None:
    engine = Engine()
    feed = BaseFeed(engine)

    async def main() -> None:
        tasks = [asyncio.ensure_future(feed.subscribe(history=1).arecv()) for _ in range(count)]
        await asyncio.to_thread(wait_until, lambda: len(engine.ring.waiters) == count)
        engine.fill(1)
        assert {event.data for event in await asyncio.gather(*tasks)} == {"1"}

    asyncio.run(main())
