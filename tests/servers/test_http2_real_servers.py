"""Streams over HTTP/2 of third-party servers, each a separate process that a test can kill."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from servers import entry
from servers.running import HOST, Server, need, python
from sseclient_dual import SSEEvent
from support.policies import RESTARTS
from support.processes import free_port, program
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sseclient_dual import SSEConnection
    from support.apis import Api

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")]

FOLDER = Path(__file__).parent
STRETCH = 6  # events of each stream before the kill, and after it
STREAMS = 10
REPLAY = 2  # events that a server repeats after a reconnect


@dataclass
class Log:
    """A running server, and the options of a client that reads its log over HTTP/2."""

    killed: Server
    """The process that a test kills: the server, a proxy or the server behind it."""
    url: str
    options: dict[str, Any]
    live: Callable[[], int]
    """Returns the number of streams that the server is sending."""
    event: Callable[[int], SSEEvent] = lambda number: SSEEvent(*entry(number))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a certificate for 127.0.0.1, its key, and the authority."""
    folder = tmp_path_factory.mktemp("authority")
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST)
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    return folder


@pytest.fixture(scope="module", params=["hypercorn", "node", "nginx", "behind nginx"])
def log(request: pytest.FixtureRequest, authority: Path) -> Iterator[Log]:
    """Run the test once per server."""
    by_alpn = {"http2": True, "verify": str(authority / "authority.pem")}
    with ExitStack() as stack:
        if request.param == "hypercorn":
            need("hypercorn", "sse_starlette")
            server = Server(python("hypercorn --bind {host}:{port} servers.starlette_app:app"))
            stack.enter_context(server)
            yield Log(server, server.url, {"http2": "prior-knowledge"}, server.live)
        elif request.param == "node":
            node = shutil.which("node") or pytest.skip("needs Node")
            files = [str(authority / name) for name in ("certificate.pem", "key.pem")]
            server = Server([node, str(FOLDER / "node/http2.mjs"), "{host}", "{port}", *files], tls=True)
            stack.enter_context(server)
            yield Log(
                server, server.url, by_alpn, server.live, lambda number: SSEEvent(f"кінь {number} 🐎", id=str(number))
            )
        else:
            need("uvicorn", "sse_starlette")
            backend = Server(python("uvicorn --host {host} --port {port} servers.starlette_app:app"))
            proxy = nginx(authority, backend.port)
            stack.enter_context(backend)
            stack.enter_context(proxy)
            yield Log(proxy if request.param == "nginx" else backend, proxy.url, by_alpn, backend.live)


def nginx(folder: Path, backend: int) -> Server:
    """Return an nginx that speaks HTTP/2 in front of a server on this port."""
    port = free_port()
    template = (FOLDER / "nginx_http2.conf").read_text()
    for word, value in {"FOLDER": folder, "PORT": port, "BACKEND": backend}.items():
        template = template.replace(word, str(value))
    (folder / f"{port}.conf").write_text(template)
    command = [program("nginx", "nginx-light"), "-e", "stderr", "-c", str(folder / f"{port}.conf")]
    return Server(command, tls=True, port=port)


def read_past_the_kill(api: Api, conn: SSEConnection, received: list[SSEEvent]) -> None:
    """Append the events of the broken connection, and some of the next one.

    The kill breaks a stream behind nginx only when all that nginx has received was read.
    """
    while not conn.stats.reconnects:
        received.append(api.next(conn))
    received.extend(api.take(conn, conn.stats.events + STRETCH - len(received)))


def test_a_killed_server_causes_no_lost_events_over_http2(api: Api, log: Log) -> None:
    with api.client(policy=RESTARTS, **log.options) as client, ExitStack() as stack:
        conns = [
            stack.enter_context(api.connect(client, f"{log.url}/log?stream={number}", params={"replay": REPLAY}))
            for number in range(STREAMS)
        ]
        assert {conn.http_version for conn in conns} == {"2"}
        assert len({conn.headers["X-Connection"] for conn in conns}) == 1
        events = [api.take(conn, STRETCH) for conn in conns]
        log.killed.kill()
        log.killed.start()
        for conn, received in zip(conns, events, strict=True):
            read_past_the_kill(api, conn, received)
        for received in events:
            assert received == [log.event(number) for number in range(1, len(received) + 1)]
        assert len({conn.headers["X-Connection"] for conn in conns}) == 1
        assert {conn.stats.duplicates for conn in conns} == {REPLAY}


def test_leaving_a_stream_over_http2_ends_it_alone(api: Api, log: Log) -> None:
    wait_until(lambda: log.live() == 0, "the streams of other tests to end")
    with api.client(policy=RESTARTS, **log.options) as client:
        with api.connect(client, f"{log.url}/log") as first:
            with api.connect(client, f"{log.url}/log") as second:
                assert api.take(second, 3) == [log.event(number) for number in (1, 2, 3)]
                assert log.live() == 2
            wait_until(lambda: log.live() == 1, "the server to notice")
            assert api.take(first, 3) == [log.event(number) for number in (1, 2, 3)]
            assert first.stats.reconnects == 0
        wait_until(lambda: log.live() == 0, "the server to notice")
