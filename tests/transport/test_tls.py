"""TLS: certificate authorities, certificates of servers and clients, and broken TLS connections."""

from __future__ import annotations

import ctypes
import datetime as dt
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from ctypes.util import find_library
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import urllib3

from sseclient_dual import SSEConnectionError
from sseclient_dual.testing import CUT, SSEServer, redirect, stream
from sseclient_dual.transport.body import forget_tls_errors
from support.certificates import read_one, rejected, unverified_context
from support.policies import QUICK
from support.processes import HOST
from support.tls import context_state, server_context
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from support.apis import Api
    from support.tls import Tls


# -- a stream over TLS


def test_a_stream_over_tls(api: Api, tls: Tls) -> None:
    with (
        SSEServer(stream("data: x\n\n", CUT), stream("data: y\n\n"), tls=tls[0]) as server,
        api.client(urllib3.PoolManager(ca_certs=tls[1]), policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert server.url.startswith("https://")
        assert [event.data for event in api.rest(conn)] == ["x", "y"]


@pytest.mark.parametrize("reconnect", [True, False])
def test_a_rejected_certificate_is_final(api: Api, tls: Tls, *, reconnect: bool) -> None:
    with SSEServer(tls=tls[0]) as server, api.client(policy=QUICK) as client:
        with pytest.raises(SSEConnectionError, match=f"certificate of {server.origin} was rejected.*trust"):
            api.open(client.connect(server.url, reconnect=reconnect))
        assert server.requests == []


def test_a_certificate_for_another_host_is_final(api: Api, tls: Tls) -> None:
    pool = urllib3.PoolManager(ca_certs=tls[1], server_hostname="example.com")
    with SSEServer(tls=tls[0]) as server, api.client(pool) as client:
        with pytest.raises(SSEConnectionError, match="was rejected"):
            api.open(client.connect(server.url))


def test_tls_with_a_server_without_tls(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, api.client() as client:

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = "https://{}:{}/".format(*listener.getsockname())
        with pytest.raises(SSEConnectionError, match=r"TLS failed .*check the scheme"):
            api.open(client.connect(url, reconnect=False))
        thread.join()


def context_requiring_certificate(authority: trustme.CA, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return a server context that requires a client certificate of `authority`, with one version of TLS."""
    context = server_context(authority.issue_cert(HOST))
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = version
    return context


def trusting_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


# -- certificate authorities


def test_verify_accepts_a_file_a_folder_and_a_path(api: Api, tls: Tls, tmp_path: Path) -> None:
    text = Path(tls[1]).read_bytes()
    openssl = shutil.which("openssl")
    bundles: list[Any] = [tls[1], Path(tls[1])]
    if openssl is not None:  # OpenSSL finds the file by the hash of the authority's name
        hashed = subprocess.run(
            [openssl, "x509", "-hash", "-noout", "-in", tls[1]], capture_output=True, text=True, check=True
        ).stdout.strip()
        (tmp_path / f"{hashed}.0").write_bytes(text)
        bundles += [str(tmp_path), tmp_path]
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        for bundle in bundles:
            assert read_one(api, {"verify": bundle}, server.url) == "x"
            assert read_one(api, {}, server.url, verify=bundle) == "x"
        rejected(api, {}, server)
        rejected(api, {"verify": True}, server)


def test_a_folder_without_the_authority_rejects_the_certificate(api: Api, tls: Tls, tmp_path: Path) -> None:
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        rejected(api, {"verify": tmp_path}, server)


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_tls_settings_of_a_connection_override_those_of_the_client(
    api: Api, tls: Tls, authority: trustme.CA, tmp_path: Path
) -> None:
    other = str(tmp_path / "other.pem")
    authority.cert_pem.write_to_path(other)
    trusting = ssl.create_default_context(cafile=tls[1])
    distrusting = ssl.create_default_context(cafile=other)
    unverified = unverified_context()
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        assert read_one(api, {"verify": False}, server.url) == "x"
        assert read_one(api, {}, server.url, verify=False) == "x"
        assert read_one(api, {"verify": other}, server.url, verify=False) == "x"
        assert read_one(api, {"verify": other}, server.url, verify=tls[1]) == "x"
        assert read_one(api, {"verify": other}, server.url, ssl_context=trusting) == "x"
        assert read_one(api, {"verify": False}, server.url, ssl_context=trusting) == "x"
        assert read_one(api, {"ssl_context": distrusting}, server.url, ssl_context=trusting) == "x"
        assert read_one(api, {"ssl_context": distrusting}, server.url, verify=tls[1]) == "x"
        assert read_one(api, {"ssl_context": distrusting}, server.url, verify=False) == "x"
        assert read_one(api, {"ssl_context": unverified}, server.url) == "x"
        # These settings check certificates already, so verify=True changes nothing.
        assert read_one(api, {"verify": tls[1]}, server.url, verify=True) == "x"
        assert read_one(api, {"ssl_context": trusting}, server.url, verify=True) == "x"
        rejected(api, {"verify": False}, server, verify=True)
        rejected(api, {"verify": False}, server, verify=other)
        rejected(api, {"verify": False}, server, ssl_context=distrusting)
        rejected(api, {"verify": tls[1]}, server, ssl_context=distrusting)
        rejected(api, {"ssl_context": unverified}, server, verify=True)
        rejected(api, {"ssl_context": trusting}, server, verify=other)


def test_overriding_tls_settings_does_not_affect_other_connections(api: Api, tls: Tls) -> None:
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server, api.client(policy=QUICK) as client:
        with api.connect(client, server.url, verify=tls[1], keep_connection=True) as conn:
            assert api.next(conn).data == "x"
        with pytest.raises(SSEConnectionError, match="rejected"):
            api.open(client.connect(server.url))


def test_closing_the_client_closes_kept_connections_with_other_settings(api: Api, tls: Tls) -> None:
    with SSEServer(stream("data: x\n\n"), tls=tls[0]) as server, api.client() as client:
        conn = client.connect(server.url, verify=tls[1], keep_connection=True, reconnect=False)
        assert len(api.rest(conn)) == 1
        server.wait_for_connections(1)
        client.close()
        server.wait_for_connections(0)
        assert conn.status == 200


# -- rejected certificates of servers


def test_a_certificate_for_another_host(api: Api, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with SSEServer(tls=server_context(authority.issue_cert("example.com"))) as server:
        assert "127.0.0.1" in rejected(api, {"ssl_context": context}, server)


def test_an_expired_certificate(api: Api, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    past = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    with SSEServer(tls=server_context(authority.issue_cert(HOST, not_before=past, not_after=past))) as server:
        assert "certificate has expired" in rejected(api, {"ssl_context": context}, server)


def test_a_certificate_of_an_unknown_authority(api: Api, tls: Tls) -> None:
    with SSEServer(tls=tls[0]) as server:
        message = rejected(api, {}, server)
    assert "trust the authority" in message


def test_a_certificate_is_checked_after_a_redirect_too(api: Api, tls: Tls, authority: trustme.CA) -> None:
    with SSEServer(tls=server_context(authority.issue_cert(HOST))) as other:
        with SSEServer(redirect(other.url), tls=tls[0]) as server, api.client(verify=tls[1]) as client:
            with pytest.raises(SSEConnectionError, match=f"certificate of {other.origin} was rejected"):
                api.open(client.connect(server.url))


# -- client certificates


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate(api: Api, authority: trustme.CA, version: ssl.TLSVersion) -> None:
    serving = context_requiring_certificate(authority, version)
    context = trusting_context(authority)
    without_certificate = trusting_context(authority)
    authority.issue_cert("client@example.com").configure_cert(context)
    before = context_state(context)
    with SSEServer(stream("data: x\n\n", CUT), default=stream("data: y\n\n"), tls=serving) as server:
        with api.client(ssl_context=context, policy=QUICK) as client, api.connect(client, server.url) as conn:
            assert [event.data for event in api.take(conn, 2)] == ["x", "y"]
        assert read_one(api, {}, server.url, ssl_context=context) == "y"
        assert read_one(api, {"pool": urllib3.PoolManager(ssl_context=context)}, server.url) == "y"
        seen = len(server.requests)
        with api.client(ssl_context=without_certificate) as client, pytest.raises(SSEConnectionError):
            api.open(client.connect(server.url, reconnect=False))
        assert len(server.requests) == seen
    assert context_state(context) == before


@pytest.mark.parametrize(
    ("version", "missing"),  # TLS 1.2 has no alert for a missing certificate
    [(ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, False), (ssl.TLSVersion.TLSv1_3, True)],
)
def test_a_rejected_client_certificate_is_final(
    api: Api, authority: trustme.CA, version: ssl.TLSVersion, *, missing: bool
) -> None:
    serving = context_requiring_certificate(authority, version)
    context = trusting_context(authority)
    if not missing:
        trustme.CA().issue_cert("client@example.com").configure_cert(context)
    with SSEServer(tls=serving) as server:
        with api.client(ssl_context=context, policy=QUICK) as client:
            # If the connection ends before the alert arrives, the next attempt gets the alert.
            with pytest.raises(SSEConnectionError, match="the client certificate was rejected") as caught:
                api.open(client.connect(server.url, reconnect=True))
            assert caught.value.final
        assert server.requests == []


# -- broken TLS connections


@pytest.mark.parametrize("end", ["TCP ends", "TLS ends", "broken"])
@pytest.mark.parametrize("size", [10, 16_000, 60_000, 300_000])
def test_events_received_before_tls_ends_or_breaks_are_delivered(api: Api, tls: Tls, size: int, end: str) -> None:
    context, authority_file = tls
    first = b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    last = b"data: " + b"x" * size + b"\n\n"
    all_sent = threading.Event()

    def serve(listener: socket.socket) -> None:
        plain, _ = listener.accept()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        with plain, plain.dup() as raw_sock, context.wrap_socket(plain, server_side=True) as sock:
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + first)
            sock.sendall(last)
            if end == "broken":
                raw_sock.sendall(b"no TLS at all")
            elif end == "TCP ends":
                raw_sock.shutdown(socket.SHUT_WR)
            else:
                sock.setblocking(False)
                with suppress(ssl.SSLWantReadError):  # that of the client does not come before it has read all
                    sock.unwrap()
                raw_sock.setblocking(True)
            all_sent.set()
            raw_sock.recv(65536)

    with socket.create_server((HOST, 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        with api.client(verify=authority_file) as client:
            url = f"https://{HOST}:{listener.getsockname()[1]}/"
            conn = api.open(client.connect(url, reconnect=False, queue_size=1))
            wait_until(lambda: conn.stats.events, "a full queue, so that the rest waits in the socket")
            assert all_sent.wait(PATIENCE)
            assert [event.data for event in api.take(conn, 4)] == ["1", "2", "3", "x" * size]
            if end == "broken":
                with pytest.raises(SSEConnectionError, match="the connection broke") as caught:
                    api.next(conn)
                assert isinstance(caught.value.__cause__, urllib3.exceptions.SSLError)
            else:
                assert api.rest(conn) == []
        server.join()


def test_errors_of_openssl_are_forgotten() -> None:
    library = ctypes.CDLL(find_library("crypto"))
    library.OpenSSL_version.restype = ctypes.c_char_p
    if library.OpenSSL_version(0).decode() != ssl.OPENSSL_VERSION:
        pytest.skip("the ssl module uses another OpenSSL")
    library.ERR_peek_error.restype = ctypes.c_ulong
    library.ERR_new()
    library.ERR_set_error(20, 294, None)  # an unexpected end of TLS
    assert library.ERR_peek_error()
    forget_tls_errors()
    assert not library.ERR_peek_error()
