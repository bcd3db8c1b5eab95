"""Compressed streams: each event arrives when it is flushed, from the scripted server and through nginx."""

from __future__ import annotations

import importlib
import os
import sys
import zlib
from typing import TYPE_CHECKING, Any, Protocol

import brotli  # type: ignore[import-untyped]
import pytest

from sseclient_dual import SSEConnectionError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, stream, wire
from support.policies import QUICK
from support.processes import HOST, Process, free_port, program
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.apis import Api

EVENTS = ["a", "☃" * 10, "c" * 5000, ""]


class Flush(Protocol):
    def __call__(self, data: bytes) -> bytes:
        """Compress `data` and flush, so that the peer can decode everything sent so far."""


def gzip() -> Flush:
    compressor = zlib.compressobj(wbits=31)
    return lambda data: compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)


def deflate() -> Flush:
    compressor = zlib.compressobj()
    return lambda data: compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)


def raw_deflate() -> Flush:
    """Compress without the zlib header, as some servers do for ``deflate``."""
    compressor = zlib.compressobj(wbits=-15)
    return lambda data: compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)


def br() -> Flush:
    compressor = brotli.Compressor()
    return lambda data: compressor.process(data) + compressor.flush()


def zstd() -> Flush:
    module = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    compressor = module.ZstdCompressor()
    return lambda data: bytes(compressor.compress(data, mode=compressor.FLUSH_BLOCK))


def twice() -> Flush:
    inner, outer = deflate(), gzip()
    return lambda data: outer(inner(data))


