"""The transport over real sockets: time-outs, redirects, TLS, sockets' options, and what errors say."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from sseclient_dual import ReadyState, ReconnectPolicy, SSEClient, SSEConnectionError, SSEStatusError
from sseclient_dual.testing import (
    CUT,
    HANG,
    Gate,
    ReceivedRequest,
    SSEServer,
    pause,
    raw,
    redirect,
    status,
    stream,
    wire,
)
from sseclient_dual.transport import Exchange, _Chunks, split_timeout
from support.waiting import wait_until

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from support.apis import Face

QUICK = ReconnectPolicy(retry_delay=10, jitter=0)


# -- time-outs


def test_the_head_may_take_longer_than_the_connect_timeout(face: Face) -> None:
    timeout = urllib3.Timeout(connect=0.2, read=None)
    with (
        SSEServer(stream(pause(0.8), "data: x\n\n", HANG, head_with_body=True)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url, timeout=timeout) as conn,
    ):
        assert face.next(conn).data == "x"
        assert len(server.requests) == 1


def test_a_silence_before_the_head_is_bounded_by_the_read_timeout(face: Face) -> None:
    timeout = urllib3.Timeout(connect=None, read=0.2)
    with SSEServer(raw(HANG)) as server, face.client() as client:
        with pytest.raises(SSEConnectionError, match=r"nothing came for 0\.2 s"):
            face.open(client.connect(server.url, timeout=timeout, reconnect=False))
        server.wait_for_connections(0)


def test_a_tls_handshake_is_bounded_by_the_connect_timeout(face: Face, tls: tuple[ssl.SSLContext, str]) -> None:
    timeout = urllib3.Timeout(connect=0.2, read=None)
    with SSEServer(tls=tls[0], handshake=Gate()) as server, face.client() as client:
        with pytest.raises(SSEConnectionError, match=r"no connection within 0\.2 s"):
            face.open(client.connect(server.url, timeout=timeout, reconnect=False))


def test_a_connect_is_bounded_by_the_connect_timeout(face: Face) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, face.client(timeout=0.2) as client:
        others: list[socket.socket] = []
        try:
            while not others or others[-1].connect_ex(server.getsockname()) == 0:
                others.append(socket.socket())
                others[-1].settimeout(0.2)
            with pytest.raises(SSEConnectionError, match=r"no connection within 0\.2 s"):
                face.open(client.connect("http://{}:{}/".format(*server.getsockname()), reconnect=False))
        finally:
            for other in others:
                other.close()


def test_a_total_bounds_both_parts(face: Face) -> None:
    with SSEServer(raw(HANG)) as server, face.client(timeout=urllib3.Timeout(total=0.2)) as client:
        with pytest.raises(SSEConnectionError, match=r"nothing came for 0\.\d+ s"):
            face.open(client.connect(server.url, reconnect=False))


def test_none_is_no_limit_and_the_client_has_a_default(face: Face) -> None:
    with SSEServer(stream(pause(0.5), "data: x\n\n"), raw(HANG)) as server, face.client(timeout=0.1) as client:
        with face.connect(client, server.url, timeout=None, reconnect=False) as conn:
            assert face.next(conn).data == "x"
        with pytest.raises(SSEConnectionError, match="nothing came"):
            face.open(client.connect(server.url, reconnect=False))


def test_a_number_that_is_no_float_will_do(face: Face) -> None:
    with SSEServer(stream("data: x\n\n")) as server, face.client(timeout=5) as client:
        with face.connect(client, server.url, timeout=urllib3.Timeout(connect=1)) as conn:
            assert face.next(conn).data == "x"


def test_a_connect_after_a_redirect_is_bounded_by_the_connect_timeout(
    face: Face, tls: tuple[ssl.SSLContext, str]
) -> None:
    timeout = urllib3.Timeout(connect=0.2, read=None)
    with SSEServer(tls=tls[0], handshake=Gate()) as target, face.client() as client:
        with SSEServer(redirect(target.url)) as server:
            with pytest.raises(SSEConnectionError, match=f"{target.origin}: no connection within 0.2 s"):
                face.open(client.connect(server.url, timeout=timeout, reconnect=False))


def test_a_part_of_a_timeout_that_is_not_set_is_the_default() -> None:
    assert split_timeout(urllib3.Timeout(read=30)) == (10, 30)
    assert split_timeout(urllib3.Timeout(connect=5)) == (5, None)
    assert split_timeout(urllib3.Timeout(connect=None, read=None)) == (None, None)
    assert split_timeout(5) == (5, 5)
    assert split_timeout(None) == (None, None)


def test_a_timeout_that_no_system_call_takes_is_as_long_as_can_be(face: Face) -> None:
    with SSEServer(stream("data: x\n\n")) as server, face.client(timeout=1e12) as client:
        with face.connect(client, server.url) as conn:
            assert face.next(conn).data == "x"


# -- redirects


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(face: Face, code: int) -> None:
    with (
        SSEServer(redirect("/there?x=1#part", code), stream("data: x\n\n", HANG)) as server,
        face.client() as client,
        face.connect(client, server.url + "here", headers={"X-Api-Key": "k"}) as conn,
    ):
        assert face.next(conn).origin == server.origin
        assert [request.target for request in server.requests] == ["/here", "/there?x=1"]
        assert server.requests[1].headers["X-Api-Key"] == "k"  # to the same origin all headers travel
        assert conn.response_url == server.origin + "/there?x=1"
        assert conn.url == server.url + "here"


@pytest.mark.parametrize(
    ("code", "method", "then"),
    [(301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (303, "PUT", "GET"), (301, "PUT", "PUT"),
     (302, "PATCH", "PATCH"), (307, "POST", "POST"), (308, "POST", "POST")],
)  # fmt: skip
def test_the_method_after_a_redirect_is_that_of_browsers(face: Face, code: int, method: str, then: str) -> None:
    with (
        SSEServer(redirect("/there", code), stream("data: x\n\n")) as server,
        face.client() as client,
        face.connect(client, server.url, method, json={"a": 1}, reconnect=False) as conn,
    ):
        face.next(conn)
        request = server.requests[1]
        assert request.method == then
        if then == "GET":
            assert request.body == b""
            assert not [name for name in request.headers if name.lower().startswith("content-")]
        else:
            assert request.body == b'{"a":1}'
            assert request.headers["Content-Type"] == "application/json"


def test_a_body_that_goes_along_to_another_origin_keeps_what_describes_it(face: Face) -> None:
    with (
        SSEServer(stream("data: x\n\n")) as target,
        SSEServer(redirect(target.url, 307)) as server,
        face.client() as client,
        face.connect(client, server.url, "POST", {"X-Api-Key": "k"}, json=[], reconnect=False) as conn,
    ):
        face.next(conn)
        (request,) = target.requests
        assert (request.method, request.body) == ("POST", b"[]")
        assert request.headers["Content-Type"] == "application/json"
        assert "X-Api-Key" not in request.headers


def test_what_was_dropped_for_another_origin_does_not_come_back(face: Face) -> None:
    with SSEServer() as target, face.client() as client:
        with SSEServer(redirect(target.url), stream("data: x\n\n")) as server:
            target.add(redirect(server.url + "back"))
            with face.connect(client, server.url, headers={"Cookie": "a=1"}) as conn:
                face.next(conn)
            assert "Cookie" in server.requests[0].headers
            assert "Cookie" not in server.requests[1].headers


def test_each_reconnect_starts_from_the_original_url(face: Face) -> None:
    with (
        SSEServer(redirect("/a"), stream("id: 1\ndata: x\n\n"), redirect("/b"), stream("data: y\n\n")) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url) as conn,
    ):
        assert [event.data for event in face.rest(conn)] == ["x", "y"]
        assert [request.target for request in server.requests] == ["/", "/a", "/", "/b", "/"]
        assert [request.last_event_id for request in server.requests] == [None, None, "1", "1", "1"]


def test_a_location_may_be_in_utf_8(face: Face) -> None:
    with SSEServer(redirect("/caf\u00e9".encode()), stream("data: x\n\n")) as server, face.client() as client:
        with face.connect(client, server.url) as conn:
            face.next(conn)
        assert server.requests[1].target == "/caf%C3%A9"


@pytest.mark.parametrize("name", ["Content-Token", "Acceptance", "X-Accept", "Accepted"])
def test_a_header_of_a_similar_name_does_not_travel(face: Face, name: str) -> None:
    with (
        SSEServer(stream("data: x\n\n")) as target,
        SSEServer(redirect(target.url)) as server,
        face.client() as client,
        face.connect(client, server.url, headers={name: "secret"}) as conn,
    ):
        face.next(conn)
        assert server.requests[0].headers[name] == "secret"
        assert name not in target.requests[0].headers


def test_a_redirect_may_be_refused(face: Face) -> None:
    with SSEServer(redirect("/there")) as server, face.client() as client:
        with pytest.raises(SSEStatusError) as caught:
            face.open(client.connect(server.url, redirect=False))
        assert (caught.value.status, caught.value.headers["Location"]) == (302, "/there")


def test_the_body_of_a_redirect_is_never_read(face: Face) -> None:
    endless = stream("x" * 1000, HANG, status=302, headers={"Location": "/there"})
    with (
        SSEServer(endless, stream("data: x\n\n", HANG)) as server,
        face.client() as client,
        face.connect(client, server.url) as conn,
    ):
        assert face.next(conn).data == "x"
        server.wait_for_connections(1)


def test_credentials_in_the_url_are_sent_and_stripped(face: Face) -> None:
    with SSEServer(stream("data: x\n\n")) as server, face.client() as client:
        url = server.url.replace("://", "://m%C3%BCller:p%40ss%3A@")
        with face.connect(client, url) as conn:
            face.next(conn)
            assert conn.url == conn.response_url == server.url
        assert server.requests[0].headers["Authorization"] == "Basic bcO8bGxlcjpwQHNzOg=="


# -- TLS


def test_a_stream_over_tls(face: Face, tls: tuple[ssl.SSLContext, str]) -> None:
    with (
        SSEServer(stream("data: x\n\n", CUT), stream("data: y\n\n"), tls=tls[0]) as server,
        face.client(urllib3.PoolManager(ca_certs=tls[1]), policy=QUICK) as client,
        face.connect(client, server.url) as conn,
    ):
        assert server.url.startswith("https://")
        assert [event.data for event in face.rest(conn)] == ["x", "y"]


@pytest.mark.parametrize("reconnect", [True, False])
def test_a_certificate_that_is_rejected_is_final(
    face: Face, tls: tuple[ssl.SSLContext, str], *, reconnect: bool
) -> None:
    with SSEServer(tls=tls[0]) as server, face.client(policy=QUICK) as client:
        with pytest.raises(SSEConnectionError, match=f"certificate of {server.origin} was rejected.*trust"):
            face.open(client.connect(server.url, reconnect=reconnect))
        assert server.requests == []


def test_a_certificate_for_another_host_is_final(face: Face, tls: tuple[ssl.SSLContext, str]) -> None:
    pool = urllib3.PoolManager(ca_certs=tls[1], server_hostname="example.com")
    with SSEServer(tls=tls[0]) as server, face.client(pool) as client:
        with pytest.raises(SSEConnectionError, match="was rejected"):
            face.open(client.connect(server.url))


def test_tls_with_a_server_that_has_none(face: Face) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, face.client() as client:

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = "https://{}:{}/".format(*listener.getsockname())
        with pytest.raises(SSEConnectionError, match=r"TLS failed .*check the URL's scheme"):
            face.open(client.connect(url, reconnect=False))
        thread.join()


# -- sockets


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_tcp_keep_alive_is_on(tls: tuple[ssl.SSLContext, str], *, secure: bool) -> None:
    with (
        SSEServer(stream(HANG), tls=tls[0] if secure else None) as server,
        SSEClient(verify=tls[1]) as client,
        client.connect(server.url) as conn,
    ):
        exchange = conn._reader._exchange
        assert exchange is not None
        sock = exchange._sock
        assert sock is not None
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        options = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
        for name, value in {**options, "TCP_USER_TIMEOUT": 120_000}.items():
            if hasattr(socket, name):  # systems name the first in two ways, and not all have the last
                assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value


def test_socket_options_of_a_lent_pool_are_honoured() -> None:
    pool = urllib3.PoolManager(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
    with SSEServer(stream(HANG)) as server, SSEClient(pool) as client, client.connect(server.url) as conn:
        sock = conn._reader._exchange._sock  # type: ignore[union-attr]
        assert sock is not None
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_source_address_is_honoured() -> None:
    pool = urllib3.PoolManager(source_address=("127.0.0.2", 0))
    with SSEServer(stream("data: x\n\n")) as server, SSEClient(pool) as client, client.connect(server.url) as conn:
        next(conn)
        assert server.requests[0].client_address[0] == "127.0.0.2"


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with SSEServer(stream("data: x\n\n")) as server, SSEClient() as client:
        refused = ("127.0.0.2", server.port)  # nobody listens there
        right = ("127.0.0.1", server.port)
        answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (refused, right)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: answer)
        with client.connect("http://two.invalid/") as conn:
            assert next(conn).data == "x"


def test_an_address_of_a_family_that_there_is_not_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with SSEServer(stream("data: x\n\n")) as server, SSEClient() as client:
        answer = [
            (family, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)) for family in (12345, socket.AF_INET)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: answer)
        with client.connect("http://two.invalid/") as conn:
            assert next(conn).data == "x"


def test_a_name_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: [])
    with SSEClient() as client, pytest.raises(SSEConnectionError, match="no address"):
        client.connect("http://none.invalid/", reconnect=False).open()


def test_a_host_name_that_no_resolver_takes() -> None:
    with SSEClient() as client, pytest.raises(SSEConnectionError):
        client.connect(f"http://{'a' * 70}.example/", reconnect=False).open()


# -- chunked bodies

CHUNKED = {
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "several": (b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n", b"abcdef"),
    "none": (b"0\r\n\r\n", b""),
    "upper and lower case": (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    "leading zeros": (b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "extensions": (b"5;a=b\r\nhello\r\n5 ;c\r\nworld\r\n0;d\r\n\r\n", b"helloworld"),
    "a long extension": (b"5;name=value;and=another\r\nhello\r\n0\r\n\r\n", b"hello"),
    "many that hold line ends": (b"2\r\n\r\n\r\n3\r\na\r\n\r\n1\r\n\n\r\n0\r\n\r\n", b"\r\na\r\n\n"),
    "small, large, small": (
        b"1\r\na\r\n%x\r\n%b\r\n1\r\nc\r\n0\r\n\r\n" % (5000, b"b" * 5000),
        b"a" + b"b" * 5000 + b"c",
    ),
    "large, small": (b"%x\r\n%b\r\n1\r\nc\r\n0\r\n\r\n" % (5000, b"b" * 5000), b"b" * 5000 + b"c"),
    "trailers": (b"5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n", b"hello"),
    "bare line feeds": (b"5\nhello\n0\n\n", b"hello"),
    "data that looks like framing": (b"7\r\n0\r\n\r\n5\r\r\n0\r\n\r\n", b"0\r\n\r\n5\r"),
    "more after the end": (b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK", b"hello"),
}


@pytest.mark.parametrize(("framed", "data"), CHUNKED.values(), ids=CHUNKED)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 100, 100_000])
def test_the_framing_of_chunks_is_taken_off_however_it_is_cut(framed: bytes, data: bytes, size: int) -> None:
    chunks = _Chunks()
    got = [b"".join(chunks.feed(framed[start : start + size])) for start in range(0, len(framed), size)]
    assert b"".join(got) == data
    assert chunks.ended
    assert not chunks.broken


@pytest.mark.parametrize(
    "framed",
    [b"\r\n", b"x\r\n", b"-5\r\nhello\r\n", b"+5\r\n", b"0x5\r\n", b"1_0\r\n", b" 5\r\n", b"5 5\r\n",
     b"5\r\nhelloX\r\n", b"11111111111111111\r\n", b"5;" + b"x" * 70_000, "\u0665\r\n".encode()],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 100_000])
def test_what_is_no_framing_of_chunks_is_an_error(framed: bytes, size: int) -> None:
    chunks = _Chunks()
    pieces = []
    for start in range(0, len(framed), size):
        pieces += chunks.feed(framed[start : start + size])
    assert chunks.broken
    assert b"".join(pieces) in {b"", b"hello"}


@given(sizes=st.lists(st.integers(1, 40)), cut=st.integers(1, 300), data=st.data())
def test_any_chunks_are_taken_apart_however_they_are_cut(sizes: list[int], cut: int, data: st.DataObject) -> None:
    bodies = [
        data.draw(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"1", b"0"]), min_size=n, max_size=n)) for n in sizes
    ]
    parts = [b"".join(body) for body in bodies]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    chunks = _Chunks()
    got = [piece for start in range(0, len(framed), cut) for piece in chunks.feed(framed[start : start + cut])]
    assert b"".join(got) == b"".join(parts)
    assert chunks.ended
    assert not chunks.broken


def test_the_sizes_kept_are_few() -> None:
    chunks = _Chunks()
    for size in range(1, 10_000):
        assert chunks.feed(b"%x\r\n%b\r\n" % (size, b"x" * size)) == [b"x" * size]
    assert len(chunks._sizes) <= 1024


def test_a_broken_framing_is_a_drop(face: Face) -> None:
    with SSEServer(stream("data: x\n\n", wire("-5\r\nhello\r\n"), HANG)) as server, face.client() as client:
        with face.connect(client, server.url, reconnect=False) as conn:
            assert face.next(conn).data == "x"
            with pytest.raises(SSEConnectionError, match="not framed as HTTP has it"):
                face.next(conn)


def test_a_body_that_ends_with_its_last_chunk_is_whole(face: Face) -> None:
    with SSEServer(stream("data: x\n\n", wire("0\r\n"), CUT)) as server, face.client() as client:
        with face.connect(client, server.url, reconnect=False) as conn:
            assert [event.data for event in face.rest(conn)] == ["x"]


def test_an_event_is_delivered_before_the_end_of_its_chunk(face: Face) -> None:
    gate = Gate()
    steps = [wire("9\r\ndata: x\n\n"), gate, wire("\r"), pause(0.01), wire("\n9\r\ndata: y\n\n\r\n"), HANG]
    with SSEServer(stream(*steps)) as server, face.client() as client, face.connect(client, server.url) as conn:
        assert face.next(conn).data == "x"
        gate.open()
        assert face.next(conn).data == "y"


# -- errors


def test_an_exchange_without_a_socket_has_none_to_disown() -> None:
    with SSEServer() as server, SSEClient() as client:
        reader = client.connect(server.url)._reader
        Exchange(reader._pools, reader._request, "").disown()
        assert server.requests == []


def test_every_error_of_the_layers_below_has_a_cause(face: Face) -> None:
    with SSEServer(raw(CUT), stream(CUT)) as server, face.client() as client:
        with pytest.raises(SSEConnectionError) as caught:
            face.open(client.connect(server.url, reconnect=False))
        assert isinstance(caught.value.__cause__, urllib3.exceptions.ProtocolError)
        with face.connect(client, server.url, reconnect=False) as conn, pytest.raises(SSEConnectionError) as caught:
            face.next(conn)
        assert isinstance(caught.value.__cause__, (urllib3.exceptions.HTTPError, http.client.HTTPException))


def test_no_secret_is_in_a_message_or_a_log(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sseclient_dual")
    replies = [status(503, "secret"), stream("secret\n"), status(404, "secret")]
    with SSEServer(stream("id: secret\ndata: x\n\n", CUT), *replies) as server:
        url = server.url.replace("://", "://user:secret@") + "path?token=secret"
        headers = {"X-Api-Key": "secret", "Cookie": "secret"}
        with face.client(policy=QUICK, headers=headers) as client, face.connect(client, url) as conn:
            assert face.next(conn).data == "x"
            with pytest.raises(SSEStatusError) as caught:
                face.next(conn)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(conn)
    ours = [record.getMessage() for record in caplog.records if record.name == "sseclient_dual"]
    assert not [message for message in ours if "secret" in message]
    warnings = [message for message in ours if "reconnecting in" in message]
    assert len(warnings) == 3
    assert all(message.startswith(f"{server.origin}: ") or f"{server.origin} " in message for message in warnings)


def test_every_error_of_a_stream_names_its_origin(face: Face) -> None:
    replies = [stream("data: x\n\nno event\n"), stream("data: " + "x" * 5000 + "\n\n"), stream()]
    with SSEServer(*replies) as server, face.client(policy=ReconnectPolicy(max_retries=0)) as client:
        for settings in ({"reconnect": False}, {"max_event_size": 1000}, {}):
            with face.connect(client, server.url, **settings) as conn, pytest.raises(SSEConnectionError) as caught:
                face.rest(conn)
            assert str(caught.value).startswith(f"{server.origin}: ")


def test_a_stream_through_all_framings(face: Face) -> None:
    for framing in ("chunked", "close", "sized", "none"):
        with (
            SSEServer(stream("data: 1\n\n", "data: 2\n\n", framing=framing)) as server,
            face.client() as client,
            face.connect(client, server.url, reconnect=False) as conn,
        ):
            assert [event.data for event in face.rest(conn)] == ["1", "2"]


def test_an_answer_of_no_body_at_all_is_a_clean_end(face: Face) -> None:
    with (
        SSEServer(stream(framing="sized")) as server,
        face.client() as client,
        face.connect(client, server.url, reconnect=False) as conn,
    ):
        assert face.rest(conn) == []
        assert conn.ready_state is ReadyState.CLOSED


def test_a_server_that_answers_before_it_has_the_body(face: Face) -> None:
    with SSEServer() as server, face.client() as client:
        # A raw server that refuses at once and reads nothing.
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
                face.open(
                    client.connect("http://{}:{}/".format(*listener.getsockname()), "POST", data=b"x" * 10_000_000)
                )
            assert (caught.value.status, caught.value.body) == (413, b"no")
            thread.join()
        assert server.requests == []


def test_requests_of_many_connections_do_not_mix(face: Face) -> None:
    def echo(request: ReceivedRequest) -> Any:
        return stream(f"data: {request.query['n']}\n\n")

    with SSEServer(default=echo) as server, face.client() as client:
        connections = [client.connect(server.url, params={"n": n}, reconnect=False) for n in range(20)]
        for conn in connections:
            face.open(conn)
        assert [face.next(conn).data for conn in connections] == [str(n) for n in range(20)]


def test_ca_certs_of_a_lent_pool_stay_with_it(tls: tuple[ssl.SSLContext, str], tmp_path: Path) -> None:
    assert tmp_path.exists()
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        with SSEClient(urllib3.PoolManager(ca_certs=tls[1])) as trusting, trusting.connect(server.url) as conn:
            next(conn)
        with SSEClient(policy=QUICK) as wary, pytest.raises(SSEConnectionError, match="rejected"):
            wary.connect(server.url).open()
        wait_until(lambda: not [t for t in threading.enumerate() if t.name == "sseclient_dual"])
