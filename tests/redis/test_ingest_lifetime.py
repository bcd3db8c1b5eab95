"""An ingest is made, started and closed; the process ends, or forks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient, SSEClosedError
from sseclient_dual.redis import RedisIngest
from sseclient_dual.redis.entries import keys_of
from sseclient_dual.redis.scripts import Scripts
from support.forks import in_child
from support.ingests import StreamInRedis, ingest_of
from support.interruptions import Interruption, interrupt
from support.policies import QUICK
from support.processes import HOST, piped, with_tests
from support.waiting import AT_ONCE, LONG, PATIENCE, wait_until

if TYPE_CHECKING:
    from sseclient_dual.redis.scripts import Answer
    from sseclient_dual.testing import SSEServer
    from support.journals import Journal
    from support.redis_servers import RedisServer

# -- arguments


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lease": 0}, ValueError, "lease must be at least 0.1"),
        ({"lease": "10"}, TypeError, "lease must be a number"),
        ({"maxlen": 0}, ValueError, "maxlen must be at least 1"),
        ({"batch": 0}, ValueError, "batch must be at least 1"),
        ({"name": ""}, ValueError, "name must be printable"),
        ({"name": "{x}"}, ValueError, "must not contain braces"),
        ({"redis": "redis://host/0/prices"}, ValueError, "number of a database"),
        ({"checkpoint": "last.id"}, TypeError, "takes no checkpoint"),
        ({"queue_size": 0}, ValueError, "queue_size must be at least 1"),
    ],
)
def test_a_wrong_argument_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with SSEClient() as client, pytest.raises(error, match=message):
        RedisIngest(client, "http://host/", **({"redis": "redis://host", "name": "prices"} | options))


def test_a_closed_client_is_refused() -> None:
    client = SSEClient()
    client.close()
    with pytest.raises(SSEClosedError):
        RedisIngest(client, "http://host/", redis="redis://host", name="prices")


# -- starting and closing


def test_it_is_closed_in_any_state_at_once(server: RedisServer, prices: StreamInRedis, upstream: SSEServer) -> None:
    with SSEClient(policy=QUICK) as client:
        new = RedisIngest(client, upstream.url, redis=server.url, name=prices.name)
        new.close()
        for _ in range(2):
            with pytest.raises(SSEClosedError, match="the ingest is closed"):
                new.start()
        new._run_on()  # as if it had been closed while the thread started
        assert new._worker is None
        holder = RedisIngest(client, upstream.url, redis=server.url, name=prices.name).start()
        assert holder.start() is holder
        wait_until(lambda: holder.holding)
        standby = RedisIngest(client, upstream.url, redis=server.url, name=prices.name, lease=LONG).start()
        lost = RedisIngest(client, upstream.url, redis=f"redis://{HOST}:1", name=prices.name).start()
        for ingest in (lost, standby, holder):
            begun = time.monotonic()
            closing = ingest.close()
            assert time.monotonic() - begun < AT_ONCE

            async def wait(closing: Any = closing) -> None:
                await asyncio.wait_for(closing, PATIENCE)

            asyncio.run(wait())
            assert not ingest.holding
        running = RedisIngest(client, upstream.url, redis=server.url, name=prices.name).start()
        wait_until(lambda: running.holding)
        running._run_on()  # as if it had been started twice
        with pytest.raises(RuntimeError, match="runs already"):
            running.run()
        assert running.holding
    assert running._worker is not None
    assert running._worker.finished.wait(PATIENCE)  # the client closes it
    assert prices.raw.get(keys_of(prices.name).lease) is None


def test_a_thread_that_cannot_be_started_is_an_error(
    server: RedisServer, prices: StreamInRedis, upstream: SSEServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SSEClient(policy=QUICK) as client:
        ingest = RedisIngest(client, upstream.url, redis=server.url, name=prices.name)
        with monkeypatch.context() as context:
            context.setattr(threading.Thread, "start", fail_to_start)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                ingest.start()
        ingest.start()
        wait_until(lambda: ingest.holding)
        ingest.close()
        assert ingest._worker is not None
        assert ingest._worker.finished.wait(PATIENCE)


def fail_to_start(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("unit", ["line", "call"])
def test_a_start_that_was_interrupted_can_be_repeated(
    server: RedisServer, stream: str, upstream: SSEServer, unit: str
) -> None:
    def start_twice(interruption: Interruption) -> None:
        ingest = RedisIngest(client, upstream.url, redis=server.url, name=f"{stream}-{step}")
        with suppress(KeyboardInterrupt), interruption:
            ingest.start()
        ingest.start()
        wait_until(lambda: ingest.holding, interruption.where)
        ingest.close()
        assert ingest._worker is not None
        assert ingest._worker.finished.wait(PATIENCE)

    with SSEClient(policy=QUICK) as client:
        for step in range(100):
            interruption = Interruption(step, interrupt, unit, (RedisIngest.start.__code__.co_filename,))
            start_twice(interruption)
            if not interruption.happened:
                break
        assert 3 <= step < 99


def test_closing_again_does_not_wait_for_redis(
    server: RedisServer, prices: StreamInRedis, upstream: SSEServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ingest was closed while it acquired the lease, which it releases."""
    acquire, release = Scripts.acquire, Scripts.release
    releases, may_release = threading.Event(), threading.Event()

    def acquire_and_close(self: Scripts, *arguments: Any) -> Answer:
        answer = acquire(self, *arguments)
        ingest.close()
        return answer

    def release_slowly(self: Scripts, fence: str) -> Answer:
        releases.set()
        assert may_release.wait(PATIENCE)
        return release(self, fence)

    monkeypatch.setattr(Scripts, "acquire", acquire_and_close)
    monkeypatch.setattr(Scripts, "release", release_slowly)
    with SSEClient(policy=QUICK) as client:
        ingest = RedisIngest(client, upstream.url, redis=server.url, name=prices.name).start()
        assert releases.wait(PATIENCE)
        begun = time.monotonic()
        ingest.close()
        assert time.monotonic() - begun < AT_ONCE
        may_release.set()
        assert ingest._worker is not None
        assert ingest._worker.finished.wait(PATIENCE)
    assert prices.raw.get(keys_of(prices.name).lease) is None
    assert upstream.requests == []


