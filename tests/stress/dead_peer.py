"""A peer that vanishes silently: the client detects it in the expected time, and the stream resumes.

The tests run in a separate network namespace, whose loopback device is the wire. While the wire is cut, all packets
are dropped and neither side is notified. `test_dead_peer.py` uses short timeouts; `make soak ARGS=dead_peer` uses the
default settings and takes two minutes.
"""

from __future__ import annotations

import itertools
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from urllib3 import PoolManager, Timeout

from sseclient_dual import Interrupted, Opened, SSEClient, SSEEvent
from sseclient_dual.testing import HANG, ReceivedRequest, Reply, SSEServer, stream
from support.apis import drive
from support.policies import RESTARTS
from support.processes import program, script, with_tests
from support.tls import make_tls
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

# Seconds: 60 of silence, then four probes, one every 15; the same time for an unacknowledged request.
DEFAULT_KEEPALIVE = 120.0
LIMIT = 2 * DEFAULT_KEEPALIVE  # seconds for the whole run
FAST_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", 0), 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", 0), 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", 0), 1),
]
FAST_REQUEST = [(socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", 0), 2000)]


@dataclass(frozen=True)
class Watch:
    """One connection whose peer vanishes.

    :param means: the mechanism that detects it.
    :param seconds: the expected time until the detection.
    """

    means: str
    seconds: float
    api: str
    secure: bool

    def __str__(self) -> str:
        return f"{self.means}, {self.api}, {'tls' if self.secure else 'plain'}"

    @property
    def cut_before_request(self) -> bool:
        """True: the wire is cut before a request on a kept connection. False: in the middle of a response."""
        return "request" in self.means

    def settings(self, authority: str) -> tuple[PoolManager, Timeout]:
        """Return the pool and the timeout for the client."""
        fast = {"fast keep-alive": FAST_KEEPALIVE, "fast request": FAST_REQUEST}
        options: dict[str, Any] = {"socket_options": fast[self.means]} if self.means in fast else {}
        read = self.seconds if self.means == "read timeout" else None
        return PoolManager(ca_certs=authority, **options), Timeout(connect=1, read=read)


def watches(*means: tuple[str, float]) -> list[Watch]:
    """Return the watches for pairs of mechanism and seconds: each with both APIs, plain and over TLS."""
    return [
        Watch(name, seconds, api, secure)
        for (name, seconds), api, secure in itertools.product(means, ("sync", "async"), (False, True))
    ]


LISTS = {
    "fast": watches(("fast keep-alive", 2), ("fast request", 2), ("read timeout", 2)),
    "default": watches(("keep-alive", DEFAULT_KEEPALIVE), ("request", DEFAULT_KEEPALIVE), ("read timeout", 45)),
}


def run(name: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the watches of a list in a new network namespace; skip the test if the system cannot create one.

    :param options: for `subprocess.run`.
    """
    if sys.platform != "linux":
        pytest.skip("needs Linux network namespaces")
    program("tc", "iproute2")
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    alone = [program("unshare", "util-linux"), "--net", *mapped]
    tried = subprocess.run([*alone, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"cannot create a network namespace: {tried.stderr.strip()}")
    command = [*alone, *script("stress.dead_peer", "--watch", name)]
    return subprocess.run(command, env=with_tests(), text=True, timeout=LIMIT, check=False, **options)


def main() -> int:
    """Cut the wire, print each detected dead peer, and return the exit status."""
    print(f"the wire is cut; keep-alive detects it after {DEFAULT_KEEPALIVE:.0f} s", flush=True)
    try:
        return run("default").returncode
    except pytest.skip.Exception as reason:
        print(f"skipped: {reason}")
        return 2


def watch(name: str) -> int:
    """Run the watches of a list, print each result, and return the exit status."""
    logging.getLogger("sseclient_dual").setLevel(logging.CRITICAL)
    asked = LISTS[name]
    _ip("link", "set", "lo", "up")
    with tempfile.TemporaryDirectory() as folder:
        late = Wire(asked, Path(folder)).run()
    print(f"{len(asked)} dead peers detected, {late} of them at an unexpected time; {len(asked)} streams resumed")
    return bool(late)


class Wire:
    """The servers and clients on both sides of a wire that is cut."""

    def __init__(self, asked: Sequence[Watch], folder: Path) -> None:
        self._watches = asked
        self._last = max(watch.seconds for watch in asked)
        self._tls, self._authority = make_tls(folder)
        self._all_open = threading.Barrier(len(asked), self._cut)
        self._all_found = threading.Barrier(len(asked), self._repair)
        self._is_cut = threading.Event()
        self._cut_at = 0.0

    def run(self) -> int:
        """Cut the wire, and repair it after all detections; return how many were at an unexpected time."""
        with ExitStack() as stack:
            self._servers = [stack.enter_context(SSEServer(default=_answer, tls=tls)) for tls in (None, self._tls)]
            pool = stack.enter_context(ThreadPoolExecutor(len(self._watches)))
            return sum(not on_time for on_time in pool.map(self._watch, self._watches))

    def _watch(self, watch: Watch) -> bool:
        """Return True if the dead peer is detected at the expected time."""
        pool, timeout = watch.settings(self._authority)
        with drive(watch.api) as api, SSEClient(pool, policy=RESTARTS) as client:
            url, attempts = self._servers[watch.secure].url, itertools.count()

            def headers() -> dict[str, str]:
                if watch.cut_before_request and next(attempts) == 1:  # the second attempt waits for the cut
                    self._is_cut.wait(PATIENCE)
                return {"X-End": str(watch.cut_before_request)}

            conn = client.connect(url, headers=headers, timeout=timeout, keep_connection=watch.cut_before_request)
            signals = api.signals(conn)
            assert isinstance(signals.next(), Opened)
            assert signals.next() == SSEEvent("after None", id="1")
            if watch.cut_before_request:
                assert signals.next() == Interrupted(None, RESTARTS.retry_delay)
            self._all_open.wait(PATIENCE)
            dead = signals.next()
            took = time.monotonic() - self._cut_at
            # The timeout counts from the last byte: a client that waited for the others detects it earlier.
            on_time = 0.5 * watch.seconds < took < 1.2 * watch.seconds + PATIENCE
            assert isinstance(dead, Interrupted)
            print(
                f"{watch}: dead after {took:.1f} s, {'' if on_time else 'NOT '}as expected: {dead.error}", flush=True
            )
            self._all_found.wait(2 * self._last + PATIENCE)
            while not isinstance(signal := signals.next(), Opened):
                assert isinstance(signal, Interrupted)  # a failed attempt while the wire is cut
            assert signals.next() == SSEEvent("after 1", id="1")
            api.close(conn)
        pool.clear()
        return on_time

    def _cut(self) -> None:
        self._cut_at = time.monotonic()
        _tc("replace", "dev", "lo", "root", "blackhole")
        self._is_cut.set()

    def _repair(self) -> None:
        for server in self._servers:  # they did not notice the cut
            server.wait_for_connections(len(self._watches) // 2, timeout=0)
        _tc("del", "dev", "lo", "root")


def _answer(request: ReceivedRequest) -> Reply:
    ends = request.headers["X-End"] == "True" and request.last_event_id is None
    return stream(f"id: 1\ndata: after {request.last_event_id}\n\n", *([] if ends else [HANG]))


def _ip(*arguments: str) -> None:
    subprocess.run([program("ip", "iproute2"), *arguments], check=True)


def _tc(*arguments: str) -> None:
    subprocess.run([program("tc", "iproute2"), "qdisc", *arguments], check=True)


if __name__ == "__main__":
    sys.exit(watch(sys.argv[2]) if sys.argv[1:2] == ["--watch"] else main())
