"""Faults on purpose: a server with an ordered log that fails in every way it can, and consumers who notice all.

Everything is drawn from one seed, so that a run can be repeated; what is not is the moment at which it happens.
`make soak ARGS='chaos [faults] [seed]'` makes more faults than `test_chaos.py`.
"""

from __future__ import annotations

import asyncio
import logging
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
from sseclient_dual.testing import CUT, HANG, RESET, SSEServer, half_chunk, raw, status, stream, wire
from support.tls import make_tls

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual import SSEConnection
    from sseclient_dual.testing import ReceivedRequest, Reply, Step

POLICY = ReconnectPolicy(retry_delay=1, min_retry_delay=0, max_retry_delay=5, jitter=0)
FAULTS = 10_000  # of `make soak`
SILENCE = 0.2  # seconds until a stalled connection is treated as dead
_MOST_REPLAYED = 50  # events
_MOST_A_RESPONSE = 40  # events
_REFUSED = 0.01  # seconds
_ENDING = "the end"
_ALPHABET = 'abcdefghij0123456789 {}:,"äöüßéñ—…☃日本語проверкаελ😀\u2028\u0085\x0b'


@dataclass
class Tally:
    """What happened."""

    faults: Counter[str] = field(default_factory=Counter)
    sent: int = 0  # events, those sent again included
    received: int = 0
    duplicates: int = 0  # dropped by the client
    reconnects: int = 0
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.faults + other.faults,
            self.sent + other.sent,
            self.received + other.received,
            self.duplicates + other.duplicates,
            self.reconnects + other.reconnects,
            self.wrong + other.wrong,
        )

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        return (
            f"{sum(self.faults.values())} faults ({faults}); {self.sent} events sent, {self.received} received, "
            f"{self.duplicates} duplicates dropped, {self.reconnects} reconnects; {len(self.wrong)} wrong"
        )


class Log:
    """Events without end, each told by its number."""

    def __init__(self, seed: str) -> None:
        self._seed = seed

    def __getitem__(self, number: int) -> SSEEvent:
        rng = random.Random(f"{self._seed}/{number}")
        size = rng.choice([0, 5, 20, 20, 20, 200, rng.randint(0, 5000)])
        data = "".join(rng.choices(_ALPHABET + "\n" * rng.choice([0, 0, 3]), k=size))
        return SSEEvent(data, rng.choice([None, None, "order", "größe"]), self.id_of(number))

    @staticmethod
    def id_of(number: int) -> str:
        """Return the id of an event: not of ASCII alone."""
        return f"№{number}…☃"

    @staticmethod
    def number_of(event_id: str) -> int:
        """Return the number of the event that has this id."""
        return int(event_id[1:-2])


