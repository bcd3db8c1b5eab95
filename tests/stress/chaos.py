"""Random faults: servers send a numbered log and fail in many ways; consumers compare each event with the log.

One seed determines everything except the timing, so a run can be repeated.
`make soak ARGS='chaos [faults] [seed] [switch interval] [http1|http2]'` makes more faults than `test_chaos.py`.
Without a switch interval, the part runs with Python's own and with one of a microsecond, so that threads are
interrupted almost anywhere; and with both over HTTP/2, where a fault may hit several streams of a connection.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from urllib3 import Timeout

from sseclient_dual import ReconnectPolicy, SSEClient, SSEEvent
from sseclient_dual.testing import (
    CUT,
    HANG,
    RESET,
    SSEServer,
    goaway,
    half_chunk,
    raw,
    reset_stream,
    status,
    stream,
    wire,
)
from support.logs import quiet
from support.tls import make_tls

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual import SSEConnection
    from sseclient_dual.testing import ReceivedRequest, Reply, Step

POLICY = ReconnectPolicy(retry_delay=10, min_retry_delay=0, max_retry_delay=10, jitter=0)
FAULTS = 10_000  # in `make soak`
SWITCH_INTERVALS = [sys.getswitchinterval(), 1e-6]  # seconds that a thread runs before another one may
SILENCE = 0.2  # seconds until a stalled connection is treated as dead
_MAX_REPLAYED = 50  # events
_MAX_PER_RESPONSE = 40  # events
_DOWNTIME = 0.01  # seconds
_LAST_DATA = "the end"
_GARBAGE = "garbage instead of SSE"
_ALPHABET = 'abcdefghij0123456789 {}:,"äöüßéñ—…☃日本語проверкаελ😀\u2028\u0085\x0b'


@dataclass
class Tally:
    """The counters and failures of a run."""

    faults: Counter[str] = field(default_factory=Counter)
    sent: int = 0  # events, including replays
    received: int = 0
    duplicates: int = 0  # dropped by the client
    reconnects: int = 0
    failures: list[str] = field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.faults + other.faults,
            self.sent + other.sent,
            self.received + other.received,
            self.duplicates + other.duplicates,
            self.reconnects + other.reconnects,
            self.failures + other.failures,
        )

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        return (
            f"{sum(self.faults.values())} faults ({faults}); {self.sent} events sent, {self.received} received, "
            f"{self.duplicates} duplicates dropped, {self.reconnects} reconnects; {len(self.failures)} failures"
        )


class Log:
    """An endless log of events; the number of an event determines its content."""

    def __init__(self, seed: str) -> None:
        self._seed = seed

    def __getitem__(self, number: int) -> SSEEvent:
        rng = random.Random(f"{self._seed}/{number}")
        size = rng.choice([0, 5, 20, 20, 20, 200, rng.randint(0, 5000)])
        data = "".join(rng.choices(_ALPHABET + "\n" * rng.choice([0, 0, 3]), k=size))
        return SSEEvent(data, rng.choice([None, None, "order", "größe"]), self.id_of(number))

    @staticmethod
    def id_of(number: int) -> str:
        """Return the id of an event; it is not pure ASCII."""
        return f"№{number}…☃"

    @staticmethod
    def number_of(event_id: str) -> int:
        """Return the number of the event that has this id."""
        return int(event_id[1:-2])


class LogServer(SSEServer):
    """A server of one log or more, by path."""

    def __init__(self, tls: ssl.SSLContext | None, *, http2: bool) -> None:
        super().__init__(default=lambda request: self._logs[request.path](request), tls=tls, http2=http2)
        self.http2: Literal["prior-knowledge"] | bool = http2 if tls or not http2 else "prior-knowledge"
        """How a client speaks to it."""
        self._logs: dict[str, Callable[[ReceivedRequest], Reply]] = {}
        self._restarting = threading.Lock()  # one at a time

    def add_log(self, path: str, answer: Callable[[ReceivedRequest], Reply]) -> None:
        """Answer the requests for a path."""
        self._logs[path] = answer

    def restart(self) -> None:
        """Stop with all connections, and start again."""
        with self._restarting:
            self.refuse(drop=True)
            time.sleep(_DOWNTIME)
            self.listen()


class FaultyServer:
    """A server that sends a log to one connection, with a fault in each response.

    :param faults: the number of faults; the response after them sends the rest of the log and ends it.
    :param sse_server: the server, which others may use.
    :param path: where this log is.
    """

    def __init__(self, seed: str, faults: int, sse_server: LogServer, path: str) -> None:
        self.log = Log(seed)
        self.tally = Tally()
        self.length = 0  # upper bound of the events sent so far
        self._sse_server = sse_server
        self._path = path
        self.http2 = sse_server.http2
        sse_server.add_log(path, self._answer)
        self._rng = random.Random(seed)
        self._left = faults
        self._lock = threading.Lock()  # guards the state: a stalled response may overlap the next request
        # A second malformed line in a row would end the connection for good. So the next one follows only after an
        # event from this number on: the client has received another response meanwhile.
        self._no_garbage_before = 0
        self._kinds: dict[str, Callable[[list[Step]], Reply]] = {
            "clean end": self._stream,
            "cut": lambda steps: self._stream(self._truncated(steps), CUT),
            "reset": lambda steps: self._stream(self._truncated(steps), RESET),
            "stall": lambda steps: self._stream(self._truncated(steps), HANG),
            "partial chunk": lambda steps: stream(*steps, half_chunk("data: never whole"), CUT),
            "broken chunking": lambda steps: stream(*steps, wire(b"zz\r\nnonsense\r\n"), HANG),
            _GARBAGE: lambda steps: self._stream([*steps, b"\xff\x00 no field of an event\n\n"], HANG),
            "partial head": lambda _: raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/ev", CUT),
            "garbage instead of HTTP": lambda _: raw(b"\x16\x03\x01 something else\r\n\r\n", CUT),
            "no response": lambda _: raw(CUT),
            "reset before the head": lambda _: raw(RESET),
            "429": lambda _: status(429, headers={"Retry-After": "0"}),
            "500": lambda _: status(500, "out of order"),
            "503": lambda _: status(503, headers={"Retry-After": "0"}),
            "server restarted": self._restart,
        }
        if sse_server.http2:
            self._kinds |= {
                "stream reset": lambda steps: self._stream(
                    self._truncated(steps), reset_stream(self._rng.randrange(14))
                ),
                "stream refused": lambda _: raw(reset_stream(7)),
                "goaway": lambda steps: self._stream([goaway(), *steps]),
                "goaway without this stream": lambda steps: self._stream([*steps, goaway(last_stream=0)], HANG),
            }

    @property
    def url(self) -> str:
        """The URL of the log."""
        return f"{self._sse_server.origin}{self._path}"

    def _answer(self, request: ReceivedRequest) -> Reply:
        with self._lock:
            last = request.last_event_id
            begin = 0 if last is None else Log.number_of(last) + 1
            if self._left <= 0:
                if begin > self.length:  # not before: a timeout on a busy machine may discard the last response
                    return status(204)
                rest = [self.log[number].encode() for number in range(begin, self.length)]
                self.tally.sent += len(rest)
                return stream(*rest, SSEEvent(_LAST_DATA, id=Log.id_of(self.length)).encode())
            self._left -= 1
            kind = self._rng.choice(
                [kind for kind in self._kinds if kind != _GARBAGE or begin > self._no_garbage_before]
            )
            self.tally.faults[kind] += 1
            replayed = self._rng.choice([0, 0, 1, 3, self._rng.randint(0, _MAX_REPLAYED)])
            end = begin + self._rng.choice([0, 1, 2, self._rng.randint(0, _MAX_PER_RESPONSE)])
            numbers = range(max(0, begin - replayed), end)
            reply = self._kinds[kind](self._body(numbers))
            if reply.head and b" 200 " in reply.head:
                self.length = max(self.length, end)
                self.tally.sent += len(numbers)
                if kind == _GARBAGE:
                    self._no_garbage_before = end
            return reply

    def _body(self, numbers: range) -> list[Step]:
        """Return events as bytes, split between events or anywhere, with comments and blank lines added."""
        parts: list[bytes] = []
        for number in numbers:
            parts.append(self._rng.choice([b"", b"", b": a comment\n", b"retry: 1\n\n", b": a comment\n\n", b"\n"]))
            parts.append(self.log[number].encode())
        if self._rng.random() < 0.5:
            return [part for part in parts if part]
        body = b"".join(parts)
        cuts = sorted(self._rng.choices(range(len(body) + 1), k=self._rng.randint(0, 8)))
        return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True) if start < end]

    def _truncated(self, steps: list[Step]) -> list[Step]:
        """Return the beginning of a body, cut at a random byte."""
        body = b"".join(step for step in steps if isinstance(step, bytes))
        return [body[: self._rng.randint(0, len(body))]] if body else []

    def _stream(self, steps: list[Step], *ending: Step) -> Reply:
        framings: list[Literal["chunked", "close", "none"]] = ["chunked", "chunked", "close", "none"]
        encodings: list[Literal["gzip", "deflate"] | None] = [None, None, None, "gzip", "deflate"]
        framing = self._rng.choice(framings)
        if framing != "chunked" and CUT in ending:
            ending = (RESET,)  # without chunks a cut would be a clean end
        encoding = self._rng.choice(encodings)
        return stream(
            lambda: steps, *ending, framing=framing, encoding=encoding, head_with_body=self._rng.random() < 0.3
        )

    def _restart(self, steps: list[Step]) -> Reply:
        threading.Thread(target=self._sse_server.restart).start()
        return stream(*steps, HANG)


class Consumer:
    """Consumes the stream of a `FaultyServer`, and compares each event with the log."""

    def __init__(self, server: FaultyServer, seed: str, *, slow: bool) -> None:
        self._server = server
        self._rng = random.Random(seed)
        self._slow = slow
        self._expected = 0
        self._complete = False

    def consume(self, client: SSEClient) -> None:
        """Consume the stream to its end with the sync API."""
        with self._connect(client) as conn:
            for event in conn:
                self._check(event)
                if self._pauses():
                    time.sleep(0.001)
        self._finish(conn)

    async def consume_async(self, client: SSEClient) -> None:
        """Consume the stream to its end with the async API."""
        async with self._connect(client) as conn:
            async for event in conn:
                self._check(event)
                if self._pauses():
                    await asyncio.sleep(0.001)
        self._finish(conn)

    def _connect(self, client: SSEClient) -> SSEConnection:
        server = self._server
        return client.connect(server.url, http2=server.http2, queue_size=3 if self._slow else 1024)

    def _pauses(self) -> bool:
        return self._slow and self._rng.random() < 0.3

    def _check(self, event: SSEEvent) -> None:
        tally = self._server.tally
        if event.data == _LAST_DATA:
            self._complete = True
            if self._expected != self._server.length:
                tally.failures.append(f"the stream ended after {self._expected} of {self._server.length} events")
            return
        tally.received += 1
        if event != self._server.log[self._expected] and len(tally.failures) < 5:
            tally.failures.append(f"received {event} instead of event number {self._expected}")
        self._expected += 1

    def _finish(self, conn: SSEConnection) -> None:
        tally = self._server.tally
        tally.duplicates, tally.reconnects = conn.stats.duplicates, conn.stats.reconnects
        if not self._complete:
            tally.failures.append("the last event is missing")


def run(
    seed: int,
    faults: int,
    progress: Callable[[Tally], None] = lambda _: None,
    *,
    switch_interval: float = SWITCH_INTERVALS[0],
    http2: bool = False,
) -> Tally:
    """Consume eight streams at once: both APIs, slow and fast, plain and TLS.

    :param faults: the total of all streams.
    :param http2: share one plain and one TLS connection, over HTTP/2.
    :param switch_interval: see `sys.setswitchinterval`; in seconds.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(switch_interval)
    try:
        return _run(seed, faults, progress, http2=http2)
    finally:
        sys.setswitchinterval(before)


