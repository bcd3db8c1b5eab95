"""Redirects: method, body, and the headers that cross origins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEStatusError
from sseclient_dual.testing import HANG, SSEServer, redirect, stream
from support.policies import QUICK

if TYPE_CHECKING:
    from support.apis import Api


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(api: Api, code: int) -> None:
    with (
        SSEServer(redirect("/there?x=1#part", code), stream("data: x\n\n", HANG)) as server,
        api.client() as client,
        api.connect(client, server.url + "here", headers={"X-Api-Key": "k"}) as conn,
    ):
        assert api.next(conn).origin == server.origin
        assert [request.target for request in server.requests] == ["/here", "/there?x=1"]
        assert server.requests[1].headers["X-Api-Key"] == "k"  # the same origin gets all headers
        assert conn.response_url == server.origin + "/there?x=1"
        assert conn.url == server.url + "here"


@pytest.mark.parametrize(
    ("code", "method", "next_method"),
    [(301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (303, "PUT", "GET"), (301, "PUT", "PUT"),
     (302, "PATCH", "PATCH"), (307, "POST", "POST"), (308, "POST", "POST")],
)  # fmt: skip
def test_the_method_after_a_redirect_is_as_in_browsers(api: Api, code: int, method: str, next_method: str) -> None:
    with (
        SSEServer(redirect("/there", code), stream("data: x\n\n")) as server,
        api.client() as client,
        api.connect(client, server.url, method, json={"a": 1}, reconnect=False) as conn,
    ):
        api.next(conn)
        request = server.requests[1]
        assert request.method == next_method
        if next_method == "GET":
            assert request.body == b""
            assert not [name for name in request.headers if name.lower().startswith("content-")]
        else:
            assert request.body == b'{"a":1}'
            assert request.headers["Content-Type"] == "application/json"


def test_a_body_sent_to_another_origin_keeps_its_content_headers(api: Api) -> None:
    with (
        SSEServer(stream("data: x\n\n")) as target,
        SSEServer(redirect(target.url, 307)) as server,
        api.client() as client,
        api.connect(client, server.url, "POST", {"X-Api-Key": "k"}, json=[], reconnect=False) as conn,
    ):
        api.next(conn)
        (request,) = target.requests
        assert (request.method, request.body) == ("POST", b"[]")
        assert request.headers["Content-Type"] == "application/json"
        assert "X-Api-Key" not in request.headers


def test_headers_dropped_for_another_origin_stay_dropped(api: Api) -> None:
    with SSEServer() as target, api.client() as client:
        with SSEServer(redirect(target.url), stream("data: x\n\n")) as server:
            target.add(redirect(server.url + "back"))
            with api.connect(client, server.url, headers={"Cookie": "a=1"}) as conn:
                api.next(conn)
            assert "Cookie" in server.requests[0].headers
            assert "Cookie" not in server.requests[1].headers


def test_each_reconnect_starts_from_the_original_url(api: Api) -> None:
    with (
        SSEServer(redirect("/a"), stream("id: 1\ndata: x\n\n"), redirect("/b"), stream("data: y\n\n")) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["x", "y"]
        assert [request.target for request in server.requests] == ["/", "/a", "/", "/b", "/"]
        assert [request.last_event_id for request in server.requests] == [None, None, "1", "1", "1"]


def test_a_utf_8_location_is_percent_encoded(api: Api) -> None:
    with SSEServer(redirect("/caf\u00e9".encode()), stream("data: x\n\n")) as server, api.client() as client:
        with api.connect(client, server.url) as conn:
            api.next(conn)
        assert server.requests[1].target == "/caf%C3%A9"


@pytest.mark.parametrize("name", ["Content-Token", "Acceptance", "X-Accept", "Accepted"])
def test_a_header_with_a_similar_name_is_not_sent_cross_origin(api: Api, name: str) -> None:
    with (
        SSEServer(stream("data: x\n\n")) as target,
        SSEServer(redirect(target.url)) as server,
        api.client() as client,
        api.connect(client, server.url, headers={name: "secret"}) as conn,
    ):
        api.next(conn)
        assert server.requests[0].headers[name] == "secret"
        assert name not in target.requests[0].headers


def test_following_redirects_can_be_turned_off(api: Api) -> None:
    with SSEServer(redirect("/there")) as server, api.client() as client:
        with pytest.raises(SSEStatusError) as caught:
            api.open(client.connect(server.url, redirect=False))
        assert (caught.value.status, caught.value.headers["Location"]) == (302, "/there")


def test_the_body_of_a_redirect_is_never_read(api: Api) -> None:
    endless = stream("x" * 1000, HANG, status=302, headers={"Location": "/there"})
    with (
        SSEServer(endless, stream("data: x\n\n", HANG)) as server,
        api.client() as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "x"
        server.wait_for_connections(1)
