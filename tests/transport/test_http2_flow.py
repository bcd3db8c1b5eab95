"""HTTP/2: windows in both directions."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import h2.events
import pytest
from h2.settings import SettingCodes

from sseclient_dual import SSEClient, SSEConnectionError, SSEStatusError
from sseclient_dual.testing import HANG, Gate, SSEServer, stream
from sseclient_dual.transport import multiplexer
from sseclient_dual.transport.streams import WINDOW, WINDOW_STEP
from support.delays import delaying_proxy
from support.http2 import frame
from support.http2_peers import STREAM_HEAD, Http2Peer
from support.waiting import silence, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual.testing import Step
    from sseclient_dual.transport.http2 import HTTP2Connection
    from support.apis import Api
    from support.http2_peers import Link
    from support.tls import Tls

EVENT = "data: " + "x" * 16_000 + "\n\n"
COUNT = 1000  # events, which are more than the windows and the queue


@pytest.fixture
def client() -> Iterator[SSEClient]:
    with SSEClient(http2="prior-knowledge") as client:
        yield client


class Sent:
    """Counts the steps that the server has sent."""

    def __init__(self, count: int = COUNT) -> None:
        self.count = 0
        self._left = count

    def __iter__(self) -> Iterator[Step]:
        while self._left:
            self._left -= 1
            yield EVENT
            self.count += 1


@pytest.mark.parametrize("framing", ["chunked", "sized"])
def test_a_stalled_stream_stops_only_its_own_window(client: SSEClient, framing: str) -> None:
    sent = Sent(COUNT)
    stalled_reply = stream(sent if framing == "chunked" else EVENT * COUNT, framing=framing)  # type: ignore[arg-type]
    with SSEServer(stalled_reply, stream(Sent(), HANG), http2=True) as server:
        stalled = client.connect(server.url, queue_size=1, reconnect=False).open()
        other = client.connect(server.url).open()
        assert {len(next(other).data) for _ in range(COUNT)} == {16_000}
        if framing == "chunked":
            assert sent.count * len(EVENT) <= WINDOW + 2 * len(EVENT)
        assert [len(event.data) for event in stalled] == [16_000] * COUNT


def test_a_full_queue_that_is_emptied_goes_on(api: Api) -> None:
    with SSEServer(stream(Sent()), http2=True) as server, api.client(http2="prior-knowledge") as client:
        with api.connect(client, server.url, queue_size=2, reconnect=False) as conn:
            assert len(api.rest(conn)) == COUNT


def test_windows_are_given_back_in_large_parts(client: SSEClient) -> None:
    with SSEServer(stream(Sent()), http2=True) as server:
        assert sum(1 for _ in client.connect(server.url, reconnect=False)) == COUNT
        updates = [frame for frame in server.frames if frame.kind == "WINDOW_UPDATE"]
    assert len(updates) <= 2 + 2 * COUNT * len(EVENT) // WINDOW_STEP


def test_a_fast_stream_over_tls(tls: Tls) -> None:
    """More is decrypted than one read returns."""
    with SSEServer(stream(EVENT * COUNT), tls=tls[0], http2=True) as server:
        with SSEClient(http2=True, verify=tls[1]) as client:
            assert sum(1 for _ in client.connect(server.url, reconnect=False)) == COUNT


def test_padding_is_given_back(client: SSEClient) -> None:
    def script(link: Link) -> None:
        link.begin()
        number = link.respond()
        for _ in range(COUNT):
            while link.h2.local_flow_control_window(number) < len(EVENT) + 256:
                link.wait_for(h2.events.WindowUpdated)
            link.data(number, EVENT[6:].join(["data: ", ""]).encode()[: len(EVENT)], pad_length=255)
        link.h2.end_stream(number)
        link.flush()
        link.rest()

    with Http2Peer(script) as peer:
        assert sum(1 for _ in client.connect(peer.url, reconnect=False)) == COUNT


def test_small_frames_of_a_body_with_a_length_are_no_flood(client: SSEClient) -> None:
    events = [b"data: %d\n\n" % number for number in range(3000)]

    def script(link: Link) -> None:
        link.begin()
        length = b"%d" % len(b"".join(events))
        number = link.respond([*STREAM_HEAD, (b"content-length", length)])
        for event in events:
            link.h2.send_data(number, event)
        link.h2.end_stream(number)
        link.flush()
        link.rest()

    with Http2Peer(script) as peer:
        assert sum(1 for _ in client.connect(peer.url, reconnect=False)) == len(events)


def test_data_that_is_on_its_way_to_a_closed_stream(client: SSEClient) -> None:
    """Small frames that fill the window: h2 would answer each of them, and they are no flood."""
    gate = Gate()
    frames = (b"".join(frame(0, 0, 3, b"x" * 20) for _ in range(1000)) for _ in range(WINDOW // 40_000))

    def script(link: Link) -> None:
        link.begin()
        first, _ = link.respond(), link.respond()
        link.wait_for(h2.events.StreamReset)
        for part in frames:
            link.sock.sendall(part)
        link.data(first, b"data: after\n\n")
        wait_until(lambda: gate.is_open)
        assert len(link.sock.recv(65536)) < 100
        link.rest()

    with Http2Peer(script) as peer:
        conn = client.connect(peer.url).open()
        client.connect(peer.url).open().close()
        assert next(conn).data == "after"
        gate.open()


def test_frames_that_are_on_their_way_to_closed_streams(client: SSEClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads, empty frames, and data of streams that were reset so long ago that only h2 knows them."""
    monkeypatch.setattr(multiplexer, "_MOST_LATE", 1)

    def script(link: Link) -> None:
        link.begin()
        first, second = link.respond(), link.respond()
        link.wait_for(h2.events.StreamReset)
        third = link.wait_for(h2.events.RequestReceived).stream_id
        assert third is not None
        link.wait_for(h2.events.StreamReset)
        head = link.h2.encoder.encode([(":status", "200")])
        link.sock.sendall(frame(0, 0, second, b"late") + frame(0, 0, third) + frame(1, 4, third, head))
        link.data(first, b"data: after\n\n")
        link.rest()

    with Http2Peer(script) as peer:
        conn = client.connect(peer.url).open()
        client.connect(peer.url).open().close()
        waiting = client.connect(peer.url)
        waiting._start()
        wait_until(lambda: 5 in connections_of(client)[0]._multiplexer.streams)
        waiting.close()
        assert next(conn).data == "after"


