"""The differences to aiosonic that ``docs/coming-from.rst`` lists: what happens here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEConnectionError, SSEParsingError, SSEStatusError
from sseclient_dual.testing import CUT, SSEServer, status, stream
from support.apis import Ended
from support.policies import QUICK

if TYPE_CHECKING:
    from support.apis import Api


def test_code_for_aiosonic_that_works_unchanged(api: Api) -> None:
    body = {"stream": True}
    with SSEServer(stream("event: a\nid: 1\ndata: x\n\n", CUT)) as server, api.client() as client:
        with api.connect(client, server.url, "POST", {"A": "b"}, {"c": "d"}, None, body, retry_delay=10) as conn:
            event = api.next(conn)
            assert (event["data"], event["event"], event["id"], event["retry"]) == ("x", "a", "1", None)
        (request,) = server.requests
    assert (request.method, request.headers["A"], request.query, request.json()) == ("POST", "b", {"c": "d"}, body)


def test_arguments_after_json_by_name_only(api: Api) -> None:
    with api.client() as client, pytest.raises(TypeError, match="positional"):
        client.connect("http://localhost/", "GET", None, None, None, None, True)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def test_data_cannot_be_an_iterator(api: Api) -> None:
    with api.client() as client, pytest.raises(TypeError, match="read it first: the body must be sent again"):
        client.connect("http://localhost/", data=iter([b"x"]))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_events_are_mappings_that_json_does_not_take(api: Api) -> None:
    with SSEServer(stream("data: x\n\n")) as server, api.client() as client, api.connect(client, server.url) as conn:
        event = api.next(conn)
    assert isinstance(event, Mapping)
    with pytest.raises(TypeError):
        json.dumps(event)
    assert json.loads(json.dumps(dict(event))) == {"data": "x", "event": None, "id": None, "retry": None}


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_statuses_that_are_retried_at_the_first_connect(api: Api, code: int) -> None:
    with SSEServer(status(code), stream("data: x\n\n")) as server, api.client(policy=QUICK) as client:
        with api.connect(client, server.url) as conn:
            assert api.next(conn).data == "x"


def test_statuses_that_are_not_retried(api: Api) -> None:
    with SSEServer(stream("data: x\n\n"), status(404)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url)
        assert api.next(conn).data == "x"
        with pytest.raises(SSEStatusError) as caught:
            api.next(conn)
        assert isinstance(caught.value, SSEConnectionError)
        assert len(server.requests) == 2


def test_status_204_is_the_end(api: Api) -> None:
    with SSEServer(status(204)) as server, api.client() as client:
        assert api.rest(client.connect(server.url)) == []


def test_a_malformed_line_is_raised_at_the_second_connection(api: Api) -> None:
    bad = stream("no field\n")
    with SSEServer(bad, stream("data: x\n\n"), bad, bad) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url)
        assert api.next(conn).data == "x"
        with pytest.raises(SSEParsingError):
            api.next(conn)
        assert len(server.requests) == 4


@pytest.mark.parametrize("trust_env", [True, False])
def test_the_proxies_of_the_environment_are_used(
    api: Api, monkeypatch: pytest.MonkeyPatch, *, trust_env: bool
) -> None:
    with SSEServer(default=stream("data: x\n\n")) as server, SSEServer(default=status(403)) as proxy:
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with api.client(trust_env=trust_env) as client:
            conn = client.connect(server.url, reconnect=False)
            if trust_env:
                with pytest.raises(SSEStatusError):
                    api.next(conn)
            else:
                assert api.next(conn).data == "x"


def test_parsing_errors_are_connection_errors() -> None:
    assert issubclass(SSEParsingError, SSEConnectionError)


@pytest.mark.parametrize(
    ("body", "data"),
    [
        ("data:  x \n\n", [" x "]),
        ("data:x\n\n", ["x"]),
        ("data: a\ndata\ndata: b\n\n", ["a\n\nb"]),
        ("event: a\n\n: comment\n\nretry: 200\n\ndata: x\n\n", ["x"]),
        ("data: x\r\n\r\ndata: y\r\r", ["x", "y"]),
        ("data: x\u2028\x0b\x85y\n\n", ["x\u2028\x0b\x85y"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        ("data: x\n\ndata: x\n\nid: 1\ndata: y\n\nid: 1\ndata: z\n\n", ["x", "x", "y", "z"]),
    ],
)
def test_the_stream_follows_the_standard(api: Api, body: str | bytes, data: list[str]) -> None:
    with SSEServer(stream(body)) as server, api.client() as client:
        with api.connect(client, server.url, reconnect=False) as conn:
            assert [event.data for event in api.rest(conn)] == data


@pytest.mark.parametrize("line", ["continued", "data : x", " data: x"])
def test_lines_that_only_tolerant_parsing_ignores(api: Api, line: str) -> None:
    with SSEServer(*[stream(f"data: x\n{line}\n\n")] * 2) as server, api.client() as client:
        strict: Any = client.connect(server.url, reconnect=False)
        with pytest.raises(SSEParsingError):
            api.next(strict)
        with api.connect(client, server.url, reconnect=False, strict=False) as conn:
            assert api.next(conn).data == "x"
            with pytest.raises(Ended):
                api.next(conn)


@pytest.mark.parametrize(("cookies", "sent"), [(None, None), ({}, "node=1")])
def test_cookies_only_on_request(api: Api, cookies: dict[str, str] | None, sent: str | None) -> None:
    first = stream("data: x\n\n", CUT, headers={"Set-Cookie": "node=1"})
    with SSEServer(first) as server, api.client(cookies=cookies, policy=QUICK) as client:
        assert [event.data for event in api.rest(client.connect(server.url))] == ["x"]
        assert server.requests[1].headers.get("Cookie") == sent