ENCODINGS: dict[str, tuple[str, Callable[[], Flush]]] = {
    "gzip": ("gzip", gzip),
    "x-gzip": ("x-gzip", gzip),
    "GZip": ("GZip", gzip),
    "deflate": ("deflate", deflate),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", br),
    "zstd": ("zstd", zstd),
    "deflate, gzip": ("deflate, gzip", twice),
}


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("name", ENCODINGS)
def test_each_event_arrives_when_it_is_flushed(api: Api, name: str, framing: Any) -> None:
    encoding, make = ENCODINGS[name]
    gates = [Gate() for _ in EVENTS]

    def body() -> Iterator[bytes | Gate]:
        flush = make()
        for data, gate in zip(EVENTS, gates, strict=True):
            yield flush(f"data: {data}\n\n".encode())
            yield gate

    headers = {"Content-Encoding": encoding}
    with SSEServer(stream(body(), HANG, headers=headers, framing=framing)) as server:
        asked = {"Accept-Encoding": encoding}
        with api.client() as client, api.connect(client, server.url, headers=asked, reconnect=False) as conn:
            for data, gate in zip(EVENTS, gates, strict=True):
                assert api.recv(conn, PATIENCE).data == data
                gate.open()
        assert server.requests[0].headers["Accept-Encoding"] == encoding


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("size", [1, 7])
def test_a_compressed_stream_may_be_split_anywhere(api: Api, name: str, size: int) -> None:
    encoding, make = ENCODINGS[name]
    flush = make()
    body = b"".join(flush(f"data: {data}\n\n".encode()) for data in EVENTS)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    with (
        SSEServer(stream(*pieces, CUT, headers={"Content-Encoding": encoding})) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert [event.data for event in api.take(conn, len(EVENTS))] == EVENTS


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_reconnect_starts_a_new_decoder(api: Api, name: str) -> None:
    encoding, make = ENCODINGS[name]
    replies = [
        stream(make()(f"id: {n}\ndata: {n}\n\n".encode()), CUT, headers={"Content-Encoding": encoding})
        for n in range(3)
    ]
    with SSEServer(*replies) as server, api.client(policy=QUICK) as client, api.connect(client, server.url) as conn:
        assert [event.data for event in api.rest(conn)] == ["0", "1", "2"]


def test_invalid_framing_of_a_compressed_body_is_an_error(api: Api) -> None:
    reply = stream(gzip()(b"data: x\n\n"), wire("-5\r\nhello\r\n"), HANG, headers={"Content-Encoding": "gzip"})
    with SSEServer(reply) as server, api.client() as client:
        with api.connect(client, server.url, reconnect=False) as conn:
            assert api.next(conn).data == "x"
            with pytest.raises(SSEConnectionError, match="invalid chunked framing"):
                api.next(conn)


def test_no_encoding_is_requested_by_default(api: Api) -> None:
    with SSEServer(stream("data: x\n\n")) as server, api.client() as client:
        with api.connect(client, server.url) as conn:
            api.next(conn)
        assert server.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("encoding", ["compress", "gzip, exi", "aes128gcm"])
def test_an_unsupported_encoding_is_final(api: Api, encoding: str) -> None:
    with SSEServer(stream("???", HANG, headers={"Content-Encoding": encoding})) as server:
        with api.client(policy=QUICK) as client:
            with pytest.raises(SSEConnectionError, match="which cannot be decoded here") as caught:
                api.open(client.connect(server.url, reconnect=True))
            assert repr(encoding.rpartition(" ")[2]) in str(caught.value)
            assert server.origin in str(caught.value)
        assert len(server.requests) == 1


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_an_empty_or_identity_encoding_is_accepted(api: Api, encoding: str) -> None:
    with (
        SSEServer(stream("data: x\n\n", HANG, headers={"Content-Encoding": encoding})) as server,
        api.client() as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "x"


@pytest.mark.parametrize("name", [name for name in ENCODINGS if name not in {"raw deflate", "x-gzip", "GZip"}])
def test_a_body_in_the_wrong_encoding_causes_a_reconnect(api: Api, name: str) -> None:
    encoding, make = ENCODINGS[name]
    good = stream(make()(b"data: x\n\n"), HANG, headers={"Content-Encoding": encoding})
    with (
        SSEServer(
            stream("data: no such thing\n\n" * 3, HANG, headers={"Content-Encoding": encoding}), good
        ) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "x"
        assert conn.stats.reconnects == 1


# -- nginx as a reverse proxy that compresses

NGINX = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    gzip_types text/event-stream;
    gzip_min_length 0;
    gzip_proxied any;
    proxy_buffering off;
    server {{
        listen {host}:{port};
        location /1.1/ {{
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_pass http://{host}:{upstream}/;
        }}
        location /1.0/ {{
            proxy_http_version 1.0;
            proxy_pass http://{host}:{upstream}/;
        }}
    }}
}}
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("accepted", ["gzip", "identity"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_events_through_nginx_arrive_when_they_are_flushed(
    api: Api, tmp_path: Path, version: str, accepted: str
) -> None:
    gates = [Gate() for _ in EVENTS]
    steps = [(f"id: {n}\ndata: {data}\n\n", gates[n]) for n, data in enumerate(EVENTS)]
    framing: Any = "chunked" if version == "1.1" else "close"
    port = free_port()
    with SSEServer(stream(*steps, CUT, framing=framing), stream("data: last\n\n", framing=framing)) as server:
        settings = tmp_path / "nginx.conf"
        settings.write_text(NGINX.format(folder=tmp_path, host=HOST, port=port, upstream=server.port))
        command = [program("nginx", "nginx-light"), "-p", str(tmp_path), "-c", str(settings)]
        with Process([*command, "-e", str(tmp_path / "error.log")], port, log=tmp_path / "log"):
            url = f"http://{HOST}:{port}/{version}/stream"
            with (
                api.client(policy=QUICK, headers={"Accept-Encoding": accepted}) as client,
                api.connect(client, url) as conn,
            ):
                for data, gate in zip(EVENTS, gates, strict=True):
                    assert api.recv(conn, PATIENCE).data == data
                    gate.open()
                assert conn.headers.get("Content-Encoding") == ("gzip" if accepted == "gzip" else None)
                assert "nginx" in conn.headers["Server"]
                # nginx passes on the end of the server's stream, and the client reconnects.
                assert api.recv(conn, PATIENCE).data == "last"
            server.wait_for_requests(2)
            assert server.requests[1].last_event_id == str(len(EVENTS) - 1)
            assert server.requests[0].version == f"HTTP/{version}"
