"""The demo: a script of a stream's troubles, played by the server of `testing.py` to each of the two faces.

What is printed happened: every line is made of the connection's signals, of its counters and of the requests that
the server received. `STORY` only says what they should come to, and a line that differs ends the demo.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import aclosing, closing, contextmanager
from typing import TYPE_CHECKING, Final

from . import Comment, Opened, ReconnectPolicy, SSEClient, SSEError, SSEEvent
from .testing import CUT, ReceivedRequest, Reply, SSEServer, pause, status, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from . import SSEConnection
    from .reader import Signal

_HALF: Final = SSEEvent("50 %", "progress", "3")

SCRIPT: Final[tuple[Reply, ...]] = (
    stream(
        ": comments keep a quiet stream alive\n\n",
        SSEEvent("a long computation", "started", "1", retry=300),
        pause(0.3),
        SSEEvent("25 %", "progress", "2"),
        pause(0.3),
        _HALF,
        CUT,
    ),
    stream(
        _HALF,
        SSEEvent("75 %", "progress", "4"),
        pause(0.3),
        SSEEvent("the answer is 42", "finished", "5"),
    ),
    status(204),
)

STORY: Final = (
    "connected, status 200",
    "comment: comments keep a quiet stream alive",
    "event started, id 1, retry 300 ms: a long computation",
    "event progress, id 2: 25 %",
    "event progress, id 3: 50 %",
    "dropped",
    "reconnecting in 0.3 s",
    "connected, status 200",
    "resumed after id 3",
    "duplicate skipped",
    "event progress, id 4: 75 %",
    "event finished, id 5: the answer is 42",
    "response over",
    "reconnecting in 0.3 s",
    "resumed after id 5",
    "ended by the server, status 204",
)

_INTRODUCTION: Final = """\
Server-Sent Events, live: a server in this process plays a script of three answers.
  1. Some events, and the reconnection time; then it cuts the connection.
  2. The last event once more, as servers do that are not sure; the rest; a clean end.
  3. Status 204, by which a server says that there is nothing more to come.
Each client below reconnects by itself, and is to see every event exactly once.
"""


def run(script: Sequence[Reply | Callable[[ReceivedRequest], Reply]] = SCRIPT, timeout: float = 10.0) -> int:
    """Play `script` to both faces and tell what happens; return 0 if that is `STORY`, and else 1.

    :param timeout: seconds of silence that the client takes for a dead connection.
    """
    faces = {"for event in connection": _follow, "async for event in connection": _follow_in_a_loop}
    # No jitter: how long a wait is takes part in the story. Few retries: a broken server must not hold the demo.
    policy = ReconnectPolicy(jitter=0, max_retries=2)
    print(_INTRODUCTION)
    with _silenced(logging.getLogger("sseclient_dual")), SSEClient(timeout=timeout, policy=policy) as client:
        for face, follow in faces.items():
            with SSEServer(*script) as server:
                print(f"{face}:  # {server.url}", flush=True)
                teller = _Teller(client.connect(server.url), server)
                try:
                    follow(teller)
                    teller.end()
                except (SSEError, _AnotherStory) as error:
                    print(f"the demo failed: {error}", file=sys.stderr)
                    return 1
    print("Both faces have told the same story: every event came, and came once.", flush=True)
    return 0


def _follow(teller: _Teller) -> None:
    with closing(teller.connection) as connection:
        for signal in connection.signals():
            teller.tell(signal)


def _follow_in_a_loop(teller: _Teller) -> None:
    async def follow() -> None:
        async with aclosing(teller.connection) as connection:
            async for signal in connection.signals():
                teller.tell(signal)

    asyncio.run(follow())


class _AnotherStory(Exception):  # noqa: N818 - what happened may be right, it is just not what the demo shows
    """What happened is not what should have."""


class _Teller:
    """Tells what happens on one connection, line by line, and holds it against `STORY`."""

    def __init__(self, connection: SSEConnection, server: SSEServer) -> None:
        self.connection = connection
        self._server = server
        self._begin = time.monotonic()
        self._expected = iter(STORY)
        self._interruptions = 0
        self._duplicates = 0

    def tell(self, signal: Signal) -> None:
        """Tell of one signal, and of what its time brought that makes no signal."""
        match signal:
            case Opened():
                self._line(f"connected, status {signal.status}")
                self._tell_resumption()
            case Comment():
                self._line(f"comment: {signal.text.removeprefix(' ')}")
            case SSEEvent():
                self._tell_duplicates()
                named = "" if signal.id is None else f", id {signal.id}"
                timed = "" if signal.retry is None else f", retry {signal.retry} ms"
                self._line(f"event {signal.type}{named}{timed}: {signal.data}")
            case _:  # Interrupted
                self._tell_duplicates()
                self._interruptions += 1
                if signal.error is None:
                    self._line("response over")
                else:
                    self._line("dropped", f": {signal.error}")
                self._line(f"reconnecting in {signal.retry_in / 1000:.1f} s")

    def end(self) -> None:
        """Tell of the stream's end, and sum up."""
        self._tell_resumption()
        self._line(f"ended by the server, status {self.connection.status}")
        stats = self.connection.stats
        print(f"   in all: events {stats.events}, duplicates {stats.duplicates}, reconnects {stats.reconnects}\n")

    def _tell_resumption(self) -> None:
        request = self._server.requests[self._interruptions]  # there is one an attempt
        if request.last_event_id is not None:
            self._line(f"resumed after id {request.last_event_id}")

    def _tell_duplicates(self) -> None:
        # The counter may be ahead of the signals. But there are duplicates after a reconnect only.
        if self._interruptions:
            for _ in range(self.connection.stats.duplicates - self._duplicates):
                self._duplicates += 1
                self._line("duplicate skipped")

    def _line(self, line: str, details: str = "") -> None:
        """Print a line of the story; its details may differ from one time to another."""
        print(f"   {time.monotonic() - self._begin:5.2f} s  {line}{details}", flush=True)
        expected = next(self._expected, "nothing")
        if line != expected:
            raise _AnotherStory(f"expected was {expected!r}, not {line!r}")


@contextmanager
def _silenced(logger: logging.Logger) -> Iterator[None]:
    """Keep the logger quiet: what it warns of is told here as part of the story."""
    was, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was
