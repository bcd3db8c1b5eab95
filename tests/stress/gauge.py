"""Measure the memory that a client needs for a flood. This file is also the script of the measured process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sseclient_dual import SSEClient, SSEConnectionError
from sseclient_dual.testing import SSEServer
from support.processes import with_tests

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from stress.peers import Peer

MIB = 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """The result of one measurement."""

    events: int
    bytes: int
    error: str
    memory: float
    """Peak growth of the process, in MiB."""


class Gauge:
    """A process that measures floods: each in a new fork, so that measurements are independent."""

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
        with self._process:  # closes the pipes, so that the process ends, and waits for it
            if error is not None:
                self._process.kill()

    def measure(self, peer: Peer, size: int, limit: int) -> tuple[Cost, int]:
        """Consume the stream of `peer` until the event ``end`` or an error; return the cost and the request count.

        :param size: length of the flood in bytes.
        :param limit: maximum event size in MiB.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with SSEServer(default=lambda _request: peer.reply(size)) as server:
            print(
                json.dumps([server.url, max(limit, peer.largest) * MIB, peer.held, peer.options.get("http2", False)]),
                file=self._process.stdin,
            )
            return Cost(**json.loads(self._process.stdout.readline())), len(server.requests)


def consume(url: str, limit: int, held: bool, http2: Any) -> Cost:
    """Connect, and consume the stream until the event ``end`` or an error."""
    before = _peak()
    count, error = 0, ""
    with SSEClient(http2=http2) as client:
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
    """Return the peak memory of this process, in MiB."""
    with Path("/proc/self/status").open(encoding="ascii") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Read one measurement per line from a `Gauge`, and print one result per line."""
    for line in sys.stdin:
        if (fork := os.fork()) == 0:
            try:
                print(json.dumps(asdict(consume(*json.loads(line)))), flush=True)
            except BaseException:  # noqa: BLE001 - else the fork would continue the parent's loop
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        if os.waitpid(fork, 0)[1]:
            print("{}", flush=True)  # an invalid result, so that the caller fails, too


if __name__ == "__main__":
    main()
