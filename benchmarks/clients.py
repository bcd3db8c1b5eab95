"""The clients that are measured, each as its documentation has it used; one function a client and face.

Each is a context manager that makes what may be shared and prepared (pool, session, TLS context) and yields a
`stream` function: a context manager, too, which connects to a URL and yields what to iterate. What to iterate ends
with the response. Only what a client needs is imported, when it is asked for.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_BLOCK = 65536


class Ended(Exception):  # noqa: N818 - no error: clients that know no other way to stop are stopped with it
    """The response has ended, and the client is about to connect again."""


def stop() -> None:
    """Stop a client that would connect again."""
    raise Ended


@contextmanager
def bare_socket(ca: str | None) -> Iterator[Any]:
    """Drain a socket: no HTTP, no events, no objects; how fast the server is."""
    context = ssl.create_default_context(cafile=ca) if ca else None

    @contextmanager
    def stream(url: str) -> Iterator[Any]:
        import socket  # noqa: PLC0415 - as all imports here: only what a client needs
        from urllib.parse import urlsplit  # noqa: PLC0415

        parts = urlsplit(url)
        sock: Any = socket.create_connection((parts.hostname or "", parts.port or 0))
        if context:
            sock = context.wrap_socket(sock, server_hostname=parts.hostname)
        with sock:
            sock.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            yield _drain(sock)

    yield stream


def _drain(sock: Any) -> Iterator[Any]:  # noqa: ANN401 - a socket with or without TLS
    block = sock.recv(_BLOCK)
    while b"\r\n\r\n" not in block:
        block += sock.recv(_BLOCK)
    yield block.partition(b"\r\n\r\n")[2]
    buffer = bytearray(_BLOCK * 4)
    view = memoryview(buffer)
    while size := sock.recv_into(buffer):
        yield view[:size]


@contextmanager
def urllib3_read1(ca: str | None) -> Iterator[Any]:
    """Read with the loop that every client on urllib3 needs at least: no parsing, no events."""
    from functools import partial  # noqa: PLC0415

    import urllib3  # noqa: PLC0415

    with urllib3.PoolManager(ca_certs=ca) as pool:

        @contextmanager
        def stream(url: str) -> Iterator[Any]:
            response = pool.request("GET", url, preload_content=False)
            try:
                yield iter(partial(response.read1, _BLOCK), b"")
            finally:
                response.close()

        yield stream


@contextmanager
def handed_to_thread(ca: str | None) -> Iterator[Any]:
    """Read with that loop in another thread: the least that a reader of its own costs."""
    import threading  # noqa: PLC0415
    from collections import deque  # noqa: PLC0415

    with urllib3_read1(ca) as direct:

        @contextmanager
        def stream(url: str) -> Iterator[Any]:
            pieces: deque[bytes] = deque()
            there = threading.Semaphore(0)

            def read() -> None:
                with direct(url) as source:
                    for piece in source:
                        pieces.append(piece)
                        there.release()
                pieces.append(b"")
                there.release()

            def take() -> bytes:
                there.acquire()
                return pieces.popleft()

            reader = threading.Thread(target=read)
            reader.start()
            try:
                yield iter(take, b"")
            finally:
                reader.join()

        yield stream


@asynccontextmanager
async def handed_to_loop(ca: str | None) -> AsyncIterator[Any]:
    """Read with that loop in another thread, for a task to wait."""
    import asyncio  # noqa: PLC0415
    import threading  # noqa: PLC0415

    with urllib3_read1(ca) as direct:

        @asynccontextmanager
        async def stream(url: str) -> AsyncIterator[Any]:
            loop = asyncio.get_running_loop()
            pieces: asyncio.Queue[bytes] = asyncio.Queue()

            def read() -> None:
                with direct(url) as source:
                    for piece in source:
                        loop.call_soon_threadsafe(pieces.put_nowait, piece)
                loop.call_soon_threadsafe(pieces.put_nowait, b"")

            async def take() -> AsyncIterator[bytes]:
                while piece := await pieces.get():
                    yield piece

            reader = threading.Thread(target=read)
            reader.start()
            try:
                yield take()
            finally:
                await asyncio.to_thread(reader.join)

        yield stream


@contextmanager
def ours_sync(ca: str | None) -> Iterator[Any]:
    from sseclient_dual import SSEClient  # noqa: PLC0415

    with SSEClient(_lender(ca)) as client:
        yield lambda url: client.connect(url, reconnect=False)


@contextmanager
def launchdarkly_sync(ca: str | None) -> Iterator[Any]:
    import urllib3  # noqa: PLC0415
    from ld_eventsource import SSEClient  # noqa: PLC0415
    from ld_eventsource.config import ConnectStrategy  # noqa: PLC0415

    with urllib3.PoolManager(ca_certs=ca) as pool:

        @contextmanager
        def stream(url: str) -> Iterator[Any]:
            client = SSEClient(ConnectStrategy.http(url, pool=pool))
            try:
                yield client.events
            finally:
                client.close()

        yield stream


@contextmanager
def sseclient_py(ca: str | None) -> Iterator[Any]:
    """Read through urllib3's `stream`, the fastest of the sources that its documentation names."""
    import urllib3  # noqa: PLC0415
    from sseclient import SSEClient  # noqa: PLC0415

    with urllib3.PoolManager(ca_certs=ca) as pool:

        @contextmanager
        def stream(url: str) -> Iterator[Any]:
            response = pool.request("GET", url, preload_content=False, headers={"Accept": "text/event-stream"})
            try:
                yield SSEClient(response.stream(_BLOCK)).events()
            finally:
                response.close()

        yield stream


