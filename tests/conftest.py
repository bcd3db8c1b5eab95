"""What every test shares: the proof that it left nothing behind, and one way to drive both faces.

`no_leaks` runs around each test and fails it if a thread or a socket is still there afterwards, and `no_proxies`
keeps the proxies of this machine's environment out of it.

`face` (a fixture, each test that takes it runs once per face) and `drive` (the same without a fixture) give a
`Face`: plain blocking methods that use a connection by its blocking face or by its asyncio face, so that what
the two have in common is tested by one text::

    def test_the_stream_ends(face: Face, server: Server) -> None:
        with face.client() as client, face.connect(client, server.url) as conn:
            assert face.next(conn).data == "only"
            with pytest.raises(Ended):
                face.next(conn)
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import re
import signal
import ssl
import threading
import time
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest
import trustme

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from sseclient_dual import Comment, Interrupted, Opened, SSEClient, SSEConnection, SSEEvent

    Signal = SSEEvent | Comment | Opened | Interrupted

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

PATIENCE = 10.0  # seconds for what should happen at once, on a machine that has other things to do
_DESCRIPTORS = Path("/proc/self/fd")


def wait_until(condition: Callable[[], object], what: str = "the condition", limit: float = PATIENCE) -> None:
    """Wait until `condition()` is true; fail the test, naming `what`, if it is not after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {limit:g} s in vain for {what}")
        time.sleep(0.005)


def without_address(value: object) -> str:
    """Return `value` as text, the same in every process: how parameters are called."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


# --- nothing is left behind ---------------------------------------------------------------------------------


def _sockets() -> set[str]:
    """The sockets that this process has open, as `socket:[inode]`; empty where the system does not tell."""
    found: set[str] = set()
    try:
        descriptors = list(_DESCRIPTORS.iterdir())
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            target = str(descriptor.readlink())
        except OSError:  # closed meanwhile, as the one that listed the directory
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


class Leftovers:
    """What is there now and was not when this object was made."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._sockets = _sockets()

    def __call__(self) -> list[str]:
        """Name every thread and socket that has come since and is still there."""
        threads = [thread for thread in threading.enumerate() if thread not in self._threads]
        return [f"thread {thread!r}" for thread in threads] + sorted(_sockets() - self._sockets)

    def settle(self, limit: float = PATIENCE) -> list[str]:
        """Give what is about to end `limit` seconds for it; name what is left after that."""
        if not self():
            return []
        gc.collect()  # what only a reference cycle holds is not left behind
        deadline = time.monotonic() + limit
        while (left := self()) and time.monotonic() < deadline:
            time.sleep(0.005)
        return left


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail the test if a thread or a socket that it made, or a fixture for it, is still there afterwards."""
    leftovers = Leftovers()
    yield
    if left := leftovers.settle():
        pytest.fail(f"left behind by the test, {PATIENCE:g} s after its end: {', '.join(left)}", pytrace=False)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the proxies of this machine: what a test connects to it connects to directly, unless it says so."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Have Ctrl-C work as in a terminal, here and in processes that tests start.

    A shell makes what it runs in the background ignore it, and that is handed down.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# --- both faces by one text ---------------------------------------------------------------------------------


class Ended(Exception):  # noqa: N818 - an end, no error
    """The iteration is over: `StopIteration` of the one face, `StopAsyncIteration` of the other."""


class _BothContexts(Protocol[T_co]):
    """What works in `with` and in `async with`, as a client and a connection do."""

    def __enter__(self) -> T_co: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...
    async def __aenter__(self) -> T_co: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...


class Signals(Protocol):
    """The iterator of a connection's signals, driven by one of its faces."""

    def next(self) -> Signal:
        """Return the next signal, or raise `Ended`."""

    def take(self, count: int) -> list[Signal]:
        """Return the next `count` signals."""

    def rest(self) -> list[Signal]:
        """Return all signals to the end."""


class Face(Protocol):
    """One face of the connection behind plain blocking methods."""

    name: str
    """`"sync"` or `"async"`."""

    def client(self, *args: Any, **options: Any) -> AbstractContextManager[SSEClient]:
        """Make an `SSEClient` and enter it."""

    def connect(
        self, client: SSEClient, url: str, *args: Any, **options: Any
    ) -> AbstractContextManager[SSEConnection]:
        """Connect and enter the connection, which opens it; leaving closes it."""

    def enter(self, context: _BothContexts[T]) -> AbstractContextManager[T]:
        """Enter and leave, by `with` or by `async with`, what can do both."""

    def open(self, conn: SSEConnection) -> SSEConnection:
        """Open by `open()`, or by `await`."""

    def next(self, conn: SSEConnection) -> SSEEvent:
        """Return the next event, or raise `Ended`."""

    def take(self, conn: SSEConnection, count: int) -> list[SSEEvent]:
        """Return the next `count` events."""

    def rest(self, conn: SSEConnection) -> list[SSEEvent]:
        """Return all events to the end, by a `for` loop."""

    def recv(self, conn: SSEConnection, timeout: float | None = None) -> SSEEvent:
        """Receive by `recv()`, or by `arecv()`."""

    def close(self, conn: SSEConnection) -> None:
        """Close; the asyncio face awaits what `close()` returns."""

    def signals(self, conn: SSEConnection) -> Signals:
        """Ask for the iterator of signals."""

    def relay(self, conn: SSEConnection, heartbeat: float | None = 15.0) -> AbstractContextManager[Iterator[bytes]]:
        """Iterate over `relay()`, or over `arelay()`; leaving closes it."""


