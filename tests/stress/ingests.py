"""Ingests in processes of their own, which are killed or stopped, and a Redis that is: each event is stored once.

`make soak ARGS='ingests [kills] [seed]'` runs each kind with 500 kills, and the model of the protocol. Three ingests
read one upstream, which numbers its events and sends some of them again. In the end, the stream in Redis has each of
them once, in order, without a gap.

- ``kill``: the holder is killed at a random moment by SIGKILL.
- ``cut``: the same, behind a proxy that loses commands and answers of Redis.
- ``stop``: the holder is stopped by SIGSTOP until another one has taken over, and continued.
- ``redis``: Redis is killed and started again, with each setting of ``appendfsync`` in turn; with Valkey, its
  append-only file is cut at a random byte meanwhile.

This file is also the script of the ingests: a process that forks, because a start of Python would take longer than
all the rest.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from sseclient_dual import SSEClient
from sseclient_dual.redis import RedisIngest
from sseclient_dual.redis.entries import keys_of
from sseclient_dual.testing import SSEServer
from support.ingests import StreamInRedis, numbers
from support.journals import Journal
from support.policies import QUICK
from support.processes import line_of, piped, script, with_tests
from support.protocol import run_model
from support.redis_proxy import CuttingProxy
from support.redis_servers import RedisServer, appendonly, engines
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from subprocess import Popen

KINDS = ("kill", "cut", "stop", "redis")
KILLS = 500  # of each kind, in `make soak`
EXAMPLES = 2000  # of the model
NAME = "numbers"
_INGESTS = 3
_LEASE = 0.15  # seconds
_FSYNC = ("always", "everysec", "no")
_CUTS = 0.1  # the share of the commands at which the proxy cuts
_FIRST = 100  # events before the first failure, so that a cut does not remove all
_LAST_BYTES = 2000  # of the append-only file, in which it is cut
_SHORT = 20_000  # bytes of a file that is not cut, because the loss of the first event is a gap


# -- the ingests


def _fork_ingests(url: str, redis: str) -> None:
    """Fork an ingest for each line of the standard input, and print its process."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    logging.getLogger("sseclient_dual").setLevel(logging.CRITICAL)
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            client = SSEClient(policy=QUICK)
            RedisIngest(client, url, redis=redis, name=NAME, lease=_LEASE, maxlen=10**9, last_event_id="0").run()
            os._exit(0)
        print(child, flush=True)


class _Ingests:
    """The processes of the ingests.

    :param parent: forks them.
    """

    def __init__(self, parent: Popen[str]) -> None:
        self._parent = parent
        self._processes: set[int] = set()
        for _ in range(_INGESTS):
            self.start()

    def start(self) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write("start\n")
        self._parent.stdin.flush()
        self._processes.add(int(line_of(self._parent.stdout)))

    def kill(self, process: int) -> None:
        os.kill(process, signal.SIGKILL)
        self._processes.discard(process)

    def kill_all(self) -> None:
        for process in list(self._processes):
            self.kill(process)


# -- the failures