@contextmanager
def httpx_sse_sync(ca: str | None) -> Iterator[Any]:
    import httpx  # noqa: PLC0415
    from httpx_sse import connect_sse  # noqa: PLC0415

    with httpx.Client(verify=_trust(ca), timeout=None, limits=httpx.Limits(max_connections=None)) as client:  # noqa: S113

        @contextmanager
        def stream(url: str) -> Iterator[Any]:
            with connect_sse(client, "GET", url) as source:
                yield source.iter_sse()

        yield stream


@contextmanager
def requests_sse(ca: str | None) -> Iterator[Any]:
    import requests  # noqa: PLC0415
    from requests_sse import EventSource  # noqa: PLC0415

    with requests.Session() as session:

        @contextmanager
        def stream(url: str) -> Iterator[Any]:
            with EventSource(url, session=session, on_error=stop, verify=ca or True) as source:
                yield source

        yield stream


@asynccontextmanager
async def ours_async(ca: str | None) -> AsyncIterator[Any]:
    from sseclient_dual import SSEClient  # noqa: PLC0415

    async with SSEClient(_lender(ca)) as client:
        yield lambda url: client.connect(url, reconnect=False)


@asynccontextmanager
async def httpx_sse_async(ca: str | None) -> AsyncIterator[Any]:
    import httpx  # noqa: PLC0415
    from httpx_sse import aconnect_sse  # noqa: PLC0415

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(verify=_trust(ca), timeout=None, limits=limits) as client:  # noqa: S113

        @asynccontextmanager
        async def stream(url: str) -> AsyncIterator[Any]:
            async with aconnect_sse(client, "GET", url) as source:
                yield source.aiter_sse()

        yield stream


@asynccontextmanager
async def aiohttp_sse_client2(ca: str | None) -> AsyncIterator[Any]:
    import aiohttp  # noqa: PLC0415
    from aiohttp_sse_client2.client import EventSource  # noqa: PLC0415

    connector = aiohttp.TCPConnector(ssl=_trust(ca), limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield lambda url: EventSource(url, session=session, on_error=stop, reconnection_time=timedelta(0))


@asynccontextmanager
async def launchdarkly_async(ca: str | None) -> AsyncIterator[Any]:
    import aiohttp  # noqa: PLC0415
    from ld_eventsource.async_client import AsyncSSEClient  # noqa: PLC0415
    from ld_eventsource.config.async_connect_strategy import AsyncConnectStrategy  # noqa: PLC0415

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=_trust(ca), limit=0)) as session:

        @asynccontextmanager
        async def stream(url: str) -> AsyncIterator[Any]:
            async with AsyncSSEClient(AsyncConnectStrategy.http(url, session=session)) as client:
                yield client.events

        yield stream


@asynccontextmanager
async def aiosonic(ca: str | None) -> AsyncIterator[Any]:
    from aiosonic import HTTPClient, SSEClient  # noqa: PLC0415

    context = _trust(ca)
    async with HTTPClient() as http:
        client = SSEClient(http)
        yield lambda url: client.connect(url, ssl=context if ca else None, reconnect=False)


def _lender(ca: str | None) -> Any:  # noqa: ANN401 - urllib3 is not imported for types alone
    """Return a pool that lends trust in `ca`; the default needs none."""
    if ca is None:
        return None
    import urllib3  # noqa: PLC0415

    return urllib3.PoolManager(ca_certs=ca)


def _trust(ca: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


SOCKET, FLOOR = "socket", "urllib3 read1"
TO_THREAD, TO_LOOP = "read1, then a thread", "read1, then a task"
OURS_SYNC, OURS_ASYNC = "sseclient_dual (sync)", "sseclient_dual (async)"
HTTPX_SYNC, HTTPX_ASYNC = "httpx-sse (sync)", "httpx-sse (async)"
BYTES: dict[str, Any] = {SOCKET: bare_socket, FLOOR: urllib3_read1}  # hand out bytes, and are no peers
SYNC: dict[str, Any] = {
    OURS_SYNC: ours_sync,
    "launchdarkly (sync)": launchdarkly_sync,
    "sseclient-py": sseclient_py,
    HTTPX_SYNC: httpx_sse_sync,
    "requests-sse": requests_sse,
}
ASYNC: dict[str, Any] = {
    OURS_ASYNC: ours_async,
    HTTPX_ASYNC: httpx_sse_async,
    "aiohttp-sse-client2": aiohttp_sse_client2,
    "aiosonic": aiosonic,
    "launchdarkly (async)": launchdarkly_async,
}
HANDED_OVER: dict[str, Any] = {TO_THREAD: handed_to_thread, TO_LOOP: handed_to_loop}  # bytes, too
KEYED = {"aiosonic"}  # its events are plain dicts