class Saboteur:
    """Answers requests from a log, and spoils the answers; for one connection.

    :param faults: how many to make before the log is brought to its end.
    :param tls: the server's context, None to serve plain HTTP.
    """

    def __init__(self, seed: str, faults: int, tls: ssl.SSLContext | None = None) -> None:
        self.log = Log(seed)
        self.tally = Tally()
        self.length = 0  # events that were begun to be sent, at the most
        self.server = SSEServer(default=self._answer, tls=tls)
        self._rng = random.Random(seed)
        self._left = faults
        self._lock = threading.Lock()  # guards all of these: a stalled answer may outlive the next request
        self._may_babble = True  # a second line in a row that is no SSE would be for good
        self._ended = False
        self._kinds: dict[str, Callable[[list[Step]], Reply]] = {
            "clean end": self._stream,
            "cut": lambda steps: self._stream(self._spoilt(steps), CUT),
            "reset": lambda steps: self._stream(self._spoilt(steps), RESET),
            "stall": lambda steps: self._stream(self._spoilt(steps), HANG),
            "half a chunk": lambda steps: stream(*steps, half_chunk("data: never whole"), CUT),
            "no chunk": lambda steps: stream(*steps, wire(b"zz\r\nnonsense\r\n"), HANG),
            "no SSE": lambda steps: self._stream([*steps, b"\xff\x00 no field of an event\n\n"], HANG),
            "half a head": lambda _: raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/ev", CUT),
            "no HTTP": lambda _: raw(b"\x16\x03\x01 something else\r\n\r\n", CUT),
            "no answer": lambda _: raw(CUT),
            "reset at once": lambda _: raw(RESET),
            "429": lambda _: status(429, headers={"Retry-After": "0"}),
            "500": lambda _: status(500, "out of order"),
            "503": lambda _: status(503, headers={"Retry-After": "0"}),
            "refused": self._restart,
        }

    def _answer(self, request: ReceivedRequest) -> Reply:
        with self._lock:
            if self._ended:
                return status(204)
            last = request.last_event_id
            begin = 0 if last is None else Log.number_of(last) + 1
            if self._left <= 0:
                self._ended = True
                self.length = max(self.length, begin)
                rest = [self.log[number].encode() for number in range(begin, self.length)]
                self.tally.sent += len(rest)
                return stream(*rest, SSEEvent(_ENDING, id=Log.id_of(self.length)).encode())
            self._left -= 1
            kind = self._rng.choice([kind for kind in self._kinds if kind != "no SSE" or self._may_babble])
            self.tally.faults[kind] += 1
            replayed = self._rng.choice([0, 0, 1, 3, self._rng.randint(0, _MOST_REPLAYED)])
            end = begin + self._rng.choice([0, 1, 2, self._rng.randint(0, _MOST_A_RESPONSE)])
            numbers = range(max(0, begin - replayed), end)
            reply = self._kinds[kind](self._body(numbers))
            if reply.head and b" 200 " in reply.head:
                self.length = max(self.length, end)
                self.tally.sent += len(numbers)
                if kind in {"no SSE", "clean end"}:  # of the others the head may get lost, and then they do not count
                    self._may_babble = kind != "no SSE"
            return reply

    def _body(self, numbers: range) -> list[Step]:
        """Return events as bytes, cut at their ends or anywhere, with comments and other things between."""
        parts: list[bytes] = []
        for number in numbers:
            parts.append(self._rng.choice([b"", b"", b": a comment\n", b"retry: 1\n\n", b": a comment\n\n", b"\n"]))
            parts.append(self.log[number].encode())
        if self._rng.random() < 0.5:
            return [part for part in parts if part]
        body = b"".join(parts)
        cuts = sorted(self._rng.choices(range(len(body) + 1), k=self._rng.randint(0, 8)))
        return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True) if start < end]

    def _spoilt(self, steps: list[Step]) -> list[Step]:
        """Return what is left of a body that ends at any byte."""
        body = b"".join(step for step in steps if isinstance(step, bytes))
        return [body[: self._rng.randint(0, len(body))]] if body else []

    def _stream(self, steps: list[Step], *ending: Step) -> Reply:
        framings: list[Literal["chunked", "close", "none"]] = ["chunked", "chunked", "close", "none"]
        encodings: list[Literal["gzip", "deflate"] | None] = [None, None, None, "gzip", "deflate"]
        framing = self._rng.choice(framings)
        if framing != "chunked" and CUT in ending:
            ending = (RESET,)  # else it is a clean end
        encoding = self._rng.choice(encodings)
        return stream(*steps, *ending, framing=framing, encoding=encoding, head_with_body=self._rng.random() < 0.3)

    def _restart(self, steps: list[Step]) -> Reply:
        """Have the server go, with all its connections, and come back."""

        def again() -> None:
            self.server.refuse(drop=True)
            time.sleep(_REFUSED)
            self.server.listen()

        threading.Thread(target=again).start()
        return stream(*steps, HANG)


