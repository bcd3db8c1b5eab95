"""Try what each client does when something goes wrong, and print a table for docs/comparison.rst.

make bench ARGS=features
"""
# ruff: noqa: S113 - a stream has no timeout

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any

import aiosonic
import httpx
import httpx_sse
import ld_eventsource
import requests
import requests_sse
import sseclient
import urllib3
from aiohttp_sse_client2 import client as aiohttp_sse
from ld_eventsource.config import ErrorStrategy

import summary
from sseclient_dual import SSEClient
from sseclient_dual.testing import CUT, HANG, Reply, SSEServer, status, stream

_SOON = 0.05  # seconds: the delay of each client before it reconnects
_LIMIT = 6.0  # seconds for a trial
_DELAY = timedelta(seconds=_SOON)
Names = dict[tuple[str, ...], str]  # of outcomes: the data of the events that were read
Read = Callable[[str, int], list[str]]  # reads a number of events from a URL, and returns their data


def _first(events: Iterable[Any], count: int) -> list[str]:
    data = []
    for event in events:
        data.append(event.data)
        if len(data) == count:
            break
    return data


async def _first_async(events: AsyncIterable[Any], count: int) -> list[str]:
    data = []
    async for event in events:
        data.append(event["data"] if isinstance(event, dict) else event.data)
        if len(data) == count:
            break
    return data


def _ours(url: str, count: int) -> list[str]:
    with SSEClient() as client, client.connect(url, retry_delay=1000 * _SOON) as connection:
        return _first(connection, count)


def _httpx(url: str, count: int) -> list[str]:
    with httpx.Client(timeout=None) as client, httpx_sse.connect_sse(client, "GET", url) as source:
        return _first(source.iter_sse(), count)


def _launchdarkly(url: str, count: int) -> list[str]:
    strategy = ErrorStrategy.always_continue()  # the default is to end
    client = ld_eventsource.SSEClient(url, error_strategy=strategy, initial_retry_delay=_SOON)
    try:
        return _first(client.events, count)
    finally:
        client.close()


def _sseclient_py(url: str, count: int) -> list[str]:
    with requests.get(url, stream=True, timeout=None) as response:
        response.raise_for_status()
        return _first(sseclient.SSEClient(response).events(), count)


def _requests_sse(url: str, count: int) -> list[str]:
    with requests_sse.EventSource(url, reconnection_time=_DELAY) as source:
        return _first(source, count)


def _aiohttp(url: str, count: int) -> list[str]:
    async def read() -> list[str]:
        async with aiohttp_sse.EventSource(url, reconnection_time=_DELAY) as source:
            return await _first_async(source, count)

    return asyncio.run(read())


def _aiosonic(url: str, count: int) -> list[str]:
    async def read() -> list[str]:
        async with aiosonic.SSEClient().connect(url, retry_delay=int(1000 * _SOON)) as connection:
            return await _first_async(connection, count)

    return asyncio.run(read())


_CLIENTS: dict[str, Read] = {
    "this": _ours,
    "httpx-sse": _httpx,
    "launchdarkly": _launchdarkly,
    "sseclient-py": _sseclient_py,
    "requests-sse": _requests_sse,
    "aiohttp-sse-client2": _aiohttp,
    "aiosonic": _aiosonic,
}
_A, _B = "id: 1\ndata: a\n\n", "id: 2\ndata: b\n\n"


