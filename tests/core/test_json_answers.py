"""JSON in place of a stream, as some APIs answer: if it is accepted, the error has all of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEConnectionError, SSEContentTypeError, SSEStatusError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, redirect, status, stream
from sseclient_dual.transport import exchange
from support.policies import QUICK

if TYPE_CHECKING:
    from support.apis import Api

pytestmark = pytest.mark.usefixtures("both_versions")


VALUE = {"text": "žluť" * 50_000}
TEXT = json.dumps(VALUE)
JSON = {"Content-Type": "application/json"}
HANGING = stream("[", HANG, content_type="application/json")
EITHER = {"Accept": "application/json, text/event-stream"}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/json, text/event-stream", "application/json"),
        ("text/event-stream,APPLICATION/json;q=0.5", "Application/JSON; charset=utf-8"),
        (b"application/problem+json", "application/problem+json"),
    ],
)
def test_an_accepted_answer_is_read_to_its_end(api: Api, accept: str | bytes, media_type: str) -> None:
    reply = status(200, TEXT, {"Content-Type": media_type})
    with SSEServer(reply, redirect("/"), reply) as server, api.client(headers={"Accept": accept}) as client:
        for _ in range(2):
            with pytest.raises(SSEContentTypeError, match="answered with media type") as caught:
                api.open(client.connect(server.url, json={}))
            assert caught.value.content_type == media_type.partition(";")[0].lower()
            assert len(caught.value.body) > exchange.MAX_BODY
            assert caught.value.json() == VALUE


def test_a_compressed_json_answer_is_decoded(api: Api) -> None:
    reply = stream(TEXT, content_type="application/json", encoding="gzip")
    with (
        SSEServer(reply) as server,
        api.client(headers=EITHER) as client,
        pytest.raises(SSEContentTypeError) as caught,
    ):
        api.open(client.connect(server.url))
    assert caught.value.json() == VALUE


def test_a_slow_json_answer_is_awaited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_BODY_TIMEOUT", 0)
    gate = Gate()
    reply = stream(TEXT[:9], gate, TEXT[9:], content_type="application/json")
    with SSEServer(reply) as server, api.client(headers=EITHER) as client:
        conn = client.connect(server.url)
        with pytest.raises(TimeoutError):
            conn.open(0.05)
        gate.open()
        with pytest.raises(SSEContentTypeError) as caught:
            api.open(conn)
    assert caught.value.json() == VALUE


def test_a_json_answer_has_the_maximum_size_of_an_event(api: Api) -> None:
    with (
        SSEServer(stream(TEXT, HANG, content_type="application/json")) as server,
        api.client(headers=EITHER) as client,
    ):
        with pytest.raises(SSEContentTypeError) as caught:
            api.open(client.connect(server.url, max_event_size=1000))
    assert caught.value.body == TEXT[:1000].encode()
    with pytest.raises(ValueError, match="line 1"):
        caught.value.json()


@pytest.mark.parametrize("accept", [None, "text/event-stream, */*", "application/*", "", ","])
def test_another_answer_is_kept_up_to_a_limit(api: Api, accept: str | None) -> None:
    headers = None if accept is None else {"Accept": accept}
    replies = status(200, TEXT, JSON), status(200, TEXT, {"Content-Type": "invalid"}), status(400, TEXT, JSON)
    with SSEServer(*replies) as server, api.client(headers=headers) as client:
        for kind in (SSEContentTypeError, SSEContentTypeError, SSEStatusError):
            with pytest.raises(kind) as caught:
                api.open(client.connect(server.url))
            assert caught.value.body == TEXT.encode()[: exchange.MAX_BODY]


def test_a_refusal_is_no_answer(api: Api) -> None:
    with SSEServer(status(400, TEXT, JSON)) as server, api.client(headers=EITHER) as client:
        with pytest.raises(SSEStatusError) as caught:
            api.open(client.connect(server.url))
        assert caught.value.body == TEXT.encode()[: exchange.MAX_BODY]


def test_a_json_answer_that_breaks_off_is_a_broken_connection(api: Api) -> None:
    broken = stream(TEXT[:9], CUT, content_type="application/json")
    with (
        SSEServer(broken, broken, status(200, TEXT, JSON)) as server,
        api.client(policy=QUICK, headers=EITHER) as client,
    ):
        with pytest.raises(SSEConnectionError, match="the response was cut short") as caught:
            api.open(client.connect(server.url, json={}))
        assert type(caught.value) is SSEConnectionError
        assert len(server.requests) == 1
        with pytest.raises(SSEContentTypeError) as refused:  # a GET is sent again
            api.open(client.connect(server.url))
        assert refused.value.json() == VALUE


def test_a_json_answer_has_the_read_timeout(api: Api) -> None:
    with (
        SSEServer(HANGING) as server,
        api.client(timeout=0.2, headers=EITHER) as client,
    ):
        with pytest.raises(SSEConnectionError, match=r"no data arrived for 0\.2 s"):
            api.open(client.connect(server.url, reconnect=False))


def test_close_ends_the_wait_for_a_json_answer(api: Api) -> None:
    with (
        SSEServer(HANGING) as server,
        api.client(headers=EITHER) as client,
    ):
        conn = client.connect(server.url)
        with pytest.raises(TimeoutError):
            conn.open(0.05)
        server.wait_for_requests(1)
        api.close(conn)
        server.wait_for_connections(0)