class Failures:
    """Lets one kind of failure happen, and checks what the stream has in the end.

    :param kind: one of `KINDS`.
    :param count: how many failures.
    :param seed: of the random numbers.
    :param engine: the path of the server.
    """

    def __init__(self, kind: str, count: int, seed: int, engine: str) -> None:
        self.failures: list[str] = []
        self._kind = kind
        self._random = random.Random(seed)
        self._counts: Counter[str] = Counter()
        self._waits: list[float] = []
        self._journal = Journal(repeat=3)
        # Redis 7.0 damages a file that ends within a transaction when it goes on to write to it.
        self._may_cut = "valkey" in engine
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._redis = stack.enter_context(RedisServer(folder / "data", *appendonly(_FSYNC[0]), binary=engine))
            self._upstream = stack.enter_context(SSEServer(default=self._journal))
            url = self._redis.url
            if kind == "cut":
                proxy = stack.enter_context(CuttingProxy(self._redis.port, _CUTS, seed))
                url = proxy.url
            self._stream = StreamInRedis(stack.enter_context(self._redis.client()), NAME)
            environment = {key: value for key, value in with_tests().items() if not key.startswith("COVERAGE_")}
            command = script("stress.ingests", "fork", self._upstream.url, url)
            self._ingests = _Ingests(stack.enter_context(piped(command, env=environment, stdin=-1, stderr=None)))
            stack.callback(self._ingests.kill_all)
            self._journal.publish(_FIRST)
            wait_until(lambda: self._stream.state.get("last_id") == f"{_FIRST}", "the first events", PATIENCE)
            for _ in range(count):
                self._fail()
            self._check()
            if kind == "cut":
                self._counts.update(proxy.cuts)

    def _fail(self) -> None:
        """Wait for a holder, and let something happen at a random moment."""
        process, fence = self._wait_for_holder("")
        self._journal.publish(self._random.randrange(1, 40))
        if self._random.random() < 0.1:
            self._upstream.refuse(drop=True)
            self._upstream.listen()
        time.sleep(self._random.uniform(0, 0.02))
        self._journal.publish(self._random.randrange(1, 40))
        begun = time.monotonic()
        self._counts[self._kind] += 1
        if self._kind == "redis":
            self._damage_redis()
        elif self._kind == "stop":
            os.kill(process, signal.SIGSTOP)
            self._wait_for_holder(fence)
            os.kill(process, signal.SIGCONT)
        else:
            self._ingests.kill(process)
            self._ingests.start()
            self._wait_for_holder(fence)
        self._waits.append(time.monotonic() - begun)

    def _wait_for_holder(self, old_fence: str) -> tuple[int, str]:
        """Wait until there is a holder with another fence, and return its process and its fence."""
        keys = keys_of(NAME)

        def found() -> bool:
            fence = self._stream.raw.get(keys.lease)
            return fence is not None and fence != old_fence

        wait_until(found, "a holder", PATIENCE)
        state = self._stream.state  # both at once, because another ingest may take over at any time
        return int(state["holder"].rpartition(":")[2]), state["fence"]

    def _damage_redis(self) -> None:
        self._redis.kill()
        (file,) = self._redis.folder.glob("appendonlydir/*.incr.aof")
        size = file.stat().st_size
        cut = 0
        if self._may_cut and size > _SHORT:
            cut = self._random.randrange(_LAST_BYTES)
            os.truncate(file, size - cut)
        self._counts["bytes cut"] += cut
        self._redis.start()
        self._stream.raw.config_set("appendfsync", _FSYNC[self._counts[self._kind] % len(_FSYNC)])

    def _check(self) -> None:
        """Wait until all events are stored, and compare."""
        last = self._journal.published
        try:
            wait_until(lambda: self._stream.state.get("last_id") == f"{last}", "the last event", PATIENCE)
        finally:
            stored = self._stream.data()
            if stored != numbers(1, last):
                begins = next(
                    at
                    for at, pair in enumerate(zip([*stored, ""], numbers(1, last + 1), strict=False))
                    if len(set(pair)) > 1
                )
                self.failures.append(
                    f"{len(stored)} entries instead of {last}, wrong from {stored[begins : begins + 5]} at {begins}"
                )
        self._counts["events"] = last

    def __str__(self) -> str:
        counts = ", ".join(f"{what} {count:,}" for what, count in self._counts.items())
        waits = sorted(self._waits)
        return (
            f"{self._kind}: {counts}; until the next holder {waits[len(waits) // 2]:.2f} s, {waits[-1]:.2f} s at most"
        )


def main(arguments: list[str]) -> int:
    """Run it, print the results, and return 1 if a check failed."""
    if arguments and arguments[0] == "fork":
        _fork_ingests(*arguments[1:])
        return 0
    count = int(arguments[0]) if arguments else KILLS
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(2**32)
    failures: list[str] = []
    for engine in engines():
        for kind in KINDS:
            print(f"ingests, {kind}, {Path(engine).name}, {count} times, seed {seed}", flush=True)
            outcome = Failures(kind, count, seed, engine)
            print(f"== {outcome}", *outcome.failures, sep="\nFAILURE: ", flush=True)
            failures += outcome.failures
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder) / "data") as server:
        run_model(server, max_examples=EXAMPLES, database=None)
    print(f"== model: {EXAMPLES:,} examples")
    if failures:
        print(f"to repeat this run: make soak ARGS='ingests {count} {seed}'")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
