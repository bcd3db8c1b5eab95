"""The clients to measure, used as their documentation shows: one function for each client and API.

Each function is a context manager. It creates the objects that a program shares between streams (pool, session, TLS
context) and yields a `stream` function. `stream` is a context manager, too: it connects to a URL and yields an
iterator that ends with the response. Each function imports only its own client, when it is called.
"""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SPEEDUPS = "[speedups]"  # the extra, in the names of the clients that use the compiled core
_BLOCK = 65536
_HTTPX_STREAMS = 100


class Ended(Exception):  # noqa: N818 - not an error: the only way to stop some clients
    """The response has ended, and the client is about to reconnect."""


def stop() -> None:
    """Stop a client that would reconnect."""
    raise Ended


@contextmanager
def bare_socket(ca: str | None) -> Iterator[Any]:
    """Drain a socket, without HTTP, events or objects: the speed of the server."""
    context = ssl.create_default_context(cafile=ca) if ca else None

    @contextmanager
    def stream(url: str) -> Iterator[Any]:
        import socket  # noqa: PLC0415 - as all imports in functions here: import only the client in use
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
    """Read with the shortest loop over a urllib3 response, without parsing."""
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
    """Read with the same loop in another thread: the lower bound for a client with a background thread."""
    import threading  # noqa: PLC0415
    from collections import deque  # noqa: PLC0415

    with urllib3_read1(ca) as direct:

        @contextmanager
        def stream(url: str) -> Iterator[Any]:
            pieces: deque[bytes] = deque()
            available = threading.Semaphore(0)

            def read() -> None:
                with direct(url) as source:
                    for piece in source:
                        pieces.append(piece)
                        available.release()
                pieces.append(b"")
                available.release()

            def take() -> bytes:
                available.acquire()
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
    """Read with the same loop in another thread, and pass the bytes to a task."""
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

    with SSEClient(_user_pool(ca)) as client:
        yield lambda url: client.connect(url, reconnect=False)


def require_speedups() -> None:
    """Check that the compiled core is in use.

    :raises RuntimeError: it is not.
    """
    import sseclient_dual  # noqa: PLC0415

    if not sseclient_dual.speedups_active:
        raise RuntimeError("the compiled core is not installed")


@contextmanager
def compiled_sync(ca: str | None) -> Iterator[Any]:
    require_speedups()
    with ours_sync(ca) as stream:
        yield stream


@contextmanager
def ours_http2_sync(ca: str | None) -> Iterator[Any]:
    from sseclient_dual import SSEClient  # noqa: PLC0415

    with SSEClient(_user_pool(ca), http2=True if ca else "prior-knowledge") as client:
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
    """Read from urllib3's `stream`, the fastest source that the documentation of sseclient-py names."""
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

    with httpx.Client(verify=_tls_context(ca), timeout=None, limits=httpx.Limits(max_connections=None)) as client:  # noqa: S113

        @contextmanager
        def stream(url: str) -> Iterator[Any]:
            with connect_sse(client, "GET", url) as source:
                yield source.iter_sse()

        yield stream


@contextmanager
def httpx_sse_http2_sync(ca: str | None) -> Iterator[Any]:
    import httpx  # noqa: PLC0415
    from httpx_sse import connect_sse  # noqa: PLC0415

    with httpx.Client(verify=_tls_context(ca), timeout=None, http1=ca is not None, http2=True) as client:  # noqa: S113

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

    async with SSEClient(_user_pool(ca)) as client:
        yield lambda url: client.connect(url, reconnect=False)


@asynccontextmanager
async def compiled_async(ca: str | None) -> AsyncIterator[Any]:
    require_speedups()
    async with ours_async(ca) as stream:
        yield stream


@asynccontextmanager
async def httpx_sse_async(ca: str | None) -> AsyncIterator[Any]:
    import httpx  # noqa: PLC0415
    from httpx_sse import aconnect_sse  # noqa: PLC0415

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(verify=_tls_context(ca), timeout=None, limits=limits) as client:  # noqa: S113

        @asynccontextmanager
        async def stream(url: str) -> AsyncIterator[Any]:
            async with aconnect_sse(client, "GET", url) as source:
                yield source.aiter_sse()

        yield stream


@asynccontextmanager
async def ours_http2_async(ca: str | None) -> AsyncIterator[Any]:
    from sseclient_dual import SSEClient  # noqa: PLC0415

    async with SSEClient(_user_pool(ca), http2=True if ca else "prior-knowledge") as client:
        yield lambda url: client.connect(url, reconnect=False)


@asynccontextmanager
async def httpx_sse_http2_async(ca: str | None) -> AsyncIterator[Any]:
    """Read with a client for every 100 streams, because httpx makes one connection and lets the others wait."""
    import httpx  # noqa: PLC0415
    from httpx_sse import aconnect_sse  # noqa: PLC0415

    context = _tls_context(ca)
    http_clients: list[Any] = []
    opened: list[int] = []  # streams of each of them

    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def stream(url: str) -> AsyncIterator[Any]:
            number = next((n for n, count in enumerate(opened) if count < _HTTPX_STREAMS), len(opened))
            if number == len(opened):
                client = httpx.AsyncClient(verify=context, timeout=None, http1=ca is not None, http2=True)  # noqa: S113
                stack.push_async_callback(client.aclose)
                http_clients.append(client)
                opened.append(0)
            opened[number] += 1
            async with aconnect_sse(http_clients[number], "GET", url) as source:
                yield source.aiter_sse()
            opened[number] -= 1

        yield stream