class Witness:
    """Consumes what a `Saboteur` serves, and holds each event against the log."""

    def __init__(self, saboteur: Saboteur, seed: str, *, slow: bool) -> None:
        self._saboteur = saboteur
        self._rng = random.Random(seed)
        self._slow = slow
        self._expected = 0
        self._over = False

    def watch(self, client: SSEClient) -> None:
        """Consume the stream to its end, blocking."""
        with self._connect(client) as conn:
            for event in conn:
                self._take(event)
                if self._is_tired():
                    time.sleep(0.001)
        self._finish(conn)

    async def watch_async(self, client: SSEClient) -> None:
        """Consume the stream to its end, awaiting."""
        async with self._connect(client) as conn:
            async for event in conn:
                self._take(event)
                if self._is_tired():
                    await asyncio.sleep(0.001)
        self._finish(conn)

    def _connect(self, client: SSEClient) -> SSEConnection:
        return client.connect(self._saboteur.server.url, queue_size=3 if self._slow else 1024)

    def _is_tired(self) -> bool:
        return self._slow and self._rng.random() < 0.3

    def _take(self, event: SSEEvent) -> None:
        tally = self._saboteur.tally
        if event.data == _ENDING:
            self._over = True
            if self._expected != self._saboteur.length:
                tally.wrong.append(f"the end came after {self._expected} of {self._saboteur.length} events")
            return
        tally.received += 1
        if event != self._saboteur.log[self._expected] and len(tally.wrong) < 5:
            tally.wrong.append(f"{event} came in place of number {self._expected}")
        self._expected += 1

    def _finish(self, conn: SSEConnection) -> None:
        tally = self._saboteur.tally
        tally.duplicates, tally.reconnects = conn.stats.duplicates, conn.stats.reconnects
        if not self._over:
            tally.wrong.append("the end never came")


def run(seed: int, faults: int, progress: Callable[[Tally], None] = lambda _: None) -> Tally:
    """Watch eight streams at once: both APIs, slow and fast, plain and over TLS; share `faults` out among them."""
    with tempfile.TemporaryDirectory() as folder:
        serving, authority = make_tls(Path(folder))
        trusting = ssl.create_default_context(cafile=authority)
    saboteurs = [
        Saboteur(f"{seed}/{number}", faults // 8, serving if number % 4 >= 2 else None) for number in range(8)
    ]
    witnesses = [
        Witness(saboteur, f"{seed}/{number}/witness", slow=number % 2 == 1)
        for number, saboteur in enumerate(saboteurs)
    ]
    for saboteur in saboteurs:
        saboteur.server.start()
    over = threading.Event()

    def report() -> None:
        while not over.wait(5):
            progress(sum((saboteur.tally for saboteur in saboteurs), Tally()))

    reporter = threading.Thread(target=report)
    reporter.start()
    try:
        with SSEClient(policy=POLICY, ssl_context=trusting, timeout=Timeout(connect=10, read=SILENCE)) as client:

            async def all_async() -> None:
                await asyncio.gather(*(witness.watch_async(client) for witness in witnesses[4:]))

            with ThreadPoolExecutor(5) as pool:
                watching = [pool.submit(witness.watch, client) for witness in witnesses[:4]]
                watching.append(pool.submit(lambda: asyncio.run(all_async())))
            for each in watching:
                each.result()
    finally:
        over.set()
        reporter.join()
        for saboteur in saboteurs:
            saboteur.server.close()
    return sum((saboteur.tally for saboteur in saboteurs), Tally())


def main(arguments: list[str]) -> int:
    """Make faults, tell of them as they go, and return the exit status."""
    logging.getLogger("sseclient_dual").setLevel(logging.CRITICAL)  # failures are what is asked for here
    faults = int(arguments[0]) if arguments else FAULTS
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(2**32)
    begin = time.monotonic()

    def progress(tally: Tally) -> None:
        print(f"{time.monotonic() - begin:5.0f} s: {sum(tally.faults.values())} of {faults} faults", flush=True)

    print(f"chaos, seed {seed}")
    tally = run(seed, faults, progress)
    print(f"in {time.monotonic() - begin:.0f} s: {tally}")
    for wrong in tally.wrong:
        print(f"WRONG: {wrong}")
    if tally.wrong:
        print(f"repeat it: make soak ARGS='chaos {faults} {seed}'")
    return bool(tally.wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
