"""One subscription: timeouts, cancelling, concurrent consumers, closing, signals, and waiting in both APIs."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient, SSEClosedError, SSEStatusError
from sseclient_dual.feed.cursor import Cursor
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, status, stream
from sseclient_dual.waiting import ThreadWaiter
from support.apis import Ended
from support.journals import Journal
from support.policies import QUICK, SLOW
from support.waiting import LONG, wait_until

if TYPE_CHECKING:
    from support.apis import Api


def test_a_timeout_loses_no_event(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        with api.enter(client.share(server.url).subscribe()) as subscription:
            journal.wait_for_answers(1)
            for timeout in (0, 0.01):
                with pytest.raises(TimeoutError, match="nothing is lost"):
                    api.recv(subscription, timeout)
            journal.publish()
            assert api.recv(subscription, LONG).data == "1"


def test_a_timeout_names_the_failure_of_the_upstream(api: Api) -> None:
    with SSEServer(default=status(503)) as server, api.client(policy=SLOW) as client:
        feed = client.share(server.url)
        with api.enter(feed.subscribe()) as subscription:
            wait_until(lambda: subscription._run is not None and subscription._run.failure is not None)
            with pytest.raises(TimeoutError, match=r"last failure: .* 503") as caught:
                api.recv(subscription, 0)
            assert isinstance(caught.value.__cause__, SSEStatusError)


def test_errors_begin_with_the_name_of_the_feed(api: Api) -> None:
    with SSEServer(default=Journal()) as server, api.client() as client:
        feed = client.share(server.url, name="prices")
        subscription = feed.subscribe()
        with pytest.raises(TimeoutError, match=r"^prices: no event arrived in time"):
            api.recv(subscription, 0)
        waiting = threading.Thread(target=list, args=[subscription])
        waiting.start()
        wait_until(lambda: subscription._waiter is not None)
        with pytest.raises(RuntimeError, match=r"^prices: another consumer is waiting"):
            api.recv(subscription, 0)
        api.close(subscription)
        waiting.join()
        with pytest.raises(SSEClosedError, match=r"^prices: the feed has ended, or the subscription is closed"):
            api.recv(subscription)
        feed.close()
        with pytest.raises(SSEClosedError, match=r"^prices: the feed is closed"):
            feed.subscribe()


def test_an_invalid_timeout_is_refused(api: Api) -> None:
    with api.client() as client:
        with pytest.raises(ValueError, match="timeout must be at least 0"):
            api.recv(client.share("http://127.0.0.1/").subscribe(), -1)


def test_a_new_loop_continues_where_the_last_one_stopped(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url)
        with api.enter(feed.subscribe()) as subscription:
            journal.wait_for_answers(1)
            journal.publish(4)
            received = [api.next(subscription).data, api.recv(subscription).data]
            signals = api.signals(subscription)
            received += [event.data for event in signals.take(1)]  # type: ignore[union-attr]
            received.append(api.next(subscription).data)
            assert received == ["1", "2", "3", "4"]
            api.close(subscription)
            with pytest.raises(Ended):
                signals.next()


def test_closing_a_subscription_ends_it_alone(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url)
        with api.enter(feed.subscribe()) as one, api.enter(feed.subscribe()) as other:
            journal.wait_for_answers(1)
            journal.publish(3)
            assert api.next(one).data == "1"
            api.close(one)
            with pytest.raises(Ended):
                api.next(one)
            with pytest.raises(SSEClosedError):
                api.recv(one)
            with pytest.raises(SSEClosedError, match="subscribe again"), api.enter(one):
                pass
            api.close(one)
            assert [event.data for event in api.take(other, 3)] == ["1", "2", "3"]
            assert feed.stats.subscribers == 1


def test_closing_wakes_a_waiting_consumer(api: Api) -> None:
    with SSEServer(default=Journal()) as server, api.client() as client:
        subscription = client.share(server.url).subscribe()

        def close() -> None:
            wait_until(lambda: subscription._waiter is not None)
            subscription.close()

        thread = threading.Thread(target=close)
        thread.start()
        assert api.rest(subscription) == []
        thread.join()


def test_a_subscription_that_is_closed_while_it_starts(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with SSEServer(default=Journal()) as server, api.client() as client:
        feed = client.share(server.url)
        with api.enter(feed.subscribe()):
            subscription = feed.subscribe()
            join = feed._upstream.join

            def join_late(cursor: Any) -> Any:
                run = join(cursor)
                subscription.close()
                return run

            monkeypatch.setattr(feed._upstream, "join", join_late)
            with pytest.raises(Ended):
                api.next(subscription)
            assert feed.stats.subscribers == 1


def test_an_entry_that_is_dropped_before_it_is_taken_comes_by_a_catch_up(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url, replay=2)
        with api.enter(feed.subscribe()) as subscription:
            journal.wait_for_answers(1)
            journal.publish()
            assert api.next(subscription).data == "1"
            journal.publish()
            wait_until(lambda: feed.stats.events == 2)
            refill = Cursor._refill

            def refill_slowly(self: Cursor, waiter: Any) -> bool:
                available = refill(self, waiter)
                journal.publish(5)
                wait_until(lambda: feed.stats.events == journal.published)
                monkeypatch.setattr(Cursor, "_refill", refill)
                return available

            monkeypatch.setattr(Cursor, "_refill", refill_slowly)
            assert [event.data for event in api.take(subscription, 6)] == ["2", "3", "4", "5", "6", "7"]
            assert feed.stats.catch_ups == 1


def test_a_second_consumer_is_refused() -> None:
    with SSEServer(default=Journal()) as server, SSEClient() as client:
        with client.share(server.url).subscribe() as subscription:
            thread = threading.Thread(target=lambda: list(subscription))
            thread.start()
            wait_until(lambda: subscription._waiter is not None)
            with pytest.raises(RuntimeError, match="use one each"):
                next(subscription)
            subscription.close()
            thread.join()


def test_a_signal_handler_may_receive_while_its_thread_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal()
    park, parked = ThreadWaiter.park, []

    def note(self: ThreadWaiter, timeout: float | None = None) -> bool:
        parked.append(self)
        return park(self, timeout)

    monkeypatch.setattr(ThreadWaiter, "park", note)
    with SSEServer(default=journal) as server, SSEClient() as client:
        with client.share(server.url).subscribe() as subscription:
            journal.wait_for_answers(1)
            received: list[str] = []

            def receive(*_: object) -> None:
                received.append(next(subscription).data)

            def interrupt() -> None:
                wait_until(lambda: subscription._waiter in parked)
                first = subscription._waiter
                signal.raise_signal(signal.SIGUSR1)
                wait_until(lambda: subscription._waiter is not first)
                journal.publish()
                wait_until(lambda: len(received) == 1)
                journal.publish()

            before = signal.signal(signal.SIGUSR1, receive)
            thread = threading.Thread(target=interrupt)
            try:
                thread.start()
                received.append(next(subscription).data)
            finally:
                thread.join()
                signal.signal(signal.SIGUSR1, before)
            assert received == ["1", "2"]


def test_cancelling_a_wait_loses_no_event() -> None:
    journal = Journal()

    async def main() -> None:
        async with SSEClient() as client, client.share(server.url).subscribe() as subscription:
            waiting = asyncio.ensure_future(subscription.arecv())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.to_thread(journal.wait_for_answers, 1)
            journal.publish()
            assert (await subscription.arecv(LONG)).data == "1"

    with SSEServer(default=journal) as server:
        asyncio.run(main())


def test_a_stream_that_never_pauses_leaves_other_tasks_their_turns() -> None:
    journal = Journal()

    async def main() -> None:
        async with SSEClient() as client:
            feed = client.share(server.url, replay=10)
            async with feed.subscribe() as subscription:
                await asyncio.to_thread(journal.wait_for_answers, 1)
                turns = 0

                async def other() -> None:
                    nonlocal turns
                    while True:
                        turns += 1
                        await asyncio.sleep(0)

                task = asyncio.ensure_future(other())
                for _ in range(20):
                    journal.publish()
                    await asyncio.to_thread(wait_until, lambda: feed._upstream.ring.end > subscription._next)
                    before = turns
                    await anext(subscription)
                    assert turns > before
                task.cancel()

    with SSEServer(default=journal) as server:
        asyncio.run(main())


def test_many_tasks_and_threads_wait_at_the_same_time() -> None:
    """They are woken together, tasks by one call per loop; and only for an event."""
    waiting, reconnected = Gate(), Gate()
    replies = [
        stream(waiting, ": a comment\n\n", CUT),
        stream(CUT),
        stream(reconnected, "id: 2\ndata: an event\n\n", HANG),
    ]
    calls: list[object] = []

    async def main(server: SSEServer, feed: Any) -> None:
        loop = asyncio.get_running_loop()
        call_soon_threadsafe = loop.call_soon_threadsafe
        subscriptions = [feed.subscribe() for _ in range(100)]
        tasks = [asyncio.ensure_future(anext(each)) for each in subscriptions]
        await asyncio.to_thread(wait_until, lambda: len(feed._upstream.ring.waiters) == 150)
        loop.call_soon_threadsafe = lambda *args, **kw: calls.append(args[0]) or call_soon_threadsafe(*args, **kw)  # type: ignore[method-assign,func-returns-value]
        waiting.open()
        server.wait_for_requests(3)
        reconnected.open()
        assert {event.data for event in await asyncio.gather(*tasks)} == {"an event"}
        loop.call_soon_threadsafe = call_soon_threadsafe  # type: ignore[method-assign]
        for each in subscriptions:
            await each.close()

    with SSEServer(*replies) as server, SSEClient(policy=QUICK) as client:
        feed = client.share(server.url, last_event_id="1")
        received: list[str] = []
        threads = [threading.Thread(target=lambda: received.append(next(feed.subscribe()).data)) for _ in range(50)]
        for thread in threads:
            thread.start()
        asyncio.run(main(server, feed))
        for thread in threads:
            thread.join()
        assert received == ["an event"] * 50
    assert len(calls) == 1


def test_one_subscription_in_several_loops_and_in_a_thread() -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, SSEClient() as client:
        with client.share(server.url).subscribe() as subscription:
            journal.wait_for_answers(1)

            async def receive() -> str:
                asyncio.get_running_loop().call_later(0.01, journal.publish)
                return (await subscription.arecv(LONG)).data

            assert [asyncio.run(receive()) for _ in range(3)] == ["1", "2", "3"]
            journal.publish()
            assert subscription.recv(LONG).data == "4"


def test_a_closed_loop_does_not_disturb_the_others() -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, SSEClient() as client:
        feed = client.share(server.url)
        with feed.subscribe() as subscription:
            journal.wait_for_answers(1)
            loop = asyncio.new_event_loop()
            other = feed.subscribe()
            task = loop.create_task(other.arecv())
            loop.run_until_complete(asyncio.sleep(0))
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()
            journal.publish()
            assert next(subscription).data == "1"
            assert next(other).data == "1"  # its waiter is abandoned