def _run(seed: int, faults: int, progress: Callable[[Tally], None], *, http2: bool) -> Tally:
    with tempfile.TemporaryDirectory() as folder:
        server_context, authority = make_tls(Path(folder))
        trusted = ssl.create_default_context(cafile=authority)
    if http2:
        trusted.set_alpn_protocols(["h2", "http/1.1"])
    contexts = [None, None, server_context, server_context] * 2
    sse_servers = [LogServer(context, http2=http2) for context in contexts]
    if http2:
        sse_servers = [sse_servers[0 if context is None else 2] for context in contexts]
    servers = [
        FaultyServer(f"{seed}/{number}", faults // 8, sse_server, f"/{number}")
        for number, sse_server in enumerate(sse_servers)
    ]
    consumers = [
        Consumer(server, f"{seed}/{number}/witness", slow=number % 2 == 1) for number, server in enumerate(servers)
    ]
    for sse_server in sse_servers:
        sse_server.start()
    finished = threading.Event()

    def report() -> None:
        while not finished.wait(5):
            progress(sum((server.tally for server in servers), Tally()))

    reporter = threading.Thread(target=report)
    reporter.start()
    try:
        with SSEClient(policy=POLICY, ssl_context=trusted, timeout=Timeout(connect=10, read=SILENCE)) as client:

            async def all_async() -> None:
                await asyncio.gather(*(consumer.consume_async(client) for consumer in consumers[4:]))

            with ThreadPoolExecutor(5) as pool:
                consuming = [pool.submit(consumer.consume, client) for consumer in consumers[:4]]
                consuming.append(pool.submit(lambda: asyncio.run(all_async())))
            for each in consuming:
                each.result()
    finally:
        finished.set()
        reporter.join()
        for sse_server in sse_servers:
            sse_server.close()
    return sum((server.tally for server in servers), Tally())


def main(arguments: list[str]) -> int:
    """Make the faults, print the progress, and return the exit status."""
    quiet()
    faults = int(arguments[0]) if arguments else FAULTS
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(2**32)
    intervals = [float(arguments[2])] if len(arguments) > 2 else SWITCH_INTERVALS
    versions = [arguments[3] == "http2"] if len(arguments) > 3 else [False, True]
    return max(
        _report_run(faults, seed, interval, http2=http2) for http2, interval in itertools.product(versions, intervals)
    )


def _report_run(faults: int, seed: int, switch_interval: float, *, http2: bool) -> int:
    begin = time.monotonic()

    def progress(tally: Tally) -> None:
        print(f"{time.monotonic() - begin:5.0f} s: {sum(tally.faults.values())} of {faults} faults", flush=True)

    version = "http2" if http2 else "http1"
    print(f"chaos over {version}, seed {seed}, switch interval {switch_interval:g} s", flush=True)
    tally = run(seed, faults, progress, switch_interval=switch_interval, http2=http2)
    print(f"in {time.monotonic() - begin:.0f} s: {tally}")
    for failure in tally.failures:
        print(f"FAILURE: {failure}")
    if tally.failures:
        print(f"to repeat this run: make soak ARGS='chaos {faults} {seed} {switch_interval:g} {version}'")
    return int(bool(tally.failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