def test_a_block_starts_and_closes_it(server: RedisServer, prices: StreamInRedis, upstream: SSEServer) -> None:
    async def main() -> None:
        async with SSEClient() as client:
            async with RedisIngest(client, upstream.url, redis=server.url, name=prices.name) as ingest:
                await asyncio.to_thread(wait_until, lambda: ingest.holding)
            assert not ingest.holding

    with SSEClient() as client, RedisIngest(client, upstream.url, redis=server.url, name=prices.name) as ingest:
        wait_until(lambda: ingest.holding)
    assert ingest._worker is not None
    assert ingest._worker.finished.wait(PATIENCE)
    asyncio.run(main())


def test_a_holder_that_cannot_reach_redis_is_closed(
    own_server: RedisServer, stream: str, upstream: SSEServer
) -> None:
    with ingest_of(upstream.url, own_server.url, stream, lease=0.5) as ingest:
        with own_server:
            wait_until(lambda: ingest.holding)
        ingest.close()
        assert ingest._worker is not None
        assert ingest._worker.finished.wait(PATIENCE)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_ends_run_and_releases_the_lease(
    server: RedisServer, prices: StreamInRedis, upstream: SSEServer
) -> None:
    with SSEClient() as client:
        ingest = RedisIngest(client, upstream.url, redis=server.url, name=prices.name)

        def interrupt() -> None:
            wait_until(lambda: upstream.requests)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            ingest.run()
        thread.join()
        assert prices.raw.get(keys_of(prices.name).lease) is None


def test_the_exit_of_the_process_releases_the_lease(
    server: RedisServer, prices: StreamInRedis, upstream: SSEServer
) -> None:
    script = """
        import sys
        from sseclient_dual import SSEClient
        from sseclient_dual.redis import RedisIngest
        ingest = RedisIngest(SSEClient(), sys.argv[1], redis=sys.argv[2], name=sys.argv[3]).start()
        input()
    """
    command = [sys.executable, "-W", "error", "-c", "\n".join(line[8:] for line in script.splitlines())]
    with piped([*command, upstream.url, server.url, prices.name], env=with_tests(), stdin=subprocess.PIPE) as process:
        wait_until(lambda: upstream.requests)  # earlier, Python 3.12 would start no thread for the upstream any more
        _, errors = process.communicate("\n", timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert prices.state["term"] == "1"
    assert prices.raw.get(keys_of(prices.name).lease) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_one_of_its_own(
    server: RedisServer, prices: StreamInRedis, upstream: SSEServer, journal: Journal
) -> None:
    with SSEClient(policy=QUICK) as client:
        ingest = RedisIngest(client, upstream.url, redis=server.url, name=prices.name, lease=0.5)
        ingest.start()
        wait_until(lambda: ingest.holding and upstream.requests)
        others = [
            RedisIngest(client, upstream.url, redis=server.url, name=prices.name),  # not started
            RedisIngest(client, upstream.url, redis=f"redis://{HOST}:1", name=prices.name).start(),
        ]

        def child() -> None:
            for other in (ingest, *others):
                assert not other.holding
                other._exit()  # it does not run here
            ingest.start()
            wait_until(lambda: ingest._worker is not None and ingest._worker._stream.client._redis is not None)
            time.sleep(0.2)
            assert not ingest.holding  # the parent is the holder
            ingest.close()
            assert ingest._worker is not None
            assert ingest._worker.finished.wait(PATIENCE)

        assert in_child(child) == 0
        journal.publish()
        prices.wait_for("1")
        assert ingest.stats.takeovers == 1
        ingest.close()
        others[1].close()
        assert ingest._worker is not None
        assert ingest._worker.finished.wait(PATIENCE)
