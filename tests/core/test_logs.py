"""The name of a connection in messages, log records and threads and tasks; the fields of log records."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import (
    ReconnectPolicy,
    SSEClient,
    SSEClosedError,
    SSEConnectionError,
    SSEParsingError,
    SSEStatusError,
    hub,
)
from sseclient_dual.testing import CUT, HANG, SSEServer, redirect, status, stream
from sseclient_dual.transport import sockets
from support.failures import OopsError
from support.policies import QUICK
from support.streams import ONE, TWO
from support.waiting import wait_until

if TYPE_CHECKING:
    from sseclient_dual.hub import Waits
    from support.apis import Api

FIELDS = "sse_name", "sse_origin", "sse_attempt", "sse_delay", "sse_event_id"


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sseclient_dual")


def records(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    """Return the messages with the fields of their records."""
    return [
        (record.getMessage(), *(getattr(record, field) for field in FIELDS))
        for record in caplog.records
        if record.name == "sseclient_dual"
    ]


# --- the fields ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "prices"])
def test_the_records_of_a_stream(api: Api, caplog: pytest.LogCaptureFixture, name: str | None) -> None:
    with (
        SSEServer(
            stream(":\n\n"),
            status(503),
            status(503, headers={"Retry-After": "0"}),
            stream(ONE, CUT),
            stream(ONE, TWO),
            status(204),
        ) as server,
        api.client(policy=QUICK) as client,
    ):
        conn = client.connect(server.url, name=name)
        assert [event.data for event in api.rest(conn)] == ["one", "two"]
    origin = server.origin
    named, prefix = (origin, origin) if name is None else (name, f"{name}: {origin}")
    busy = f"{prefix} answered with status 503 Service Unavailable, not 200"
    assert records(caplog) == [
        (f"{prefix}: connected", named, origin, 1, None, None),
        (f"{prefix}: the response ended; reconnecting in 0.0 s (attempt 2)", named, origin, 2, 0.01, None),
        (f"{busy}; reconnecting in 0.1 s (attempt 3)", named, origin, 3, 0.1, None),
        (f"{busy}; reconnecting in 0.2 s (attempt 4)", named, origin, 4, 0.2, None),
        (f"{prefix}: connected", named, origin, 4, None, None),
        (f"{prefix}: the response was cut short; reconnecting in 0.0 s (attempt 1)", named, origin, 1, 0.01, "1"),
        (f"{prefix}: connected", named, origin, 1, None, "1"),
        (f"{prefix}: duplicate of an event skipped", named, origin, 1, None, "1"),
        (f"{prefix}: the response ended; reconnecting in 0.0 s (attempt 1)", named, origin, 1, 0.01, "2"),
        (f"{prefix}: the server ended the stream with status 204", named, origin, 1, None, "2"),
    ]


def test_the_record_of_a_restart(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with SSEServer(stream(ONE, HANG), stream(TWO, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, name="prices", last_event_id="0")
        assert api.next(conn).data == "one"
        conn.restart()
        assert api.next(conn).data == "two"
        api.close(conn)
    origin = server.origin
    assert records(caplog) == [
        (f"prices: {origin}: connected", "prices", origin, 1, None, "0"),
        (f"prices: {origin}: reconnecting after restart()", "prices", origin, 1, None, "1"),
        (f"prices: {origin}: connected", "prices", origin, 1, None, "1"),
    ]


def test_a_duplicate_has_its_own_id(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    replies = stream(ONE + TWO, CUT), stream(ONE + TWO + ":a\n" + "id: 3\ndata: three\n\n", HANG)
    with SSEServer(*replies) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url)
        conn.signals()  # a comment is no duplicate
        assert [event.data for event in api.take(conn, 3)] == ["one", "two", "three"]
        wait_until(lambda: caplog.text.count("duplicate") == 2, "the records, which may come after the events")
        api.close(conn)
    assert [record[-1] for record in records(caplog) if "duplicate" in record[0]] == ["1", "2"]


def test_the_origin_after_a_redirect(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with SSEServer(stream(ONE)) as target, SSEServer(redirect(target.url)) as server, api.client() as client:
        conn = client.connect(server.url, reconnect=False, name="prices")
        assert len(api.rest(conn)) == 1
    assert records(caplog) == [(f"prices: {target.origin}: connected", "prices", target.origin, 1, None, None)]


def fail() -> Waits:
    raise OopsError
    yield  # it is a generator


def test_records_about_no_connection_have_the_fields(caplog: pytest.LogCaptureFixture) -> None:
    sockets._log_refused_option("not this time")
    routine = hub.Routine("prices")
    routine.generator = fail()
    assert routine.resume() is None
    refused = "the system refused a TCP keep-alive option, which is left out (not this time)"
    assert records(caplog) == [
        (refused, None, None, None, None, None),
        ("unexpected error", "prices", None, None, None, None),
    ]
    assert "OopsError" in caplog.text


# --- the name -----------------------------------------------------------------------------------------------


def test_the_name_of_a_connection() -> None:
    with SSEClient() as client:
        assert client.connect("http://user:password@example.com:81/a?b").name == "http://example.com:81"
        conn = client.connect("http://example.com", name="prices of Brno 1")
        assert conn.name == "prices of Brno 1"
        with pytest.raises(AttributeError):
            conn.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", [1, b"prices", True])
def test_a_name_must_be_a_str(name: Any) -> None:
    with SSEClient() as client, pytest.raises(TypeError, match=r"^name must be a str, not "):
        client.connect("http://127.0.0.1", name=name)


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "\u2028"])
def test_a_name_must_be_printable(name: str) -> None:
    with SSEClient() as client, pytest.raises(ValueError, match=r"^name must be printable and not empty, not "):
        client.connect("http://127.0.0.1", name=name)


def test_the_name_begins_the_message_of_an_error(api: Api) -> None:
    replies = status(404), stream("<html>\n"), stream(ONE, CUT)
    with SSEServer(*replies) as server, api.client() as client:
        for kind in (SSEStatusError, SSEParsingError, SSEConnectionError):
            with pytest.raises(kind) as caught:
                api.rest(client.connect(server.url, "POST", name="prices"))
            assert str(caught.value).startswith(f"prices: {server.origin}")
            assert caught.value._reworded({}) == str(caught.value)  # the command line's message, too


def test_the_name_begins_the_message_about_a_closed_connection(api: Api) -> None:
    with SSEServer() as server, api.client() as client:
        conn = client.connect(server.url, name="prices")
        api.close(conn)
        for use in (api.recv, api.open):
            with pytest.raises(SSEClosedError, match=r"^prices: the connection is closed; make a new one"):
                use(conn)


def test_the_name_begins_the_message_for_connections_without_progress(api: Api) -> None:
    policy = ReconnectPolicy(retry_delay=10, max_retries=1)
    with SSEServer(default=stream(":\n\n")) as server, api.client(policy=policy) as client:
        with pytest.raises(SSEConnectionError, match=f"^prices: {server.origin}: gave up after 2 connections"):
            api.rest(client.connect(server.url, name="prices"))


@pytest.mark.parametrize("name", [None, "prices"])
def test_a_thread_that_connects_has_the_name(api: Api, name: str | None) -> None:
    names = set()

    def headers() -> dict[str, str]:
        names.add(threading.current_thread().name)
        return {}

    with SSEServer(stream(ONE, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, headers=headers, name=name)
        assert api.next(conn).data == "one"
        assert names == {f"sseclient_dual worker {name or server.origin}"}
        wait_until(
            lambda: not [thread for thread in threading.enumerate() if (name or server.origin) in thread.name],
            "the end of the work",
        )


@pytest.mark.parametrize("name", [None, "prices"])
def test_a_task_that_awaits_a_callable_has_the_name(api: Api, name: str | None) -> None:
    names = set()

    async def headers() -> dict[str, str]:
        task = asyncio.current_task()
        assert task is not None
        names.add(task.get_name())
        return {}

    with SSEServer(stream(ONE, HANG)) as server, api.client() as client:
        with api.connect(client, server.url, headers=headers, name=name):
            assert names == {f"sseclient_dual {name or server.origin}"}
