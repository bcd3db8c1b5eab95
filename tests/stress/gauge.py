"""How much memory a flood costs a client, measured in a process of its own: this file run as a script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sseclient_dual import SSEClient, SSEConnectionError
from sseclient_dual.testing import SSEServer
from support.processes import with_tests

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from stress.hostile import Peer

MIB = 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """What it came to in a process of its own."""

    events: int
    bytes: int
    error: str
    memory: float
    """MiB, at the most, beyond what the process had before."""


class Gauge:
    """A process that knows what floods cost: it meets each in a fork of its own, which has no memory but its own."""

    def __enter__(self) -> Self:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stress.gauge"],
            stdin=pipe,
            stdout=pipe,
            env=with_tests(environment),
            text=True,
            bufsize=1,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        with self._process:  # closes its pipes, which ends it, and waits
            if error is not None:
                self._process.kill()

    def measure(self, peer: Peer, size: int, limit: int) -> tuple[Cost, int]:
        """Return what it costs to take what `peer` sends, to the event ``end`` or an error, and how many requests.

        :param size: bytes of the flood.
        :param limit: MiB that an event may have.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with SSEServer(default=lambda _request: peer.play(size)) as server:
            print(json.dumps([server.url, max(limit, peer.largest) * MIB, peer.held]), file=self._process.stdin)
            return Cost(**json.loads(self._process.stdout.readline())), len(server.requests)


def take(url: str, limit: int, held: bool) -> Cost:
    """Connect, and take what comes to the event ``end`` or an error."""
    before = _peak()
    count, error = 0, ""
    with SSEClient() as client:
        conn = client.connect(url, reconnect=False, max_event_size=limit)
        try:
            with conn:
                received = -1
                while held and received != (received := conn.stats.bytes):
                    time.sleep(0.2)
                for event in conn:
                    count += 1
                    if event.data == "end":
                        break
        except SSEConnectionError as caught:
            error = f"{type(caught).__name__}: {caught}"
        return Cost(count, conn.stats.bytes, error, _peak() - before)


def _peak() -> float:
    """Return the most memory that this process has had so far, in MiB."""
    with Path("/proc/self/status").open(encoding="ascii") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Do what a `Gauge` asks for, a line each, and answer in a line."""
    for line in sys.stdin:
        if (fork := os.fork()) == 0:
            try:
                print(json.dumps(asdict(take(*json.loads(line)))), flush=True)
            except BaseException:  # noqa: BLE001 - else it would go on as the process that it is a fork of
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        if os.waitpid(fork, 0)[1]:
            print("{}", flush=True)  # no cost, so that whoever asked fails too


if __name__ == "__main__":
    main()
