"""`RedisCheckpoint`: a position in a key, which survives lost connections and is always whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import RedisError, ResponseError

from sseclient_dual import Checkpoint
from sseclient_dual.redis import RedisCheckpoint
from sseclient_dual.testing import HANG, SSEServer
from support.forks import held, in_child
from support.processes import HOST
from support.streams import ONE, TWO

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual.waiting import Lock
    from support.apis import Api
    from support.redis_servers import RedisServer


def test_a_consumer_resumes_where_the_last_one_stopped(api: Api, server: RedisServer, stream: str) -> None:
    checkpoint = RedisCheckpoint(server.url, stream)
    assert isinstance(checkpoint, Checkpoint)
    with SSEServer() as upstream, api.client() as client:
        upstream.stream(ONE, TWO, HANG)
        upstream.stream(HANG)
        with api.connect(client, upstream.url, checkpoint=checkpoint) as conn:
            api.take(conn, 2)
        assert checkpoint.load() == "2"
        with api.connect(client, upstream.url, checkpoint=RedisCheckpoint(server.url, stream)):
            assert upstream.wait_for_requests(2)[1].last_event_id == "2"


def test_there_is_no_position_at_first(server: RedisServer, stream: str) -> None:
    assert RedisCheckpoint(server.url, stream).load() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])))
def test_an_id_survives(server: RedisServer, stream: str, last_event_id: str) -> None:
    checkpoint = RedisCheckpoint(server.url, stream)
    checkpoint.save(last_event_id)
    assert checkpoint.load() == last_event_id


@pytest.mark.parametrize("value", [b"a\nb", b"\xff", b"\0"])
def test_a_key_that_holds_something_else_is_an_error(
    server: RedisServer, raw: Any, stream: str, value: bytes
) -> None:
    raw.set(stream, value)
    with pytest.raises(ValueError, match="not an event ID") as caught:
        RedisCheckpoint(server.url, stream).load()
    assert caught.value.__cause__ is None


def test_a_key_of_another_type_is_an_error(server: RedisServer, raw: Any, stream: str) -> None:
    raw.lpush(stream, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        RedisCheckpoint(server.url, stream).load()


def test_an_id_that_no_event_has_is_refused(server: RedisServer, stream: str) -> None:
    checkpoint = RedisCheckpoint(server.url, stream)
    with pytest.raises(ValueError, match="must not contain"):
        checkpoint.save("a\nb")
    assert checkpoint.load() is None


def test_a_lost_connection_is_made_anew(own_server: RedisServer, stream: str) -> None:
    checkpoint = RedisCheckpoint(own_server.url, stream)
    with own_server:
        checkpoint.save("1")
        own_server.kill()
        with pytest.raises(RedisError):
            checkpoint.save("2")
        own_server.start()
        assert checkpoint.load() == "1"
        checkpoint.save("3")
        with own_server.client() as raw:
            raw.client_kill_filter(_type="normal", skipme=True)
        checkpoint.save("4")
        assert checkpoint.load() == "4"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_connection_of_its_own(server: RedisServer, stream: str) -> None:
    checkpoint = RedisCheckpoint(server.url, stream)
    checkpoint.save("1")

    def child() -> None:
        assert checkpoint.load() == "1"
        checkpoint.save("2")

    assert in_child(child) == 0
    assert checkpoint.load() == "2"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    "lock_of",
    [lambda checkpoint: checkpoint._lock, lambda checkpoint: checkpoint._client._lock],
    ids=["own", "client"],
)
def test_a_forked_child_waits_for_no_lock_of_its_parent(
    server: RedisServer, stream: str, lock_of: Callable[[RedisCheckpoint], Lock]
) -> None:
    checkpoint = RedisCheckpoint(server.url, stream)
    checkpoint.save("1")
    thread, release = held(lock_of(checkpoint))
    try:
        assert in_child(lambda: checkpoint.save("2")) == 0
    finally:
        release.set()
        thread.join()
    assert checkpoint.load() == "2"


@pytest.mark.parametrize(
    ("redis", "key", "error", "message"),
    [
        (f"redis://{HOST}", 7, TypeError, "key must be a str"),
        (f"redis://{HOST}", "", ValueError, "key must not be empty"),
        (f"redis://{HOST}/0/key", "key", ValueError, "number of a database"),
        (None, "key", TypeError, "redis must be a URL"),
    ],
)
def test_a_wrong_argument_is_refused(redis: Any, key: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RedisCheckpoint(redis, key)
