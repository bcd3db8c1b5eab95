"""The scripted server over TLS."""

from __future__ import annotations

import http.client
import socket
import ssl
from contextlib import suppress

import pytest

from sseclient_dual.testing import CUT, HANG, RESET, Gate, SSEServer, raw, stream
from support.dialling import CHUNKED, Contexts, dial, get, read, read_all
from support.streams import HEAD
from support.waiting import PATIENCE


def test_tls_ends_cleanly_or_is_cut(contexts: Contexts) -> None:
    with SSEServer(
        stream("a", b"b" * 100_000, framing="close"), stream("a", CUT), raw(RESET), tls=contexts.server
    ) as server:
        assert server.url == f"https://127.0.0.1:{server.port}/"
        with dial(server) as plain, contexts.wrap(plain) as sock:
            get(sock)
            assert read_all(sock) == HEAD + b"Connection: close\r\n\r\na" + b"b" * 100_000
        with dial(server) as plain, contexts.wrap(plain) as sock:
            get(sock)
            assert read(sock, len(CHUNKED) + 6) == CHUNKED + b"1\r\na\r\n"
            with pytest.raises(ssl.SSLEOFError):
                sock.recv(1)
        with dial(server) as plain, contexts.wrap(plain) as sock:
            get(sock)
            server.wait_for_connections(0)
            # Read below TLS: some versions of Python report a reset differently there.
            with pytest.raises(ConnectionResetError):
                list(iter(lambda: socket.socket.recv(sock, 65536), b""))


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_connections_persist(contexts: Contexts, maximum: ssl.TLSVersion) -> None:
    server_context = Contexts()
    server_context.server.maximum_version = maximum
    with SSEServer(stream("a"), stream("b"), tls=server_context.server) as server:
        connection = http.client.HTTPSConnection(
            server.host, server.port, timeout=PATIENCE, context=server_context.client
        )
        for expected in b"a", b"b":
            connection.request("POST", "/", body=b"x" * 100_000)
            assert connection.getresponse().read() == expected
        connection.close()
        assert [(request.connection, len(request.body)) for request in server.requests] == [(1, 100_000)] * 2


@pytest.mark.parametrize("notify", [False, True])
def test_a_disconnect_over_tls_is_detected(contexts: Contexts, notify: bool) -> None:
    with SSEServer(stream("a", HANG), tls=contexts.server) as server:
        with dial(server) as plain, contexts.wrap(plain) as sock:
            get(sock)
            assert read(sock, len(CHUNKED) + 6) == CHUNKED + b"1\r\na\r\n"
            server.wait_for_connections(1)
            if notify:
                with suppress(OSError):
                    sock.unwrap()
                server.wait_for_connections(0)
        server.wait_for_connections(0)


def test_a_request_followed_by_a_close_notify_is_served(contexts: Contexts) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = contexts.client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with SSEServer(tls=contexts.server) as server, dial(server) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        tls.write(b"GET /last HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        sock.sendall(outgoing.read())
        assert server.wait_for_requests(1)[0].target == "/last"


def test_tls_errors_of_the_peer_are_ignored(contexts: Contexts) -> None:
    with SSEServer(tls=contexts.server) as server:
        with dial(server) as plain, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")
        with dial(server) as sock:
            get(sock)
            assert read_all(sock) == b""
        server.wait_for_connections(0)


def test_tls_errors_are_sent_to_the_peer() -> None:
    contexts = Contexts()
    contexts.server.minimum_version = ssl.TLSVersion.TLSv1_3
    contexts.client.maximum_version = ssl.TLSVersion.TLSv1_2
    with SSEServer(tls=contexts.server) as server, dial(server) as plain:
        with pytest.raises(ssl.SSLError) as caught:
            contexts.wrap(plain)
        assert "ALERT_PROTOCOL_VERSION" in caught.value.reason


def test_a_client_context_is_rejected(contexts: Contexts) -> None:
    with pytest.raises(ValueError, match="tls must be a context for servers"):
        SSEServer(tls=contexts.client)


def test_the_handshake_waits_at_its_gate(contexts: Contexts) -> None:
    gate = Gate()
    with SSEServer(stream("a"), tls=contexts.server, handshake=gate) as server, dial(server) as plain:
        gate.wait_reached()
        tls = contexts.client.wrap_socket(plain, server_hostname="127.0.0.1", do_handshake_on_connect=False)
        with tls as sock:
            sock.setblocking(False)
            for _ in range(2):  # the first call sends the client's hello
                with pytest.raises(ssl.SSLWantReadError):
                    sock.do_handshake()
            sock.settimeout(10)
            gate.open()
            sock.do_handshake()
            get(sock)
            assert read(sock, len(CHUNKED)) == CHUNKED


@pytest.mark.parametrize("tls", [False, True])
def test_a_disconnect_before_the_handshake_is_detected(tls: bool, contexts: Contexts) -> None:
    gate = Gate()
    with SSEServer(tls=contexts.server if tls else None, handshake=gate) as server:
        with dial(server) as sock:
            get(sock)
            gate.wait_reached()
            server.wait_for_connections(1)
        server.wait_for_connections(0)
        assert not server.requests