class SyncFace:
    """The blocking face."""

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

    def next(self, conn: SSEConnection) -> SSEEvent:
        return _next(conn)

    def take(self, conn: SSEConnection, count: int) -> list[SSEEvent]:
        return [self.next(conn) for _ in range(count)]

    def rest(self, conn: SSEConnection) -> list[SSEEvent]:
        return list(conn)

    def recv(self, conn: SSEConnection, timeout: float | None = None) -> SSEEvent:
        return conn.recv(timeout)

    def close(self, conn: SSEConnection) -> None:
        conn.close()

    def signals(self, conn: SSEConnection) -> Signals:
        return _SyncSignals(conn.signals())

    def relay(self, conn: SSEConnection, heartbeat: float | None = 15.0) -> AbstractContextManager[Iterator[bytes]]:
        return closing(conn.relay(heartbeat))


class _SyncSignals:
    def __init__(self, signals: Iterator[Signal]) -> None:
        self._signals = signals

    def next(self) -> Signal:
        return _next(self._signals)

    def take(self, count: int) -> list[Signal]:
        return [self.next() for _ in range(count)]

    def rest(self) -> list[Signal]:
        return list(self._signals)


class AsyncFace:
    """The asyncio face, driven by an event loop of its own, which runs only while a method of this waits."""

    name = "async"

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        # Debugging makes a call from the wrong thread an error; how long a callback takes is none here.
        self.loop.set_debug(True)
        self.loop.slow_callback_duration = math.inf

    def run(self, make: Callable[[], Awaitable[T]]) -> T:
        """Await, in the loop, what `make()` returns there."""

        async def main() -> T:
            return await make()

        return self.loop.run_until_complete(main())

    def shut_down(self) -> None:
        """End the loop as `asyncio.run` does."""
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

    def next(self, conn: SSEConnection) -> SSEEvent:
        return self.run(lambda: _anext(conn))

    def take(self, conn: SSEConnection, count: int) -> list[SSEEvent]:
        return self.run(lambda: _atake(conn, count))

    def rest(self, conn: SSEConnection) -> list[SSEEvent]:
        return self.run(lambda: _arest(conn))

    def recv(self, conn: SSEConnection, timeout: float | None = None) -> SSEEvent:
        return self.run(lambda: conn.arecv(timeout))

    def close(self, conn: SSEConnection) -> None:
        self.run(conn.close)

    def signals(self, conn: SSEConnection) -> Signals:
        return _AsyncSignals(self, conn.signals())

    @contextmanager
    def relay(self, conn: SSEConnection, heartbeat: float | None = 15.0) -> Iterator[Iterator[bytes]]:
        relay = conn.arelay(heartbeat)
        yield iter(lambda: self.run(lambda: anext(relay, b"")), b"")
        self.run(relay.aclose)


class _AsyncSignals:
    def __init__(self, face: AsyncFace, signals: AsyncIterator[Signal]) -> None:
        self._face = face
        self._signals = signals

    def next(self) -> Signal:
        return self._face.run(lambda: _anext(self._signals))

    def take(self, count: int) -> list[Signal]:
        return self._face.run(lambda: _atake(self._signals, count))

    def rest(self) -> list[Signal]:
        return self._face.run(lambda: _arest(self._signals))


def _make_client(*args: Any, **options: Any) -> SSEClient:
    from sseclient_dual import SSEClient  # noqa: PLC0415 - tests of the lower floors do without

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
def drive(name: str) -> Iterator[Face]:
    """Give the face called `name`, `"sync"` or `"async"`, and end what it needed."""
    if name == "sync":
        yield SyncFace()
        return
    face = AsyncFace()
    try:
        yield face
    finally:
        face.shut_down()


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    """Run the test once per face."""
    with drive(request.param) as driven:
        yield driven


# --- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """Give a server's context for 127.0.0.1, and the path of the authority that signed its certificate."""
    return make_tls(tmp_path_factory.mktemp("tls"))


def make_tls(folder: Path) -> tuple[ssl.SSLContext, str]:
    """Return what `tls` gives, the authority being in `folder`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


def state(context: ssl.SSLContext) -> dict[str, Any]:
    """Return all of a context that can be read, to see whether it is changed."""
    return {
        "verify_mode": context.verify_mode,
        "check_hostname": context.check_hostname,
        "hostname_checks_common_name": context.hostname_checks_common_name,
        "options": context.options,
        "verify_flags": context.verify_flags,
        "versions": (context.minimum_version, context.maximum_version),
        "post_handshake_auth": context.post_handshake_auth,
        "ciphers": context.get_ciphers(),
        "authorities": sorted(map(repr, context.get_ca_certs())),  # OpenSSL orders them anew for a handshake
        "store": context.cert_store_stats(),
        "keylog": context.keylog_filename,
    }
