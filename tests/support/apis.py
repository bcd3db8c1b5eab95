"""One driver for both APIs: blocking methods that use a connection through its sync or its async API.

Tests of behaviour that both APIs share are written once. A test with the fixture `api` runs once per API; `drive`
does the same without a fixture::

    def test_the_stream_ends(api: Api, server: Server) -> None:
        with api.client() as client, api.connect(client, server.url) as conn:
            assert api.next(conn).data == "only"
            with pytest.raises(Ended):
                api.next(conn)
"""

from __future__ import annotations

import asyncio
import math
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from sseclient_dual import Feed, Gap, SSEClient, SSEConnection, SSEEvent, Subscription
    from sseclient_dual import event as events
    from sseclient_dual.relay import AsyncRelay

    Consumer = SSEConnection | Subscription
    Signal = events.Signal | Gap

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Ended(Exception):  # noqa: N818 - not an error
    """The iteration is over: `StopIteration` of the sync API, `StopAsyncIteration` of the async API."""


class _BothContexts(Protocol[T_co]):
    """An object for both `with` and `async with`: a client or a connection."""

    def __enter__(self) -> T_co: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...
    async def __aenter__(self) -> T_co: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...


class Signals(Protocol):
    """The iterator of a connection's signals, driven by one of its APIs."""

    def next(self) -> Signal:
        """Return the next signal, or raise `Ended`."""

    def take(self, count: int) -> list[Signal]:
        """Return the next `count` signals."""

    def rest(self) -> list[Signal]:
        """Return all signals to the end."""


class Api(Protocol):
    """One API of the connection behind plain blocking methods."""

    name: str
    """`"sync"` or `"async"`."""

    def client(self, *args: Any, **options: Any) -> AbstractContextManager[SSEClient]:
        """Create an `SSEClient` and enter it."""

    def connect(
        self, client: SSEClient, url: str, *args: Any, **options: Any
    ) -> AbstractContextManager[SSEConnection]:
        """Connect and enter the connection, which opens it; leaving closes it."""

    def enter(self, context: _BothContexts[T]) -> AbstractContextManager[T]:
        """Enter and leave `context`, by `with` or by `async with`."""

    def open(self, conn: SSEConnection) -> SSEConnection:
        """Open by `open()`, or by `await`."""

    def next(self, conn: Consumer) -> SSEEvent:
        """Return the next event, or raise `Ended`."""

    def take(self, conn: Consumer, count: int) -> list[SSEEvent]:
        """Return the next `count` events."""

    def rest(self, conn: Consumer) -> list[SSEEvent]:
        """Return all events to the end, by a `for` loop."""

    def recv(self, conn: Consumer, timeout: float | None = None) -> SSEEvent:
        """Receive by `recv()`, or by `arecv()`."""

    def commit(self, conn: SSEConnection) -> None:
        """Save the position by `commit()`, or by `acommit()`."""

    def close(self, conn: Consumer) -> None:
        """Close; the async API awaits what `close()` returns."""

    def signals(self, conn: Consumer) -> Signals:
        """Return the iterator of signals."""

    def relay(self, conn: SSEConnection, heartbeat: float | None = 15.0) -> AbstractContextManager[Iterator[bytes]]:
        """Iterate over `relay()`, or over `arelay()`; leaving closes it."""

    def relay_feed(self, feed: Feed, *args: Any, **options: Any) -> AbstractContextManager[Iterator[bytes]]:
        """Iterate over the feed's `relay()`, or over its `arelay()`; leaving closes it."""


class SyncApi:
    """The sync API."""

    name = "sync"

    @contextmanager
    def client(self, *args: Any, **options: Any) -> Iterator[SSEClient]:
        with _make_client(*args, **options) as client:
            yield client

    @contextmanager
    def connect(self, client: SSEClient, url: str, *args: Any, **options: Any) -> Iterator[SSEConnection]:
        with client.connect(url, *args, **options) as conn:
            yield conn

    @contextmanager
    def enter(self, context: _BothContexts[T]) -> Iterator[T]:
        with context as value:
            yield value

    def open(self, conn: SSEConnection) -> SSEConnection:
        return conn.open()

    def next(self, conn: Consumer) -> SSEEvent:
        return _next(conn)

    def take(self, conn: Consumer, count: int) -> list[SSEEvent]:
        return [self.next(conn) for _ in range(count)]

    def rest(self, conn: Consumer) -> list[SSEEvent]:
        return list(conn)

    def recv(self, conn: Consumer, timeout: float | None = None) -> SSEEvent:
        return conn.recv(timeout)

    def commit(self, conn: SSEConnection) -> None:
        conn.commit()

    def close(self, conn: Consumer) -> None:
        conn.close()

    def signals(self, conn: Consumer) -> Signals:
        return _SyncSignals(conn.signals())

    def relay(self, conn: SSEConnection, heartbeat: float | None = 15.0) -> AbstractContextManager[Iterator[bytes]]:
        return closing(conn.relay(heartbeat))

    def relay_feed(self, feed: Feed, *args: Any, **options: Any) -> AbstractContextManager[Iterator[bytes]]:
        return closing(feed.relay(*args, **options))