def _in_time(work: Callable[[], Any]) -> Any:  # noqa: ANN401 - what `work` returns, or raises
    """Return the result of `work`, the exception that it raises, or None if it takes too long."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - an outcome as any other
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_LIMIT)
    return results[0] if results else None


def _outcome(read: Read, count: int, names: Names, *replies: Reply) -> tuple[str, SSEServer]:
    """Return the name of what `read` does with these replies."""
    with SSEServer(*replies, default=status(204)) as server:
        result = _in_time(lambda: read(server.url, count))
        if result is None:
            return "waits", server
        if isinstance(result, Exception):
            return "error", server
        return names.get(tuple(result), "ends"), server


def _after_end(read: Read) -> str:
    return _outcome(read, 2, {("a", "b"): "reconnects"}, stream(_A), stream(_B, HANG))[0]


def _after_cut(read: Read) -> str:
    return _outcome(read, 2, {("a", "b"): "reconnects"}, stream(_A, CUT), stream(_B, HANG))[0]


def _last_event_id(read: Read) -> str:
    _, server = _outcome(read, 2, {}, stream(_A), stream(_B, HANG))
    if len(server.requests) == 1:
        return "–"
    return "sent" if server.requests[1].last_event_id == "1" else "not sent"


def _replay(read: Read) -> str:
    names: Names = {("a", "b"): "once", ("a", "a"): "twice"}
    outcome, server = _outcome(read, 2, names, stream(_A), stream(_A, _B, HANG))
    return outcome if len(server.requests) > 1 else "–"


def _equal_events(read: Read) -> str:
    return _outcome(read, 2, {("a", "a"): "both"}, stream("data: a\n\ndata: a\n\n", HANG))[0].replace("waits", "one")


def _unavailable(read: Read) -> str:
    return _outcome(read, 1, {("a",): "retries"}, status(503), stream(_A, HANG))[0]


def _json_body(read: Read) -> str:
    body = stream('{"error": 1}\n\n', _A, HANG)
    return _outcome(read, 1, {("a",): "ignored", ("",): "an empty event"}, body, body)[0].replace("ends", "error")


def _close(name: str) -> str:
    """Return what close() in one thread does to another thread that waits for an event."""
    makers: dict[str, Callable[[str], tuple[Iterable[Any], Callable[[], Any]]]] = {
        "this": _opened_ours,
        "httpx-sse": _opened_httpx,
        "launchdarkly": _opened_launchdarkly,
        "sseclient-py": _opened_sseclient_py,
        "requests-sse": _opened_requests_sse,
    }
    if name not in makers:
        return "–"
    with SSEServer(stream(_A, HANG)) as server:
        events, close = makers[name](server.url)
        waits = threading.Event()

        def wait() -> None:
            with suppress(Exception):
                for _ in events:
                    waits.set()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        waits.wait(_LIMIT)
        threading.Thread(target=close, daemon=True).start()
        thread.join(_LIMIT)
        return "still waits" if thread.is_alive() else "ends the wait"


def _opened_ours(url: str) -> tuple[Iterable[Any], Callable[[], Any]]:
    connection = SSEClient().connect(url)
    return connection, connection.close


def _opened_httpx(url: str) -> tuple[Iterable[Any], Callable[[], Any]]:
    stack = ExitStack()
    client = stack.enter_context(httpx.Client(timeout=None))
    source = stack.enter_context(httpx_sse.connect_sse(client, "GET", url))
    return source.iter_sse(), stack.close


def _opened_launchdarkly(url: str) -> tuple[Iterable[Any], Callable[[], Any]]:
    client = ld_eventsource.SSEClient(url)
    return client.events, client.close


def _opened_sseclient_py(url: str) -> tuple[Iterable[Any], Callable[[], Any]]:
    client = sseclient.SSEClient(urllib3.PoolManager().request("GET", url, preload_content=False))
    return client.events(), client.close


def _opened_requests_sse(url: str) -> tuple[Iterable[Any], Callable[[], Any]]:
    source = requests_sse.EventSource(url).__enter__()
    return source, source.close


_TRIALS: dict[str, Callable[[Read], str]] = {
    "the response ends": _after_end,
    "the connection is cut": _after_cut,
    "``Last-Event-ID``, when it reconnects": _last_event_id,
    "the server sends an event again": _replay,
    "two equal events in a row": _equal_events,
    "status 503": _unavailable,
    "a JSON body as the stream": _json_body,
}


def main() -> None:
    """Print the table."""
    logging.disable()
    rows = [["", *_CLIENTS]]
    for title, trial in _TRIALS.items():
        rows.append([title, *(trial(read) for read in _CLIENTS.values())])
        print(title, file=sys.stderr)
    rows.append(["``close()`` in another thread", *map(_close, _CLIENTS)])
    print(summary.table(rows), end="")
    sys.stdout.flush()
    os._exit(0)  # some clients still wait


if __name__ == "__main__":
    main()
