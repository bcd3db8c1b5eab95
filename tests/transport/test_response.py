"""Responses: every framing, an empty body, and a response before the whole request is sent."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Literal

import pytest

from sseclient_dual import ReadyState, SSEStatusError
from sseclient_dual.testing import Gate, SSEServer, stream

if TYPE_CHECKING:
    from support.apis import Api
    from support.tls import Tls


def test_a_stream_in_every_framing(api: Api) -> None:
    for framing in ("chunked", "close", "sized", "none"):
        with (
            SSEServer(stream("data: 1\n\n", "data: 2\n\n", framing=framing)) as server,
            api.client() as client,
            api.connect(client, server.url, reconnect=False) as conn,
        ):
            assert [event.data for event in api.rest(conn)] == ["1", "2"]


def test_an_empty_body_is_a_clean_end(api: Api) -> None:
    with (
        SSEServer(stream(framing="sized")) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert api.rest(conn) == []
        assert conn.ready_state is ReadyState.CLOSED


def test_a_response_before_the_body_is_sent_is_read(api: Api) -> None:
    with SSEServer() as server, api.client() as client:
        # A raw server that refuses the request before it reads the body.
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def refuse() -> None:
                sock, _ = listener.accept()
                with sock:
                    sock.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65536):
                        pass

            thread = threading.Thread(target=refuse)
            thread.start()
            with pytest.raises(SSEStatusError) as caught:
                api.open(
                    client.connect("http://{}:{}/".format(*listener.getsockname()), "POST", data=b"x" * 10_000_000)
                )
            assert (caught.value.status, caught.value.body) == (413, b"no")
            thread.join()
        assert server.requests == []


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_a_broken_pipe_while_reading_is_the_end_of_the_body(
    api: Api, tls: Tls, encoding: Literal["gzip"] | None
) -> None:
    """OpenSSL 3.6 reports it if a stream ends without a TLS close, and nothing can be sent any more."""
    gate = Gate()

    def break_pipe(size: int) -> bytes:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    reply = stream("data: x\n\n", gate, "data: y\n\n", gate, framing="none", encoding=encoding)
    with SSEServer(reply, tls=tls[0]) as server, api.client(verify=tls[1]) as client:
        conn = client.connect(server.url, reconnect=False)
        assert api.next(conn).data == "x"
        exchange = conn._reader._exchange
        assert exchange is not None
        # With a content coding, urllib3 reads the body, and waits in `recv` meanwhile.
        raw: Any = exchange._raw_response
        reader: Any = exchange.body if raw is None else raw._file
        reader._receive = break_pipe
        gate.open()
        assert [event.data for event in api.rest(conn)] == ([] if encoding is None else ["y"])
