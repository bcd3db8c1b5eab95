"""The parsers of the clients, without I/O: each function takes pieces of bytes and counts the events in them.

If a client has no separate parser, it gets a stub in place of the response. A parser in JavaScript runs in Node and
measures itself.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from clients import SPEEDUPS, Ended, require_speedups, stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

Totals = tuple[int, int]  # the number of events, and of characters in their data


def _totals(events: Any) -> Totals:  # noqa: ANN401 - each client has its own class
    count = chars = 0
    try:
        for event in events:
            count += 1
            chars += len(event.data)
    except Ended:
        pass
    return count, chars


def ours(pieces: list[bytes]) -> Totals:
    from sseclient_dual import EventStreamParser  # noqa: PLC0415 - as all imports in functions here: import only the client in use

    parser: Any = EventStreamParser()  # all items are events: comments are off
    count = chars = 0
    for piece in pieces:
        for event in parser.feed(piece):
            count += 1
            chars += len(event.data)
    return count, chars


def launchdarkly(pieces: list[bytes]) -> Totals:
    from ld_eventsource.reader import _BufferedLineReader, _SSEReader  # noqa: PLC0415

    return _totals(_SSEReader(_BufferedLineReader.lines_from(pieces)).events_and_comments())


def sseclient_py(pieces: list[bytes]) -> Totals:
    from sseclient import SSEClient  # noqa: PLC0415

    return _totals(SSEClient(pieces).events())


def httpx_sse(pieces: list[bytes]) -> Totals:
    import codecs  # noqa: PLC0415

    from httpx_sse._decoders import SSEDecoder, SSELineDecoder  # noqa: PLC0415

    to_text = codecs.getincrementaldecoder("utf-8")("replace").decode
    to_lines, to_event = SSELineDecoder().decode, SSEDecoder().decode

    def events() -> Iterator[Any]:  # the same as `iter_sse`
        for piece in pieces:
            for line in to_lines(to_text(piece)):
                event = to_event(line.rstrip("\n"))
                if event is not None:
                    yield event

    return _totals(events())


def requests_sse(pieces: list[bytes]) -> Totals:
    import requests  # noqa: PLC0415
    from requests_sse import EventSource  # noqa: PLC0415

    response = requests.Response()
    response.status_code = 200
    response.raw = SimpleNamespace(stream=lambda *_, **__: iter(pieces))
    source = EventSource("http://localhost/", on_error=stop)
    source._response, source._data_generator = response, response.iter_lines()  # noqa: SLF001 - the only way to skip the network
    return _totals(source)


def aiohttp_sse_client2(pieces: list[bytes]) -> Totals:
    async def drive() -> Totals:
        from aiohttp import StreamReader  # noqa: PLC0415
        from aiohttp_sse_client2.client import EventSource  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        protocol: Any = SimpleNamespace(  # no flow control: all data is in memory
            _reading_paused=False, pause_reading=lambda: None, resume_reading=lambda **_: None
        )
        reader = StreamReader(protocol, 2**16, loop=loop)
        for piece in pieces:
            reader.feed_data(piece)
        reader.feed_eof()
        source = EventSource("http://localhost/", session=SimpleNamespace(), on_error=stop)
        source._response = SimpleNamespace(status=200, content=reader)  # noqa: SLF001 - the only way to skip the network
        count = chars = 0
        try:
            async for event in source:
                count += 1
                chars += len(event.data)
        except Ended:
            pass
        return count, chars

    return asyncio.run(drive())


def aiosonic(pieces: list[bytes]) -> Totals:
    async def read_chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def drive() -> Totals:
        from aiosonic.sse_client import SSEConnection  # noqa: PLC0415

        config = SimpleNamespace(headers={}, reconnect=False)
        count = chars = 0
        async for event in SSEConnection(SimpleNamespace(read_chunks=read_chunks), None, config):
            count += 1
            chars += len(event["data"])
        return count, chars

    return asyncio.run(drive())


def in_node(parser: str, pieces: list[bytes], cut: str) -> dict[str, Any]:
    """Parse a stream in Node; return the count, the characters, the seconds and the CPU time.

    :raises RuntimeError: Node or the package is not installed.
    """
    node = shutil.which("node")
    if node is None or not NODE_PACKAGE.is_dir():
        raise RuntimeError(f"{'Node' if node is None else NODE_PACKAGE.name} is not installed")
    script, module = Path(__file__).with_name("parser.mjs"), NODE_PACKAGE / "dist" / "index.js"
    command = [node, str(script), str(module), IN_NODE[parser], cut]
    done = subprocess.run(command, input=b"".join(pieces), capture_output=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def compiled(pieces: list[bytes]) -> Totals:
    require_speedups()
    return ours(pieces)


OURS = "sseclient_dual"
COMPILED = f"{OURS}{SPEEDUPS}"
PARSERS: dict[str, Callable[[list[bytes]], Totals]] = {
    OURS: ours,
    COMPILED: compiled,
    "launchdarkly": launchdarkly,
    "sseclient-py": sseclient_py,
    "httpx-sse": httpx_sse,
    "requests-sse": requests_sse,
    "aiohttp-sse-client2": aiohttp_sse_client2,
    "aiosonic": aiosonic,
}
NODE_PACKAGE = Path(sys.prefix, "node_modules", "eventsource-parser")
IN_NODE = {  # with each of Node's decoders: one is faster for ASCII, the other for other text
    "eventsource-parser (JS)": "TextDecoder",
    "eventsource-parser (JS, StringDecoder)": "StringDecoder",
}
