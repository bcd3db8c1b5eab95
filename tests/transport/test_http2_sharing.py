"""HTTP/2: which streams share a connection, and for how long it stays open."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from urllib3 import Timeout

from sseclient_dual import SSEClient, SSEConnection, SSEConnectionError, hub
from sseclient_dual.hub import Hub, Routine, Wait
from sseclient_dual.testing import CUT, HANG, HTTP2, Gate, SSEServer, goaway, redirect, stream, wire
from sseclient_dual.transport import multiplexer
from sseclient_dual.transport.multiplexer import Multiplexer
from support.http2 import frame
from support.policies import QUICK
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sseclient_dual.hub import Waits
    from sseclient_dual.testing import Step
    from support.processes import Process
    from support.tls import Tls

OPEN = stream("data: x\n\n", HANG)


@pytest.fixture
def server() -> Iterator[SSEServer]:
    with SSEServer(http2=True, default=OPEN) as server:
        yield server


@pytest.fixture
def client() -> Iterator[SSEClient]:
    with SSEClient(http2="prior-knowledge", trust_env=False, policy=QUICK) as client:
        yield client


def open_all(conns: Iterable[SSEConnection]) -> list[SSEConnection]:
    """Open connections, all at the same time."""
    conns = list(conns)
    with ThreadPoolExecutor(len(conns)) as pool:
        return list(pool.map(SSEConnection.open, conns))


def connections(server: SSEServer) -> set[int]:
    """Return the serial numbers of the connections that had a request."""
    return {request.connection for request in server.requests}


def test_streams_share_a_connection(client: SSEClient, server: SSEServer) -> None:
    conns = [client.connect(server.url).open() for _ in range(3)]
    assert [next(conn).data for conn in conns] == ["x"] * 3
    assert connections(server) == {1}
    assert [request.stream for request in server.requests] == [1, 3, 5]


def test_concurrent_streams_wait_for_the_first_connection(client: SSEClient) -> None:
    gate = Gate()
    with SSEServer(http2=True, default=OPEN, handshake=gate) as server:
        conns = [client.connect(server.url) for _ in range(20)]
        for conn in conns:
            conn._start()
        gate.wait_reached()
        gate.open()
        assert [next(conn).data for conn in conns] == ["x"] * 20
        assert connections(server) == {1}


def test_the_limit_of_the_server(client: SSEClient) -> None:
    with SSEServer(http2=HTTP2(max_concurrent_streams=2), default=OPEN) as server:
        open_all(client.connect(server.url) for _ in range(5))
        assert sorted(request.connection for request in server.requests) == [1, 1, 2, 2, 3]


def test_a_place_is_taken_again(client: SSEClient) -> None:
    with SSEServer(http2=HTTP2(max_concurrent_streams=2), default=OPEN) as server:
        first, _ = open_all(client.connect(server.url) for _ in range(2))
        first.close()
        server.wait_for_frames("RST_STREAM")
        assert next(client.connect(server.url)).data == "x"
        assert connections(server) == {1}


def test_the_last_stream_closes_the_connection(client: SSEClient, server: SSEServer) -> None:
    first, second = open_all(client.connect(server.url) for _ in range(2))
    first.close()
    server.wait_for_frames("RST_STREAM")
    server.wait_for_connections(1)
    assert not [frame for frame in server.frames if frame.kind == "GOAWAY"]
    second.close()
    server.wait_for_connections(0)
    (frame,) = server.wait_for_frames("GOAWAY")
    assert frame.value == 0


def test_the_end_of_the_last_response_closes_the_connection(client: SSEClient, server: SSEServer) -> None:
    server.add(stream("data: only\n\n"))
    with client.connect(server.url, reconnect=False) as conn:
        assert [event.data for event in conn] == ["only"]
    server.wait_for_connections(0)


def test_a_kept_connection_serves_the_next_request(server: SSEServer) -> None:
    server.add(stream("data: a\n\n"), stream("data: b\n\n"))
    with SSEClient(http2="prior-knowledge", policy=QUICK) as client:
        conn = client.connect(server.url, keep_connection=True)
        assert [next(conn).data for _ in range(3)] == ["a", "b", "x"]
        assert connections(server) == {1}
        conn.close()
        server.wait_for_frames("RST_STREAM")
        server.wait_for_connections(1)
    server.wait_for_connections(0)


def test_a_dropped_client_closes_its_kept_connections(server: SSEServer) -> None:
    server.add(stream("data: a\n\n"))
    client = SSEClient(http2="prior-knowledge")
    assert [event.data for event in client.connect(server.url, keep_connection=True, reconnect=False)] == ["a"]
    server.wait_for_connections(1)
    del client
    server.wait_for_connections(0)


def test_a_closed_client_keeps_no_connection(server: SSEServer) -> None:
    with SSEClient(http2="prior-knowledge") as client:
        client.connect(server.url, keep_connection=True).open()
    server.wait_for_connections(0)


def test_other_tls_settings_need_another_connection(tls: Tls) -> None:
    context, authority = tls
    with SSEServer(tls=context, http2=True, default=OPEN) as server:
        with SSEClient(http2=True, verify=authority) as client:
            open_all([client.connect(server.url), client.connect(server.url, verify=authority)])
        assert connections(server) == {1, 2}


def test_negotiated_streams_share_a_connection(tls: Tls) -> None:
    context, authority = tls
    with SSEServer(tls=context, http2=True, default=OPEN) as server:
        with SSEClient(http2=True, verify=authority) as client:
            open_all(client.connect(server.url) for _ in range(10))
            assert connections(server) == {1}


def test_streams_over_http1_do_not_wait_for_each_other(tls: Tls) -> None:
    context, authority = tls
    gate = Gate()
    silent = stream(gate, "data: x\n\n", HANG, head_with_body=True)
    with SSEServer(tls=context, http2=HTTP2(alpn=("http/1.1",)), default=silent) as server:
        with SSEClient(http2=True, verify=authority) as client:
            conns = [client.connect(server.url) for _ in range(5)]
            for conn in conns:
                conn._start()
            assert len({request.connection for request in server.wait_for_requests(5)}) == 5
            gate.open()
            assert [next(conn).data for conn in conns] == ["x"] * 5


def test_a_server_that_learns_http2(tls: Tls) -> None:
    context, authority = tls
    with SSEClient(http2=True, verify=authority, policy=QUICK) as client:
        with SSEServer(tls=context, default=OPEN) as server:
            first = client.connect(server.url).open()
            assert first.http_version == "1.1"
        with SSEServer(tls=context, http2=True, default=OPEN, port=server.port) as server:
            second = client.connect(server.url).open()
            server.wait_for_requests(2)  # the other one reconnects
            wait_until(lambda: first.http_version == "2", "a response to the first stream")
            assert second.http_version == "2"


def test_waiting_streams_share_the_error(tls: Tls) -> None:
    gate = Gate()
    with SSEServer(tls=tls[0], http2=True, handshake=gate) as server, SSEClient(http2=True, verify=tls[1]) as client:
        first, *others = (client.connect(server.url, reconnect=False) for _ in range(5))
        first._start()
        gate.wait_reached()
        for conn in others:
            conn._start()
        wait_until(lambda: waiters(client) == len(others), "the waiting streams")
        server.refuse(drop=True)  # other attempts would be refused
        for conn in (first, *others):
            with pytest.raises(SSEConnectionError, match="TLS failed"):
                conn.open()


def test_a_closed_stream_hands_the_wait_on(client: SSEClient) -> None:
    """The stream that connects is closed; those that wait for it connect themselves."""
    gate = Gate()
    with SSEServer(http2=True, default=OPEN, handshake=gate) as server:
        first, second, third = (client.connect(server.url) for _ in range(3))
        first._start()
        gate.wait_reached()
        second._start()
        third._start()
        wait_until(lambda: waiters(client) == 2, "two waiting streams")
        second.close()
        assert second._reader.finished.wait(1)
        first.close()
        gate.open()
        assert next(third).data == "x"


def waiters(client: SSEClient) -> int:
    """Return how many streams wait for one that connects."""
    (shared,) = client._pools._shared.values()
    connecting = shared._connecting
    return 0 if connecting is None else len(connecting._settled._waiters)


def test_a_stream_waits_for_another_one_as_long_as_it_would_connect(client: SSEClient) -> None:
    gate = Gate()
    with SSEServer(http2=True, default=OPEN, handshake=gate) as server:
        first = client.connect(server.url)
        first._start()
        gate.wait_reached()
        second = client.connect(server.url, timeout=0.1, reconnect=False)
        with pytest.raises(SSEConnectionError, match=r"no data arrived for 0\.1 s"):  # it connected itself
            second.open()
        gate.open()
        assert next(first).data == "x"


def test_a_stream_does_not_share_the_timeout_of_one_that_waits_for_less_time(tls: Tls) -> None:
    gate = Gate()
    with SSEServer(tls=tls[0], http2=True, default=OPEN, handshake=gate) as server:
        with SSEClient(http2=True, verify=tls[1]) as client:
            hasty, patient = (
                client.connect(server.url, timeout=Timeout(connect=seconds, read=None), reconnect=False)
                for seconds in (0.2, PATIENCE)
            )
            hasty._start()
            gate.wait_reached()
            patient._start()
            with pytest.raises(SSEConnectionError, match=r"could not connect within 0\.2 s"):
                hasty.open()
            gate.open()
            assert next(patient).data == "x"


def test_an_unprocessed_request_is_sent_again_at_once(client: SSEClient, server: SSEServer) -> None:
    """The server announces the end of the connection while another request is on its way."""
    gate = Gate()
    server.add(stream("data: a\n\n", gate, goaway(last_stream=1), HANG), stream(HANG, head_with_body=True))
    first = client.connect(server.url).open()
    second = client.connect(server.url, "POST", data="paid twice")
    second._start()
    server.wait_for_requests(2)
    gate.open()
    assert next(second).data == "x"
    assert [(request.connection, request.stream) for request in server.requests] == [(1, 1), (1, 3), (2, 1)]
    assert next(first).data == "a"
    assert second._reader.reconnects == 0


def test_a_connection_that_ends_serves_its_streams(client: SSEClient, server: SSEServer) -> None:
    gate = Gate()
    server.add(stream("data: a\n\n", goaway(), gate, "data: b\n\n", HANG))
    first = client.connect(server.url).open()
    assert next(first).data == "a"
    wait_until(lambda: not shared_connections(client), "the end of the connection for others")
    assert next(client.connect(server.url)).data == "x"
    assert connections(server) == {1, 2}
    gate.open()
    assert next(first).data == "b"


def shared_connections(client: SSEClient) -> list[Any]:
    (shared,) = client._pools._shared.values()
    return shared._connections


def test_a_redirect_uses_the_connection_of_other_streams(client: SSEClient, server: SSEServer) -> None:
    with client.connect(server.url):
        server.add(redirect("/elsewhere"))
        assert next(client.connect(server.url)).data == "x"
    assert connections(server) == {1}


# -- what happens between a request and the moment when it is sent


@contextmanager
def blocked_hub() -> Iterator[None]:
    """Keep the hub busy, so that requests wait for it."""
    blocked, unblock = threading.Event(), threading.Event()

    def block() -> Waits:
        yield Wait(0)
        blocked.set()
        unblock.wait(PATIENCE)

    hub.current().start(Routine(), block)
    assert blocked.wait(PATIENCE)
    try:
        yield
    finally:
        unblock.set()


def waiting_request(client: SSEClient, server: SSEServer, **options: Any) -> SSEConnection:
    """Return a second stream, which has a place on the connection, and waits for the hub."""
    second = client.connect(server.url, **options)
    second._start()
    wait_until(lambda: len(shared_connections(client)[0]._places) == 2, "a request")
    return second


def test_a_request_that_is_closed_before_it_is_sent(client: SSEClient, server: SSEServer) -> None:
    gate = Gate()
    server.add(stream("data: a\n\n", gate, "data: b\n\n", HANG))
    first = client.connect(server.url).open()
    with blocked_hub():
        second = waiting_request(client, server)
        second.close()
        assert second._reader.finished.wait(PATIENCE)
    gate.open()
    assert [next(first).data for _ in range(2)] == ["a", "b"]
    assert len(server.requests) == 1


@pytest.mark.parametrize("ending", [goaway(), CUT], ids=["goaway", "cut"])
def test_a_connection_that_ends_before_a_request_is_sent(client: SSEClient, server: SSEServer, ending: Step) -> None:
    gate, after = Gate(), Gate()
    server.add(stream("data: a\n\n", gate, ending, after, HANG))
    first = client.connect(server.url).open()
    assert next(first).data == "a"
    with blocked_hub():
        second = waiting_request(client, server, data="x")
        gate.open()
        if ending is CUT:
            server.wait_for_connections(0)
        else:
            after.wait_reached()
    assert next(second).data == "x"
    assert second._reader.reconnects == 0


def test_a_server_that_lowers_its_limit_before_a_request_is_sent(client: SSEClient, server: SSEServer) -> None:
    gate, after = Gate(), Gate()
    settings = wire(frame(4, payload=b"\0\3\0\0\0\1"))  # MAX_CONCURRENT_STREAMS is 1
    server.add(stream("data: a\n\n", gate, settings, after, HANG))
    first = client.connect(server.url).open()
    with blocked_hub():
        second = waiting_request(client, server)
        gate.open()
        after.wait_reached()
    assert next(second).data == "x"
    assert next(first).data == "a"
    assert connections(server) == {1, 2}


def test_a_connection_that_is_about_to_close_takes_no_request(client: SSEClient, server: SSEServer) -> None:
    first = client.connect(server.url).open()
    assert next(first).data == "x"
    with blocked_hub():
        first.close()
        second = client.connect(server.url)
        second._start()
        wait_until(lambda: len(shared_connections(client)) == 2, "another connection")
    assert next(second).data == "x"
    assert connections(server) == {1, 2}


def test_a_request_that_is_sent_again_uses_another_connection(
    client: SSEClient, server: SSEServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request learns that it was not processed before the connection has taken all that the server sent."""
    take_goaway = Multiplexer._take_goaway

    def take_goaway_slowly(self: Multiplexer, last_stream: int, code: int) -> None:
        take_goaway(self, last_stream, code)
        for unprocessed in self.changed:
            unprocessed.consumer.wake()
        wait_until(lambda: len(shared_connections(client)) == 2, "another connection")

    monkeypatch.setattr(Multiplexer, "_take_goaway", take_goaway_slowly)
    gate = Gate()
    server.add(stream("data: a\n\n", gate, goaway(last_stream=1), HANG), stream(HANG, head_with_body=True))
    first = client.connect(server.url).open()
    second = client.connect(server.url, reconnect=False)
    second._start()
    server.wait_for_requests(2)
    gate.open()
    assert next(second).data == "x"
    assert next(first).data == "a"


