"""HTTP/2: how streams and connections end, and what follows."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import ReadyState, SSEClient, SSEConnectionError
from sseclient_dual.testing import (
    CUT,
    HANG,
    HTTP2,
    RESET,
    Gate,
    SSEServer,
    goaway,
    half_chunk,
    reset_stream,
    stream,
    trailers,
)
from sseclient_dual.transport import http2
from support.forks import held, in_child
from support.http2_peers import Http2Peer
from support.policies import QUICK_NO_DEDUP
from support.processes import run
from support.waiting import AT_ONCE, PATIENCE, silence, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sseclient_dual.testing import Reply, Step
    from support.apis import Api
    from support.http2_peers import Link
    from support.tls import Tls

CANCEL = 0x8
OPEN = stream("data: x\n\n", HANG)
FLOOD = "data: " + "x" * 10_000 + "\n\n"


@pytest.fixture
def server() -> Iterator[SSEServer]:
    with SSEServer(http2=True) as server:
        yield server


@pytest.fixture
def client() -> Iterator[SSEClient]:
    with SSEClient(http2="prior-knowledge", policy=QUICK_NO_DEDUP) as client:
        yield client


def flood() -> Iterator[Step]:
    while True:
        yield FLOOD


# -- closing


def test_close_resets_the_stream_and_leaves_the_others(client: SSEClient, server: SSEServer) -> None:
    gate = Gate()
    server.add(stream("data: a\n\n", gate, "data: b\n\n", HANG), OPEN)
    first, second = client.connect(server.url).open(), client.connect(server.url).open()
    began = time.monotonic()
    second.close()
    assert time.monotonic() - began < AT_ONCE
    (frame,) = server.wait_for_frames("RST_STREAM")
    assert (frame.stream, frame.value) == (3, CANCEL)
    gate.open()
    assert [next(first).data for _ in range(2)] == ["a", "b"]


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        pytest.param(OPEN, ReadyState.OPEN, id="silent"),
        pytest.param(stream(HANG, head_with_body=True), ReadyState.CONNECTING, id="no head"),
        pytest.param(stream(flood), ReadyState.OPEN, id="flood"),
        pytest.param(stream("data: x\n\n", half_chunk("data: y"), HANG), ReadyState.OPEN, id="half a frame"),
    ],
)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_close_ends_a_stream_in_any_state(
    api: Api, tls: Tls, reply: Reply, state: ReadyState, *, encrypted: bool
) -> None:
    context, authority = tls
    with SSEServer(reply, tls=context if encrypted else None, http2=True) as server:
        with api.client(http2="prior-knowledge", verify=authority) as client:
            conn = client.connect(server.url)
            conn._start()
            server.wait_for_requests(1)
            wait_until(lambda: conn.ready_state is state, "the head, unless there is none")
            began = time.monotonic()
            api.close(conn)
            assert time.monotonic() - began < AT_ONCE
        server.wait_for_connections(0)


def test_close_while_connecting(api: Api, tls: Tls) -> None:
    gate = Gate()
    with (
        SSEServer(http2=True, handshake=gate, tls=tls[0]) as server,
        api.client(http2="prior-knowledge", verify=tls[1]) as client,
    ):
        conn = client.connect(server.url)
        conn._start()
        gate.wait_reached()
        api.close(conn)
        gate.open()
        server.wait_for_connections(0)
        assert server.requests == []


def test_close_while_an_encoded_body_is_read(api: Api, server: SSEServer) -> None:
    server.add(stream("data: x\n\n", HANG, encoding="gzip"))
    with api.client(http2="prior-knowledge") as client:
        conn = client.connect(server.url, headers={"Accept-Encoding": "gzip"})
        assert api.next(conn).data == "x"
        began = time.monotonic()
        api.close(conn)
        assert time.monotonic() - began < AT_ONCE
    server.wait_for_connections(0)


def test_restart(api: Api, server: SSEServer) -> None:
    server.add(stream("id: 1\ndata: a\n\n", HANG), stream("id: 2\ndata: b\n\n", HANG))
    with api.client(http2="prior-knowledge") as client, api.connect(client, server.url) as conn:
        assert api.next(conn).data == "a"
        conn.restart()
        assert api.next(conn).data == "b"
    assert server.requests[1].last_event_id == "1"


# -- the end of a stream


def test_trailers_end_a_body(api: Api, server: SSEServer) -> None:
    server.add(stream("data: a\n\n", trailers({"grpc-status": "0"})))
    with api.client(http2="prior-knowledge") as client:
        assert [event.data for event in api.rest(client.connect(server.url, reconnect=False))] == ["a"]


@pytest.mark.parametrize(
    ("ending", "problem"),
    [
        (reset_stream(0x2), "the server reset the stream (INTERNAL_ERROR)"),
        (reset_stream(0x0), "the server reset the stream (NO_ERROR)"),
        (reset_stream(0xF00), "the server reset the stream (error 3840)"),
        (CUT, "the response was cut short"),
        (RESET, "the connection broke (Connection reset by peer)"),
        ([goaway(0xB), CUT], "the server closed the connection (ENHANCE_YOUR_CALM)"),
        ([goaway(0x0), CUT], "the response was cut short"),
    ],
)
def test_an_ending_after_an_event(api: Api, server: SSEServer, ending: Step, problem: str) -> None:
    server.add(stream("data: a\n\n", ending))
    with api.client(http2="prior-knowledge") as client:
        conn = client.connect(server.url, reconnect=False)
        assert api.next(conn).data == "a"
        with pytest.raises(SSEConnectionError) as caught:
            api.next(conn)
    assert str(caught.value).startswith(f"{server.origin}: {problem}")


@pytest.mark.parametrize(
    ("ending", "problem"),
    [
        (reset_stream(0x2), "the server reset the stream (INTERNAL_ERROR)"),
        (CUT, "the server closed the connection without a response"),
        (RESET, "the connection broke (Connection reset by peer)"),
    ],
)
def test_an_ending_before_the_head(api: Api, server: SSEServer, ending: Step, problem: str) -> None:
    server.add(stream(ending, head_with_body=True))
    with api.client(http2="prior-knowledge") as client, pytest.raises(SSEConnectionError) as caught:
        api.open(client.connect(server.url, reconnect=False))
    assert str(caught.value).startswith(f"{server.origin}: {problem}")


@pytest.mark.parametrize("ending", [reset_stream(0x2), CUT, RESET, goaway(last_stream=0), None])
def test_every_ending_is_followed_by_a_reconnect(api: Api, server: SSEServer, ending: Step | None) -> None:
    server.add(stream("id: 1\ndata: a\n\n", *([] if ending is None else [ending, HANG])), stream("data: b\n\n"))
    with api.client(http2="prior-knowledge", policy=QUICK_NO_DEDUP) as client:
        assert [event.data for event in api.rest(client.connect(server.url))] == ["a", "b"]
    assert server.requests[1].last_event_id == "1"


@pytest.mark.parametrize("head", [False, True], ids=["before the head", "after an event"])
def test_a_refused_post_is_sent_again(client: SSEClient, server: SSEServer, *, head: bool) -> None:
    refused = stream(*(["data: a\n\n"] if head else []), reset_stream(0x7), head_with_body=not head)
    server.add(refused, stream("data: b\n\n"))
    conn = client.connect(server.url, data="x")
    assert [next(conn).data for _ in range(2 if head else 1)][-1] == "b"
    assert [request.body for request in server.requests] == [b"x", b"x"]


def test_a_server_that_requires_http1(tls: Tls) -> None:
    context, authority = tls
    required = stream(reset_stream(0xD), head_with_body=True)
    with SSEServer(required, OPEN, tls=context, http2=True) as server:
        with SSEClient(http2=True, verify=authority) as client, client.connect(server.url, data="x") as conn:
            assert (next(conn).data, conn.http_version) == ("x", "1.1")
            assert conn.stats.reconnects == 0
    assert [(request.version, request.body) for request in server.requests] == [("HTTP/2", b"x"), ("HTTP/1.1", b"x")]


def test_a_server_that_requires_http1_by_prior_knowledge(client: SSEClient, server: SSEServer) -> None:
    server.add(stream(reset_stream(0xD), head_with_body=True))
    with pytest.raises(SSEConnectionError, match=r"the server reset the stream \(HTTP_1_1_REQUIRED\)"):
        client.connect(server.url, reconnect=False).open()


@pytest.mark.parametrize("ending", [reset_stream(0x2), CUT])
def test_a_post_that_may_be_processed_is_not_sent_again(client: SSEClient, server: SSEServer, ending: Step) -> None:
    server.add(stream(ending, head_with_body=True))
    with pytest.raises(SSEConnectionError):
        client.connect(server.url, data="x").open()
    assert len(server.requests) == 1


def test_a_redirected_post_that_is_refused_is_not_sent_again(client: SSEClient, server: SSEServer) -> None:
    """The server of the first request has acted on it."""
    server.add(stream(status=307, headers={"Location": "/b"}), stream(reset_stream(0x7), head_with_body=True))
    with pytest.raises(SSEConnectionError, match="REFUSED_STREAM"):
        client.connect(server.url, data="x").open()


def test_the_end_of_a_connection_ends_all_of_its_streams(client: SSEClient, server: SSEServer) -> None:
    gate = Gate()
    server.add(OPEN, stream("data: x\n\n", gate, CUT), OPEN, OPEN)
    conns = [client.connect(server.url).open() for _ in range(2)]
    assert [next(conn).data for conn in conns] == ["x", "x"]
    gate.open()
    assert [next(conn).data for conn in conns] == ["x", "x"]
    assert sorted(request.connection for request in server.requests) == [1, 1, 2, 2]


# -- silence


def test_a_silent_server_answers_a_ping(
    client: SSEClient, server: SSEServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http2, "PING_INTERVAL", 0.05)
    monkeypatch.setattr(http2, "PING_TIMEOUT", 0.1)
    gate = Gate()
    server.add(stream("data: a\n\n", gate, "data: b\n\n", HANG))
    conn = client.connect(server.url).open()
    server.wait_for_frames("PING", 3)
    gate.open()
    assert [next(conn).data for _ in range(2)] == ["a", "b"]


def test_a_dead_connection_is_detected(client: SSEClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "PING_INTERVAL", 0.05)
    monkeypatch.setattr(http2, "PING_TIMEOUT", 0.2)
    with SSEServer(default=OPEN, http2=HTTP2(answer_pings=False)) as server:
        with client.connect(server.url) as conn:
            assert [next(conn).data for _ in range(2)] == ["x", "x"]
        with client.connect(server.url, reconnect=False) as conn:
            assert next(conn).data == "x"
            with pytest.raises(SSEConnectionError, match=r"did not answer a PING within 0\.2 s"):
                next(conn)


def test_the_read_timeout_counts_for_each_stream(client: SSEClient, server: SSEServer) -> None:
    """Neither the answers to pings nor the data of other streams extend it."""

    def ticks() -> Iterator[Step]:
        while True:
            yield "data: tick\n\n"
            yield pause_a_little()

    def pause_a_little() -> Step:
        time.sleep(0.01)
        return b""

    server.add(stream(ticks), OPEN)
    with client.connect(server.url) as busy:
        with client.connect(server.url, timeout=silence(AT_ONCE), reconnect=False) as silent:
            assert next(silent).data == "x"
            with pytest.raises(SSEConnectionError, match=r"no data arrived for 2\.0 s"):
                next(silent)
        assert next(busy).data == "tick"


def test_the_read_timeout_before_the_head(api: Api, server: SSEServer) -> None:
    server.add(stream(HANG, head_with_body=True))
    with api.client(http2="prior-knowledge") as client:
        with pytest.raises(SSEConnectionError, match=r"no data arrived for 0\.1 s"):
            api.open(client.connect(server.url, timeout=silence(0.1), reconnect=False))


def test_the_read_timeout_of_an_encoded_body(server: SSEServer) -> None:
    server.add(stream("data: x\n\n", HANG, encoding="gzip"))
    with SSEClient(http2="prior-knowledge") as client:
        with client.connect(
            server.url, headers={"Accept-Encoding": "gzip"}, timeout=silence(AT_ONCE), reconnect=False
        ) as conn:
            assert next(conn).data == "x"
            with pytest.raises(SSEConnectionError, match=r"no data arrived for 2\.0 s"):
                next(conn)


def test_a_slow_refusal_is_read_for_a_limited_time(server: SSEServer) -> None:
    server.add(stream("be", HANG, status=500))
    with SSEClient(http2="prior-knowledge") as client, pytest.raises(SSEConnectionError) as caught:
        client.connect(server.url, timeout=silence(AT_ONCE), reconnect=False).open()
    assert getattr(caught.value, "body", None) == b"be"


# -- the end of the process, and forks


def test_a_forked_child_closes_its_copy(client: SSEClient, server: SSEServer) -> None:
    gate = Gate()
    server.add(stream("data: a\n\n", gate, "data: b\n\n", HANG), OPEN)
    first, second = (client.connect(server.url).open() for _ in range(2))
    assert next(first).data == "a"
    child = os.fork()
    if not child:
        try:
            first.close()
            second.close()
            client.close()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    gate.open()
    assert next(first).data == "b"


def test_a_forked_child_opens_its_own_connection(client: SSEClient, server: SSEServer) -> None:
    server.add(OPEN, OPEN)
    client.connect(server.url, name="parent").open()
    child = os.fork()
    if not child:
        failed = 1
        try:
            failed = next(client.connect(server.url)).data != "x"
        finally:
            os._exit(failed)
    assert os.waitpid(child, 0)[1] == 0
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_forked_child_does_not_keep_the_connection_open(client: SSEClient) -> None:
    over = threading.Event()

    def script(link: Link) -> None:
        link.begin()
        link.data(link.respond(), b"data: a\n\n")
        link.rest()
        over.set()

    with Http2Peer(script) as peer:
        conn = client.connect(peer.url).open()
        assert next(conn).data == "a"
        child = os.fork()
        while not child:
            signal.pause()
        try:
            conn.close()
            assert over.wait(PATIENCE)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@pytest.mark.parametrize(
    "owner_of", [lambda shared: shared, lambda shared: shared._connections[0]], ids=["of all", "of one"]
)
def test_a_client_that_is_dropped_in_a_child_waits_for_no_lock_of_the_parent(
    server: SSEServer, owner_of: Callable[[Any], Any]
) -> None:
    server.add(stream("data: a\n\n"))
    clients = [SSEClient(http2="prior-knowledge")]
    assert [event.data for event in clients[0].connect(server.url, keep_connection=True, reconnect=False)] == ["a"]
    (shared,) = clients[0]._pools._shared.values()
    thread, release = held(owner_of(shared)._lock)
    try:
        assert in_child(clients.clear) == 0
    finally:
        release.set()
        thread.join()
    clients.clear()
    server.wait_for_connections(0)


def test_a_process_ends_with_open_streams(server: SSEServer) -> None:
    server.add(OPEN, OPEN)
    script = f"""
from sseclient_dual import SSEClient
client = SSEClient(http2="prior-knowledge")
conns = [client.connect({server.url!r}).open() for _ in range(2)]
print(next(conns[0]).data)
"""
    assert run(script).stdout == "x\n"
    wait_until(lambda: not server._connections, "the end of the connection")