@asynccontextmanager
async def aiohttp_sse_client2(ca: str | None) -> AsyncIterator[Any]:
    import aiohttp  # noqa: PLC0415
    from aiohttp_sse_client2.client import EventSource  # noqa: PLC0415

    connector = aiohttp.TCPConnector(ssl=_tls_context(ca), limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield lambda url: EventSource(url, session=session, on_error=stop, reconnection_time=timedelta(0))


@asynccontextmanager
async def launchdarkly_async(ca: str | None) -> AsyncIterator[Any]:
    import aiohttp  # noqa: PLC0415
    from ld_eventsource.async_client import AsyncSSEClient  # noqa: PLC0415
    from ld_eventsource.config.async_connect_strategy import AsyncConnectStrategy  # noqa: PLC0415

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=_tls_context(ca), limit=0)) as session:

        @asynccontextmanager
        async def stream(url: str) -> AsyncIterator[Any]:
            async with AsyncSSEClient(AsyncConnectStrategy.http(url, session=session)) as client:
                yield client.events

        yield stream


@asynccontextmanager
async def aiosonic(ca: str | None) -> AsyncIterator[Any]:
    from aiosonic import HTTPClient, SSEClient  # noqa: PLC0415

    context = _tls_context(ca)
    async with HTTPClient() as http:
        client = SSEClient(http)
        yield lambda url: client.connect(url, ssl=context if ca else None, reconnect=False)


def _user_pool(ca: str | None) -> Any:  # noqa: ANN401 - urllib3 is not imported for types alone
    """Return a pool that trusts `ca`; None, the client's own pool, if there is no TLS."""
    if ca is None:
        return None
    import urllib3  # noqa: PLC0415

    return urllib3.PoolManager(ca_certs=ca)


def _tls_context(ca: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


SOCKET, BARE_LOOP = "socket", "urllib3 read1"
TO_THREAD, TO_LOOP = "read1, then a thread", "read1, then a task"
OURS_SYNC, OURS_ASYNC = "sseclient_dual (sync)", "sseclient_dual (async)"
COMPILED_SYNC, COMPILED_ASYNC = f"sseclient_dual{SPEEDUPS} (sync)", f"sseclient_dual{SPEEDUPS} (async)"
HTTPX_SYNC, HTTPX_ASYNC = "httpx-sse (sync)", "httpx-sse (async)"
BYTES: dict[str, Any] = {SOCKET: bare_socket, BARE_LOOP: urllib3_read1}  # yield bytes: references, not peers
SYNC: dict[str, Any] = {
    OURS_SYNC: ours_sync,
    COMPILED_SYNC: compiled_sync,
    "launchdarkly (sync)": launchdarkly_sync,
    "sseclient-py": sseclient_py,
    HTTPX_SYNC: httpx_sse_sync,
    "requests-sse": requests_sse,
}
ASYNC: dict[str, Any] = {
    OURS_ASYNC: ours_async,
    COMPILED_ASYNC: compiled_async,
    HTTPX_ASYNC: httpx_sse_async,
    "aiohttp-sse-client2": aiohttp_sse_client2,
    "aiosonic": aiosonic,
    "launchdarkly (async)": launchdarkly_async,
}
OURS_HTTP2_SYNC, OURS_HTTP2_ASYNC = "sseclient_dual, HTTP/2 (sync)", "sseclient_dual, HTTP/2 (async)"
HTTPX_HTTP2_SYNC, HTTPX_HTTP2_ASYNC = "httpx-sse, HTTP/2 (sync)", "httpx-sse, HTTP/2 (async)"
HTTP2_SYNC: dict[str, Any] = {OURS_HTTP2_SYNC: ours_http2_sync, HTTPX_HTTP2_SYNC: httpx_sse_http2_sync}
HTTP2_ASYNC: dict[str, Any] = {OURS_HTTP2_ASYNC: ours_http2_async, HTTPX_HTTP2_ASYNC: httpx_sse_http2_async}
HANDED_OVER: dict[str, Any] = {TO_THREAD: handed_to_thread, TO_LOOP: handed_to_loop}  # yield bytes, too
OURS = {"sync": (OURS_SYNC, COMPILED_SYNC), "async": (OURS_ASYNC, COMPILED_ASYNC)}
DICT_EVENTS = {"aiosonic"}  # clients whose events are dicts


def is_async(name: str) -> bool:
    """Return True if the client is used in an event loop."""
    return name in ASYNC or name in HTTP2_ASYNC


def make(name: str) -> Any:  # noqa: ANN401 - a function of this module
    """Return the function for a client."""
    return next(group[name] for group in (SYNC, ASYNC, HTTP2_SYNC, HTTP2_ASYNC, BYTES, HANDED_OVER) if name in group)