def test_an_error_of_the_connection_reaches_the_request_that_it_was_about_to_send(
    client: SSEClient, server: SSEServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(field: tuple[bytes, bytes]) -> None:
        raise MemoryError

    first = client.connect(server.url, reconnect=False).open()
    assert next(first).data == "x"
    monkeypatch.setattr(multiplexer, "_as_secret", fail)
    with pytest.raises(SSEConnectionError, match="the connection ended before the request was sent"):
        client.connect(server.url, reconnect=False).open(PATIENCE)
    with pytest.raises(SSEConnectionError, match="MemoryError"):
        next(first)


def test_no_thread_is_left_for_a_connection(
    client: SSEClient, server: SSEServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Hub.start

    def fail(self: Hub, routine: Routine, make: Callable[[], Waits]) -> None:
        if routine.name == "HTTP/2":
            raise RuntimeError("can't start new thread")
        start(self, routine, make)

    monkeypatch.setattr(Hub, "start", fail)
    with pytest.raises(SSEConnectionError, match="the connection ended before the request was sent"):
        client.connect(server.url, reconnect=False).open()


# -- proxies


def test_streams_share_the_tunnel_of_a_proxy(tls: Tls, proxy: tuple[str, Process], both_authorities: str) -> None:
    url, _ = proxy
    with SSEServer(tls=tls[0], http2=True, default=OPEN) as server:
        with SSEClient(http2=True, proxy=url, verify=both_authorities) as client:
            versions = {conn.http_version for conn in open_all(client.connect(server.url) for _ in range(3))}
        if url.startswith("https:"):
            assert versions == {"1.1"}
        else:
            assert (versions, connections(server)) == ({"2"}, {1})


def test_prior_knowledge_through_a_socks_proxy(server: SSEServer, microsocks: Process) -> None:
    with SSEClient(http2="prior-knowledge", proxy=f"socks5h://127.0.0.1:{microsocks.port}") as client:
        with client.connect(server.url) as conn:
            assert (next(conn).data, conn.http_version) == ("x", "2")


@pytest.mark.parametrize(("proxy_url", "url"), [("http://a/", "http://b/"), ("https://a/", "https://b/")])
def test_prior_knowledge_through_a_proxy_that_does_not_allow_it(proxy_url: str, url: str) -> None:
    with SSEClient(http2="prior-knowledge", proxy=proxy_url) as client:
        with pytest.raises(SSEConnectionError, match="HTTP/2 is not possible through the proxy") as caught:
            client.connect(url).open()
    assert caught.value.final
