"""The demo: the scripted server plays a stream with a drop and duplicates, for the sync API and the async API.

Every printed line reports something that happened: it is made from the connection's signals, its counters, and the
requests that the server received. `EXPECTED` only checks them: a line that differs fails the demo.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import aclosing, closing, contextmanager
from typing import TYPE_CHECKING, Final

from sseclient_dual import Comment, Interrupted, Opened, ReconnectPolicy, SSEClient, SSEError, SSEEvent
from sseclient_dual.logs import logger
from sseclient_dual.testing import CUT, ReceivedRequest, Reply, SSEServer, pause, status, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sseclient_dual import SSEConnection
    from sseclient_dual.event import Signal

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

EXPECTED: Final = (
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
    "response ended",
    "reconnecting in 0.3 s",
    "resumed after id 5",
    "ended by the server, status 204",
)

_INTRODUCTION: Final = """\
Server-Sent Events, live: a local server plays a script of three responses.
  1. A reconnection time and some events; then the connection drops.
  2. The last event again, as servers do to be safe; the other events; a clean end.
  3. Status 204, which ends the stream.
Each client below reconnects automatically, and must receive every event exactly once.
"""


def run(script: Sequence[Reply | Callable[[ReceivedRequest], Reply]] = SCRIPT, timeout: float = 10.0) -> int:
    """Play `script` to both APIs and print what happens; return 0 if it is as in `EXPECTED`, otherwise 1.

    :param timeout: seconds of silence after which the client treats the connection as dead.
    """
    apis = {"for event in connection": _follow, "async for event in connection": _follow_async}
    # No jitter: the printed delays are exact. Few retries: a broken server ends the demo soon.
    policy = ReconnectPolicy(jitter=0, max_retries=2)
    print(_INTRODUCTION)
    with silenced(), SSEClient(timeout=timeout, policy=policy) as client:
        for api, follow in apis.items():
            with SSEServer(*script) as server:
                print(f"{api}:  # {server.url}", flush=True)
                narrator = _Narrator(client.connect(server.url), server)
                try:
                    follow(narrator)
                    narrator.end()
                except (SSEError, UnexpectedStepError) as error:
                    print(f"the demo failed: {error}", file=sys.stderr)
                    return 1
    print("Both APIs received the same events, and each event exactly once.", flush=True)
    return 0


def _follow(narrator: _Narrator) -> None:
    with closing(narrator.connection) as connection:
        for signal in connection.signals():
            narrator.narrate(signal)


def _follow_async(narrator: _Narrator) -> None:
    async def follow() -> None:
        async with aclosing(narrator.connection) as connection:
            async for signal in connection.signals():
                narrator.narrate(signal)

    asyncio.run(follow())


class UnexpectedStepError(Exception):
    """A step differs from `EXPECTED`."""


class Story:
    """Prints what happens, line by line, and compares it with the expected lines."""

    def __init__(self, expected: Iterable[str]) -> None:
        self._start = time.monotonic()
        self._expected = iter(expected)

    def tell(self, line: str, details: str = "") -> None:
        """Print a line, which must be the next one that is expected; `details` may vary.

        :raises UnexpectedStepError: it is another one.
        """
        print(f"   {time.monotonic() - self._start:5.2f} s  {line}{details}", flush=True)
        expected = next(self._expected, "nothing")
        if line != expected:
            raise UnexpectedStepError(f"expected {expected!r}, not {line!r}")


class _Narrator:
    """Prints what happens on one connection."""

    def __init__(self, connection: SSEConnection, server: SSEServer) -> None:
        self.connection = connection
        self._server = server
        self._story = Story(EXPECTED)
        self._interruptions = 0
        self._duplicates = 0

    def narrate(self, signal: Signal) -> None:
        """Print a signal, and the resumption and the duplicates that came with it, which have no signal."""
        match signal:
            case Opened():
                self._story.tell(f"connected, status {signal.status}")
                self._narrate_resumption()
            case Comment():
                self._story.tell(f"comment: {signal.text.removeprefix(' ')}")
            case SSEEvent():
                self._narrate_duplicates()
                event_id = "" if signal.id is None else f", id {signal.id}"
                retry = "" if signal.retry is None else f", retry {signal.retry} ms"
                self._story.tell(f"event {signal.type}{event_id}{retry}: {signal.data}")
            case Interrupted():  # pragma: no branch - the server sends no line that is ignored
                self._narrate_duplicates()
                self._interruptions += 1
                if signal.error is None:
                    self._story.tell("response ended")
                else:
                    self._story.tell("dropped", f": {signal.error}")
                self._story.tell(f"reconnecting in {signal.retry_in / 1000:.1f} s")

    def end(self) -> None:
        """Print the end of the stream, and the totals."""
        self._narrate_resumption()
        self._story.tell(f"ended by the server, status {self.connection.status}")
        stats = self.connection.stats
        print(f"   total: events {stats.events}, duplicates {stats.duplicates}, reconnects {stats.reconnects}\n")

    def _narrate_resumption(self) -> None:
        request = self._server.requests[self._interruptions]  # one for each attempt
        if request.last_event_id is not None:
            self._story.tell(f"resumed after id {request.last_event_id}")

    def _narrate_duplicates(self) -> None:
        # Only after a reconnect: before it, the counter may be ahead of the signals.
        if self._interruptions:
            for _ in range(self.connection.stats.duplicates - self._duplicates):
                self._duplicates += 1
                self._story.tell("duplicate skipped")


@contextmanager
def silenced() -> Iterator[None]:
    """Silence the log: the demo itself prints what it would warn of."""
    was, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was
