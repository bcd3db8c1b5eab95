"""Wires that are cut, one at a time: those of two ingests, and that of a web worker.

The other ingest takes over, and each event is stored once; the web worker's browser gets each event once, later.

The tests run in a separate network namespace, in which each ingest has an address of its own towards Redis and one
towards the upstream. While the route to an address is cut, its packets are dropped silently.
`test_partitions.py` cuts each wire once; `make soak ARGS=partitions` cuts each 20 times.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from urllib3 import PoolManager, Timeout

from sseclient_dual import ReconnectPolicy, SSEClient
from sseclient_dual.redis import RedisFeed, RedisIngest
from sseclient_dual.testing import SSEServer
from support.ingests import StreamInRedis, numbers
from support.journals import Journal
from support.processes import program, script, with_tests
from support.redis_servers import RedisServer
from support.waiting import wait_until

ROUNDS = 20  # in `make soak`
NAME = "numbers"
START = "0-0/"  # the id of a feed before its first event
_LEASE = 0.5  # seconds
_LIMIT = 60.0  # seconds for what should take a moment
_REDIS = ("127.0.1.1", "127.0.1.2")  # the addresses at which the two ingests reach Redis
_SOURCES = ("127.0.2.1", "127.0.2.2")  # those from which they reach the upstream
_WEB = "127.0.1.3"  # the address at which the web worker reaches Redis
_MISSED = 5  # events while it is cut off


def run(rounds: int, **options: Any) -> subprocess.CompletedProcess[str]:
    """Cut the wires in a new network namespace; skip the test if the system cannot create one.

    :param options: for `subprocess.run`.
    """
    if sys.platform != "linux":
        pytest.skip("needs Linux network namespaces")
    program("ip", "iproute2")
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    alone = [program("unshare", "util-linux"), "--net", *mapped]
    tried = subprocess.run([*alone, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"cannot create a network namespace: {tried.stderr.strip()}")
    command = [*alone, *script("stress.partitions", "--inside", str(rounds))]
    return subprocess.run(command, env=with_tests(), text=True, check=False, **options)


def main() -> int:
    """Cut the wires, and return the exit status."""
    try:
        return run(ROUNDS).returncode
    except pytest.skip.Exception as reason:
        print(f"skipped: {reason}")
        return 2


class Partitions:
    """Cuts the wires of the holder and of a web worker, one after another."""

    def __init__(self, rounds: int) -> None:
        self.cuts = 0
        self._journal = Journal(repeat=3)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            redis = stack.enter_context(RedisServer(folder / "data", "bind 0.0.0.0"))
            upstream = stack.enter_context(SSEServer(default=self._journal))
            stream = StreamInRedis(stack.enter_context(redis.client()), NAME)
            self._ingests = [
                self._start(stack, upstream.url, f"redis://{address}:{redis.port}", source)
                for address, source in zip(_REDIS, _SOURCES, strict=True)
            ]
            feed = stack.enter_context(RedisFeed(f"redis://{_WEB}:{redis.port}", NAME))
            browser = Browser(feed)
            stack.callback(browser.join)
            stack.callback(feed.close)
            self._wait_for_holder(0, 1)
            for _ in range(rounds):
                for addresses in (_REDIS, _SOURCES):
                    holder = 0 if self._ingests[0].holding else 1
                    self._cut("add", addresses[holder])
                    self._wait_for_holder(1 - holder)
                    self._cut("del", addresses[holder])
                    self._wait_for_holder(0, 1)
                wait_until(lambda: browser.received == stream.data(), "the browser to have all events", _LIMIT)
                self._cut("add", _WEB)
                for _ in range(_MISSED):
                    self._wait_for_holder(0, 1)
                assert len(browser.received) < len(stream.data())
                self._cut("del", _WEB)
            last = self._journal.published
            wait_until(lambda: stream.state.get("last_id") == f"{last}", "the last event", _LIMIT)
            self.stored = stream.data()
            self.expected = numbers(1, last)
            wait_until(lambda: len(browser.received) >= last, "the browser to have all events", _LIMIT)
            self.received = browser.received

    def _start(self, stack: ExitStack, url: str, redis: str, source: str) -> RedisIngest:
        pool = PoolManager(source_address=(source, 0))
        stack.callback(pool.clear)
        policy = ReconnectPolicy(retry_delay=10, jitter=0, max_retries=1)
        client = stack.enter_context(SSEClient(pool, policy=policy, timeout=Timeout(connect=0.5, read=0.5)))
        return RedisIngest(client, url, redis=redis, name=NAME, lease=_LEASE, last_event_id="0").start()

    def _wait_for_holder(self, *numbers: int) -> None:
        """Publish until one of these ingests holds the lease and has stored another event."""
        before = [ingest.stats.events for ingest in self._ingests]

        def stores() -> bool:
            self._journal.publish()
            return any(self._ingests[n].holding and self._ingests[n].stats.events > before[n] for n in numbers)

        wait_until(stores, "an ingest to take over", _LIMIT)

    def _cut(self, action: str, address: str) -> None:
        self.cuts += action == "add"
        subprocess.run(
            [program("ip", "iproute2"), "route", action, "blackhole", f"{address}/32", "table", "local"], check=True
        )


class Browser(threading.Thread):
    """Reads a relay of the feed to its end, and keeps the data of its events, and their types if they have one."""

    def __init__(self, feed: RedisFeed) -> None:
        super().__init__()
        self.received: list[str] = []
        self._relay = feed.relay(START)
        self.start()

    def run(self) -> None:
        """Read."""
        for piece in self._relay:
            self.received += [line[6:] for line in piece.decode().splitlines() if line[:6] in {"data: ", "event:"}]


def inside(rounds: int) -> int:
    """Cut the wires of this namespace, print the results, and return the exit status."""
    logging.getLogger("sseclient_dual").setLevel(logging.CRITICAL)
    subprocess.run([program("ip", "iproute2"), "link", "set", "lo", "up"], check=True)
    outcome = Partitions(rounds)
    counts = f"stored {len(outcome.stored):,}, received by a browser {len(outcome.received):,}"
    print(f"{outcome.cuts} cuts, {len(outcome.expected):,} events, {counts}")
    return int(not outcome.stored == outcome.received == outcome.expected)


if __name__ == "__main__":
    sys.exit(inside(int(sys.argv[2])) if sys.argv[1:2] == ["--inside"] else main())