def test_a_server_that_ignores_the_reset_of_a_stream(client: SSEClient) -> None:
    def script(link: Link) -> None:
        link.begin()
        link.respond()
        link.respond()
        link.wait_for(h2.events.StreamReset)
        for _ in range(WINDOW // 16_000 + 1):
            link.sock.sendall(frame(0, 0, 3, b"x" * 16_000))
        link.rest()

    with Http2Peer(script) as peer:
        conn = client.connect(peer.url, reconnect=False).open()
        client.connect(peer.url).open().close()
        with pytest.raises(SSEConnectionError, match="the server ignores that a stream was reset"):
            next(conn)


def test_windows_do_not_slow_a_fast_stream_down_at_50_ms_of_delay(client: SSEClient) -> None:
    """With the windows of the protocol's defaults, 64 KiB, it would take 6 seconds."""
    with SSEServer(stream(Sent(500)), http2=True) as server, delaying_proxy(server.port, 0.025) as port:
        began = time.monotonic()
        assert sum(1 for _ in client.connect(f"http://127.0.0.1:{port}/", reconnect=False)) == 500
        assert time.monotonic() - began < 5


# -- requests


def test_a_body_waits_for_windows(client: SSEClient) -> None:
    received = bytearray()

    def script(link: Link) -> None:
        link.begin()
        number = link.wait_for(h2.events.RequestReceived).stream_id
        assert number is not None
        while len(received) < 1_000_000:
            event = link.wait_for(h2.events.DataReceived)
            received.extend(event.data or b"")
            link.h2.acknowledge_received_data(event.flow_controlled_length or 0, number)
            link.flush()
        link.h2.send_headers(number, [(b":status", b"204")], end_stream=True)
        link.flush()
        link.rest()

    body = bytes(range(250)) * 4000
    with Http2Peer(script) as peer:
        assert list(client.connect(peer.url, data=body)) == []
    assert received == body


def test_windows_for_each_part_of_a_body_are_no_flood(client: SSEClient) -> None:
    size = 12_000_000

    def script(link: Link) -> None:
        link.begin()
        left = size
        while left:
            event = link.wait_for(h2.events.DataReceived)
            assert event.stream_id is not None
            left -= len(event.data or b"")
            for number in (None, event.stream_id):
                link.h2.increment_flow_control_window(event.flow_controlled_length or 0, number)
        link.h2.send_headers(event.stream_id, [(b":status", b"204")], end_stream=True)
        link.flush()
        link.rest()

    with Http2Peer(script) as peer:
        assert list(client.connect(peer.url, data=bytes(size))) == []


def test_a_window_that_never_opens(client: SSEClient) -> None:
    def script(link: Link) -> None:
        link.begin()
        link.wait_for(h2.events.StreamReset)

    with Http2Peer(script) as peer:
        with pytest.raises(SSEConnectionError, match=r"no data arrived for 0\.2 s"):
            client.connect(peer.url, data=b"x" * 100_000, timeout=silence(0.2)).open()


def test_the_wait_for_a_window_can_be_closed(api: Api) -> None:
    begun, over = threading.Event(), threading.Event()

    def script(link: Link) -> None:
        link.begin()
        link.wait_for(h2.events.DataReceived)
        begun.set()
        link.wait_for(h2.events.StreamReset)
        over.set()

    with Http2Peer(script) as peer, api.client(http2="prior-knowledge") as client:
        conn = client.connect(peer.url, data=b"x" * 100_000)
        conn._start()
        assert begun.wait(10)
        api.close(conn)
        assert over.wait(10)


def test_an_early_response_ends_the_request(client: SSEClient) -> None:
    """The server does not read the body to its end."""

    def script(link: Link) -> None:
        link.begin()
        number = link.wait_for(h2.events.RequestReceived).stream_id
        assert number is not None
        link.h2.send_headers(number, [(b":status", b"413")], end_stream=True)
        link.flush()
        assert link.wait_for(h2.events.StreamReset).error_code == 8

    with Http2Peer(script) as peer, pytest.raises(SSEStatusError, match="413"):
        client.connect(peer.url, data=b"x" * 100_000).open()


def test_a_server_that_reads_slowly(client: SSEClient) -> None:
    """The socket takes less than there is to send."""
    gate = Gate()

    def script(link: Link) -> None:
        link.begin()
        link.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 16_000_000})
        number = link.wait_for(h2.events.RequestReceived).stream_id
        assert number is not None
        link.h2.increment_flow_control_window(16_000_000)
        link.flush()
        wait_until(lambda: gate.is_open)
        link.wait_for(h2.events.StreamEnded)
        link.h2.send_headers(number, [(b":status", b"204")], end_stream=True)
        link.flush()
        link.rest()

    with Http2Peer(script) as peer:
        conn = client.connect(peer.url, data=b"x" * 15_000_000)
        conn._start()
        wait_until(lambda: [connection for connection in connections_of(client) if connection._has_more])
        (connection,) = connections_of(client)

        sizes: list[int] = []

        def is_full() -> bool:
            connection._routine.wake()  # as a request does: then it sends, although the socket is not ready
            sizes.append(len(connection._multiplexer.outgoing))
            return len(sizes) > 20 and min(sizes[-5:]) >= 64 * 1024

        wait_until(is_full, "a socket that takes nothing")
        gate.open()
        assert list(conn) == []


def connections_of(client: SSEClient) -> list[HTTP2Connection]:
    return [connection for shared in client._pools._shared.values() for connection in shared._connections]