class _SyncSignals:
    def __init__(self, signals: Iterator[Signal]) -> None:
        self._signals = signals

    def next(self) -> Signal:
        return _next(self._signals)

    def take(self, count: int) -> list[Signal]:
        return [self.next() for _ in range(count)]

    def rest(self) -> list[Signal]:
        return list(self._signals)


class AsyncApi:
    """The async API on its own event loop, which runs only inside the methods of this class."""

    name = "async"

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        # Debug mode turns calls from the wrong thread into errors; it must not report slow callbacks.
        self.loop.set_debug(True)
        self.loop.slow_callback_duration = math.inf

    def run(self, make: Callable[[], Awaitable[T]]) -> T:
        """Call `make()` in the loop and await its result."""

        async def main() -> T:
            return await make()

        return self.loop.run_until_complete(main())

    def shut_down(self) -> None:
        """Shut down the loop as `asyncio.run` does."""
        try:
            self.loop.run_until_complete(self._end())
        finally:
            self.loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()

    @contextmanager
    def client(self, *args: Any, **options: Any) -> Iterator[SSEClient]:
        with self.enter(_make_client(*args, **options)) as client:
            yield client

    @contextmanager
    def connect(self, client: SSEClient, url: str, *args: Any, **options: Any) -> Iterator[SSEConnection]:
        with self.enter(client.connect(url, *args, **options)) as conn:
            yield conn

    @contextmanager
    def enter(self, context: _BothContexts[T]) -> Iterator[T]:
        value = self.run(context.__aenter__)
        try:
            yield value
        except BaseException as error:
            leave = partial(context.__aexit__, type(error), error, error.__traceback__)
            if not self.run(leave):
                raise
        else:
            self.run(lambda: context.__aexit__(None, None, None))

    def open(self, conn: SSEConnection) -> SSEConnection:
        return self.run(lambda: conn)

    def next(self, conn: Consumer) -> SSEEvent:
        return self.run(lambda: _anext(conn))

    def take(self, conn: Consumer, count: int) -> list[SSEEvent]:
        return self.run(lambda: _atake(conn, count))

    def rest(self, conn: Consumer) -> list[SSEEvent]:
        return self.run(lambda: _arest(conn))

    def recv(self, conn: Consumer, timeout: float | None = None) -> SSEEvent:
        return self.run(lambda: conn.arecv(timeout))

    def commit(self, conn: SSEConnection) -> None:
        self.run(conn.acommit)

    def close(self, conn: Consumer) -> None:
        self.run(conn.close)

    def signals(self, conn: Consumer) -> Signals:
        return _AsyncSignals(self, conn.signals())

    @contextmanager
    def relay(self, conn: SSEConnection, heartbeat: float | None = 15.0) -> Iterator[Iterator[bytes]]:
        with self._relayed(conn.arelay(heartbeat)) as pieces:
            yield pieces

    @contextmanager
    def relay_feed(self, feed: Feed, *args: Any, **options: Any) -> Iterator[Iterator[bytes]]:
        with self._relayed(feed.arelay(*args, **options)) as pieces:
            yield pieces

    @contextmanager
    def _relayed(self, relay: AsyncRelay) -> Iterator[Iterator[bytes]]:
        yield iter(lambda: self.run(lambda: anext(relay, b"")), b"")
        self.run(relay.aclose)


class _AsyncSignals:
    def __init__(self, api: AsyncApi, signals: AsyncIterator[Signal]) -> None:
        self._api = api
        self._signals = signals

    def next(self) -> Signal:
        return self._api.run(lambda: _anext(self._signals))

    def take(self, count: int) -> list[Signal]:
        return self._api.run(lambda: _atake(self._signals, count))

    def rest(self) -> list[Signal]:
        return self._api.run(lambda: _arest(self._signals))


def _make_client(*args: Any, **options: Any) -> SSEClient:
    from sseclient_dual import SSEClient  # noqa: PLC0415 - tests of lower layers do not need it

    return SSEClient(*args, **options)


def _next(items: Iterator[T]) -> T:
    try:
        return next(items)
    except StopIteration:
        raise Ended from None


async def _anext(items: AsyncIterator[T]) -> T:
    try:
        return await anext(items)
    except StopAsyncIteration:
        raise Ended from None


async def _atake(items: AsyncIterator[T], count: int) -> list[T]:
    return [await _anext(items) for _ in range(count)]


async def _arest(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


@contextmanager
def drive(name: str) -> Iterator[Api]:
    """Yield the API called `name`, `"sync"` or `"async"`; shut down its event loop at the end."""
    if name == "sync":
        yield SyncApi()
        return
    api = AsyncApi()
    try:
        yield api
    finally:
        api.shut_down()
