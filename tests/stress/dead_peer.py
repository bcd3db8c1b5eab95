"""A peer that is gone without a word: how long until that is noticed, and that the stream then goes on.

Run in a network namespace of its own, whose loopback is the wire: while that is cut every packet vanishes, and no
side is told. `test_dead_peer.py` has it found by brisk settings, `make soak ARGS=dead_peer` by those that users get,
in two minutes.
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

# Seconds: 60 of silence, then a probe every 15, four of them; and as long for a request that nobody confirms.
DEFAULT_KEEPALIVE = 120.0
LIMIT = 2 * DEFAULT_KEEPALIVE  # seconds, for all of it
BRISK_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", 0), 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", 0), 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", 0), 1),
]
BRISK_REQUEST = [(socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", 0), 2000)]


@dataclass(frozen=True)
class Watch:
    """One connection whose peer is going to be gone.

    :param means: by what that is found.
    :param seconds: when that is due.
    """

    means: str
    seconds: float
    api: str
    secure: bool

    def __str__(self) -> str:
        return f"{self.means}, {self.api}, {'tls' if self.secure else 'plain'}"

    @property
    def is_of_a_request(self) -> bool:
        """Whether the wire is cut before a request on a connection that was kept, not in the midst of a response."""
        return "request" in self.means

    def settings(self, authority: str) -> tuple[PoolManager, Timeout]:
        """Return a pool to lend, and how long to wait."""
        brisk = {"brisk keep-alive": BRISK_KEEPALIVE, "brisk request": BRISK_REQUEST}
        options: dict[str, Any] = {"socket_options": brisk[self.means]} if self.means in brisk else {}
        read = self.seconds if self.means == "read time-out" else None
        return PoolManager(ca_certs=authority, **options), Timeout(connect=1, read=read)


def watches(*means: tuple[str, float]) -> list[Watch]:
    """Return a watch for each of `means` (and when it is due), by both APIs, plain and over TLS."""
    return [
        Watch(name, seconds, api, secure)
        for (name, seconds), api, secure in itertools.product(means, ("sync", "async"), (False, True))
    ]


LISTS = {
    "brisk": watches(("brisk keep-alive", 2), ("brisk request", 2), ("read time-out", 2)),
    "default": watches(("keep-alive", DEFAULT_KEEPALIVE), ("request", DEFAULT_KEEPALIVE), ("read time-out", 45)),
}


def run(name: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the watches of a list in a namespace of their own; skip where none can be made.

    :param options: of `subprocess.run`.
    """
    if sys.platform != "linux":
        pytest.skip("needs the network namespaces of Linux")
    program("tc", "iproute2")
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    alone = [program("unshare", "util-linux"), "--net", *mapped]
    tried = subprocess.run([*alone, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no network namespace can be made here: {tried.stderr.strip()}")
    command = [*alone, *script("stress.dead_peer", "--watch", name)]
    return subprocess.run(command, env=with_tests(), text=True, timeout=LIMIT, check=False, **options)


def main() -> int:
    """Cut the wire, tell of each peer as it is found dead, and return the exit status."""
    print(f"the wire is cut; keep-alive is due after {DEFAULT_KEEPALIVE:.0f} s", flush=True)
    try:
        return run("default").returncode
    except pytest.skip.Exception as reason:
        print(f"not proved: {reason}")
        return 2


def watch(name: str) -> int:
    """Run the watches of a list; tell of each as it is through, and return the exit status."""
    logging.getLogger("sseclient_dual").setLevel(logging.CRITICAL)
    asked = LISTS[name]
    _ip("link", "set", "lo", "up")
    with tempfile.TemporaryDirectory() as folder:
        late = Wire(asked, Path(folder)).run()
    print(f"{len(asked)} peers found dead, {late} of them not when due; {len(asked)} streams went on")
    return bool(late)


class Wire:
    """The servers behind a wire that gets cut, and those who watch."""

    def __init__(self, asked: Sequence[Watch], folder: Path) -> None:
        self._watches = asked
        self._last = max(watch.seconds for watch in asked)
        self._tls, self._authority = make_tls(folder)
        self._all_open = threading.Barrier(len(asked), self._cut)
        self._all_found = threading.Barrier(len(asked), self._mend)
        self._is_cut = threading.Event()
        self._cut_at = 0.0

    def run(self) -> int:
        """Cut the wire under all streams, mend it when all are found dead; return how many were not when due."""
        with ExitStack() as stack:
            self._servers = [stack.enter_context(SSEServer(default=_answer, tls=tls)) for tls in (None, self._tls)]
            pool = stack.enter_context(ThreadPoolExecutor(len(self._watches)))
            return sum(not in_time for in_time in pool.map(self._watch, self._watches))

    def _watch(self, watch: Watch) -> bool:
        """Tell whether the peer was found dead when it was due."""
        pool, timeout = watch.settings(self._authority)
        with drive(watch.api) as api, SSEClient(pool, policy=RESTARTS) as client:
            url, attempts = self._servers[watch.secure].url, itertools.count()

            def headers() -> dict[str, str]:
                if watch.is_of_a_request and next(attempts) == 1:  # the second attempt waits for the wire to be cut
                    self._is_cut.wait(PATIENCE)
                return {"X-End": str(watch.is_of_a_request)}

            conn = client.connect(url, headers=headers, timeout=timeout, keep_connection=watch.is_of_a_request)
            signals = api.signals(conn)
            assert isinstance(signals.next(), Opened)
            assert signals.next() == SSEEvent("after None", id="1")
            if watch.is_of_a_request:
                assert signals.next() == Interrupted(None, RESTARTS.retry_delay)
            self._all_open.wait(PATIENCE)
            dead = signals.next()
            took = time.monotonic() - self._cut_at
            # It counts from the last byte, and so the sooner the longer the others took to be there.
            in_time = 0.5 * watch.seconds < took < 1.2 * watch.seconds + PATIENCE
            assert isinstance(dead, Interrupted)
            print(f"{watch}: dead after {took:.1f} s, {'' if in_time else 'NOT '}when due: {dead.error}", flush=True)
            self._all_found.wait(2 * self._last + PATIENCE)
            while not isinstance(signal := signals.next(), Opened):
                assert isinstance(signal, Interrupted)  # an attempt while the wire was cut
            assert signals.next() == SSEEvent("after 1", id="1")
            api.close(conn)
        pool.clear()
        return in_time

    def _cut(self) -> None:
        self._cut_at = time.monotonic()
        _tc("replace", "dev", "lo", "root", "blackhole")
        self._is_cut.set()

    def _mend(self) -> None:
        for server in self._servers:  # which have not been told
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
