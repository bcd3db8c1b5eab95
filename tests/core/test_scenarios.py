"""Numbered scenarios of real-world problems, each over a real socket and with both APIs."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import ReconnectPolicy, SSEContentTypeError, SSEEvent, SSEStatusError
from sseclient_dual.testing import (
    CUT,
    HANG,
    Gate,
    ReceivedRequest,
    Reply,
    SSEServer,
    half_chunk,
    pause,
    redirect,
    status,
    stream,
)
from support.apis import Ended
from support.policies import QUICK

if TYPE_CHECKING:
    from support.apis import Api

pytestmark = pytest.mark.usefixtures("both_versions")


SOON = 5.0  # seconds, for a busy machine; in these tests an event arrives immediately or never


@pytest.mark.parametrize("framing", ["close", "none", "chunked"])
def test_1_one_event_before_silence_is_delivered_immediately(api: Api, framing: str) -> None:
    with (
        SSEServer(stream("data: alone\n\n", HANG, framing=framing)) as server,  # type: ignore[arg-type]
        api.client() as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.recv(conn, SOON).data == "alone"


def test_2_an_event_in_a_partial_chunk_is_delivered_immediately(api: Api) -> None:
    with (
        SSEServer(stream(half_chunk("data: x\n\n", 0x400), HANG)) as server,
        api.client() as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.recv(conn, SOON).data == "x"


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_3_compressed_events_are_delivered_when_flushed(api: Api, framing: str, encoding: str) -> None:
    gates = [Gate(), Gate()]
    reply = stream(
        "data: one\n\n", gates[0], "data: two\n\n", gates[1], "data: three\n\n",
        framing=framing, encoding=encoding,  # type: ignore[arg-type]
    )  # fmt: skip
    with (
        SSEServer(reply) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.recv(conn, SOON).data == "one"
        gates[0].open()
        assert api.recv(conn, SOON).data == "two"
        gates[1].open()
        assert api.recv(conn, SOON).data == "three"
        with pytest.raises(Ended):
            api.next(conn)


def test_3_a_gzip_header_cut_in_two(api: Api) -> None:
    import gzip  # noqa: PLC0415 - used by this test only

    body = gzip.compress(b"data: one\n\n")
    gate = Gate()
    reply = stream(body[:5], gate, body[5:], HANG, headers={"Content-Encoding": "gzip"})
    with SSEServer(reply) as server, api.client() as client, api.connect(client, server.url) as conn:
        with pytest.raises(TimeoutError):
            api.recv(conn, 0.05)
        gate.open()
        assert api.recv(conn, SOON).data == "one"


def test_4_invalid_utf8_becomes_replacement_characters_and_the_stream_continues(api: Api) -> None:
    with (
        SSEServer(stream(b"data: a\xff\xc3(b\n\ndata: c\n\n", HANG)) as server,
        api.client() as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.data for event in api.take(conn, 2)] == ["a\ufffd\ufffd(b", "c"]


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_5_a_partial_event_is_discarded_and_never_merged(api: Api, framing: str) -> None:
    with (
        SSEServer(
            stream("data: whole\n\ndata: ha", CUT, framing=framing),  # type: ignore[arg-type]
            stream("lf\n\ndata: next\n\n", HANG),
        ) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url, strict=False) as conn,
    ):
        assert [event.data for event in api.take(conn, 2)] == ["whole", "next"]


def test_6_comments_keep_a_connection_alive(api: Api) -> None:
    idle = 0.5
    pings = [step for _ in range(8) for step in (": ping\n\n", pause(idle / 4))]
    with (
        SSEServer(stream(*pings, "data: there\n\n", HANG)) as server,
        api.client(timeout=idle, policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "there"
        assert len(server.requests) == 1


def test_6_silence_is_a_drop(api: Api) -> None:
    with (
        SSEServer(stream("data: one\n\n", HANG), stream("data: two\n\n", HANG)) as server,
        api.client(timeout=1, policy=QUICK) as client,  # a busy machine is slow to read the head
        api.connect(client, server.url) as conn,
    ):
        assert [event.data for event in api.take(conn, 2)] == ["one", "two"]


def test_7_an_id_without_data_sets_the_last_event_id_and_an_empty_id_resets_it(api: Api) -> None:
    with (
        SSEServer(stream("id: 7\n\n", CUT), stream("id\n\n", CUT), stream("id: 8\n\n")) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.rest(conn) == []
        assert [request.last_event_id for request in server.requests] == [None, "7", None, "8"]


def test_8_no_content_ends_the_stream(api: Api) -> None:
    with SSEServer() as server, api.client() as client, api.connect(client, server.url) as conn:
        assert conn.status == 204
        assert api.rest(conn) == []
        assert len(server.requests) == 1


def test_8_a_media_type_error_has_the_body(api: Api) -> None:
    with (
        SSEServer(status(200, {"error": "quota"})) as server,
        api.client() as client,
        pytest.raises(SSEContentTypeError) as caught,
        api.connect(client, server.url),
    ):
        pass
    assert caught.value.body == b'{"error": "quota"}'
    assert caught.value.json() == {"error": "quota"}
    assert (caught.value.status, caught.value.url) == (200, server.url)
    assert caught.value.headers["content-type"] == "application/json"


def test_8_a_status_error_has_the_json_body(api: Api) -> None:
    with (
        SSEServer(status(401, {"error": "no key"})) as server,
        api.client() as client,
        pytest.raises(SSEStatusError) as caught,
        api.connect(client, server.url),
    ):
        pass
    assert caught.value.json() == {"error": "no key"}
    assert (caught.value.status, caught.value.reason) == (401, "Unauthorized")
    assert len(server.requests) == 1


@pytest.mark.parametrize("media_type", ["Text/Event-Stream; charset=x", "text/event-stream;charset=utf-8"])
def test_9_parameters_and_case_of_the_media_type_are_ignored(api: Api, media_type: str) -> None:
    with (
        SSEServer(stream("data: x\n\n", HANG, content_type=media_type)) as server,
        api.client() as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "x"


@pytest.mark.parametrize("media_type", ["text/event-streamx", "text/plain", "application/x-ndjson"])
def test_9_a_wrong_media_type_raises_an_error(api: Api, media_type: str) -> None:
    with (
        SSEServer(stream("data: x\n\n", content_type=media_type)) as server,
        api.client() as client,
        pytest.raises(SSEContentTypeError, match=media_type),
        api.connect(client, server.url),
    ):
        pass


# Scenario 10, closing in every state, is in stress/test_closing.py.


def test_11_equal_events_on_one_connection_are_all_delivered(api: Api) -> None:
    tick = "data: tick\n\n"
    with (
        SSEServer(stream(tick, tick, "id: 1\n" + tick, "id: 1\n" + tick)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["tick"] * 4


def test_11_an_event_replayed_after_a_reconnect_is_delivered_once(api: Api) -> None:
    events = [f"id: {number}\ndata: {number}\n\n" for number in range(6)]
    with (
        SSEServer(stream(*events[:4], CUT), stream(*events[1:])) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.id for event in api.rest(conn)] == list("012345")
        assert conn.stats.duplicates == 3


def test_12_no_credential_is_sent_to_another_origin(api: Api) -> None:
    secrets = {"Authorization": "Bearer s", "Cookie": "a=s", "X-Api-Key": "s", "X-Other": "s"}
    with (
        SSEServer(stream("data: x\n\n", HANG)) as target,
        SSEServer(redirect(target.url)) as server,
        api.client(headers=secrets) as client,
        api.connect(client, server.url, last_event_id="5", headers={"Accept-Language": "de"}) as conn,
    ):
        assert api.next(conn).origin == target.origin
        (first,) = server.requests
        (second,) = target.requests
        assert all(first.headers[name] == value for name, value in secrets.items())
        assert not any(name in second.headers for name in secrets)
        assert second.last_event_id == "5"
        assert second.headers["accept-language"] == "de"
        assert second.headers["accept"] == "text/event-stream"
        assert second.headers["cache-control"] == "no-cache"


def test_13_a_hundred_drops_at_random_bytes_cause_no_loss_and_no_duplicates(api: Api) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201 - to reproduce a failure
    rng = random.Random(seed)
    count = 400
    drops = 0

    def events_after(last: int) -> bytes:
        events = (SSEEvent(f"payload {n} …☃\nline two", "tick", f"é{n}") for n in range(last + 1, count))
        return b"".join(event.encode() for event in events)

    def answer(request: ReceivedRequest) -> Reply:
        nonlocal drops
        last = -1 if request.last_event_id is None else int(request.last_event_id.removeprefix("é"))
        if last == count - 1:
            return status(204)
        body = events_after(last)
        if drops == 100:
            return stream(body)
        drops += 1
        cut = min(rng.randrange(300), len(body))
        middle = rng.randint(0, cut)
        return stream(body[:middle], body[middle:cut], CUT)

    policy = ReconnectPolicy(retry_delay=0, min_retry_delay=0, max_retry_delay=10, jitter=0)
    with (
        SSEServer(default=answer) as server,
        api.client(policy=policy) as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.id for event in api.rest(conn)] == [f"é{number}" for number in range(count)]
        assert drops == 100


def test_31_an_idle_connection_causes_no_wake_ups() -> None:
    """A silent stream wakes neither the reader nor the consumer."""
    import resource  # noqa: PLC0415 - not on Windows
    import threading  # noqa: PLC0415

    from sseclient_dual import SSEClient  # noqa: PLC0415

    def switches_in_a_second() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        time.sleep(1.0)
        return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before

    gate = Gate()
    with SSEServer(stream("data: x\n\n", gate, "data: y\n\n", HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url)
        assert next(conn).data == "x"
        received: list[SSEEvent] = []
        consumer = threading.Thread(target=lambda: received.append(next(conn)))
        consumer.start()
        gate.wait_reached()
        # The sleep of this thread, and some noise; on a busy machine, other threads become idle later.
        assert any(switches_in_a_second() <= 5 for _ in range(5))
        gate.open()
        consumer.join()
        assert [event.data for event in received] == ["y"]
        conn.close()
