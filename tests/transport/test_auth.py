"""Credentials: their sources, their precedence, and the places that must not see them."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from sseclient_dual import SSEClient, SSEConnectionError
from sseclient_dual.testing import CUT, SSEServer, redirect, status, stream
from support.policies import QUICK

if TYPE_CHECKING:
    from support.apis import Api


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def with_userinfo(url: str, userinfo: str) -> str:
    return url.replace("://", f"://{userinfo}@")


def sent(api: Api, client_options: dict[str, Any], options: dict[str, Any], userinfo: str = "") -> str | None:
    """Return the Authorization header that a server receives."""
    with SSEServer(stream("data: x\n\n")) as server:
        url = with_userinfo(server.url, userinfo) if userinfo else server.url
        with api.client(**client_options) as client, api.connect(client, url, **options) as conn:
            api.next(conn)
            assert conn.url == conn.response_url == server.url
            assert "Authorization" not in repr(conn)
        return server.requests[0].headers.get("Authorization")


# -- precedence

SOURCES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "pool": ({"pool": urllib3.PoolManager(headers={"authorization": "pool"})}, {}, "", "pool"),
    "client headers": ({"headers": {"AUTHORIZATION": "headers"}}, {}, "", "headers"),
    "client auth": ({"auth": ("client", "1")}, {}, "", basic("client", "1")),
    "URL": ({}, {}, "url:2", basic("url", "2")),
    "headers": ({}, {"headers": {"authorization": "own"}}, "", "own"),
    "auth": ({}, {"auth": ("auth", "3")}, "", basic("auth", "3")),
}


@pytest.mark.parametrize("last", SOURCES)
def test_credentials_nearer_to_the_request_win(api: Api, last: str) -> None:
    """Set the credentials in all sources up to `last`; those in `last` are sent."""
    client_options: dict[str, Any] = {}
    options: dict[str, Any] = {}
    userinfo = expected = ""
    for source, values in SOURCES.items():
        client_options |= values[0]
        options |= values[1]
        userinfo, expected = values[2] or userinfo, values[3]
        if source == last:
            break
    assert sent(api, client_options, options, userinfo) == expected


def test_no_authorization_is_sent_without_credentials(api: Api) -> None:
    assert sent(api, {}, {}) is None


def test_callable_headers_win_over_the_url_and_lose_to_auth(api: Api) -> None:
    own = {"headers": lambda: {"Authorization": "own"}}
    assert sent(api, {"auth": ("client", "1")}, own, "url:2") == "own"
    assert sent(api, {}, own | {"auth": ("auth", "3")}) == basic("auth", "3")


def test_client_defaults_apply_to_every_connection(api: Api) -> None:
    with (
        SSEServer(default=stream("data: x\n\n")) as server,
        api.client(auth=("a", "b"), headers={"X": "1"}) as client,
    ):
        for options in ({}, {"auth": ("c", "d"), "headers": {"x": "2"}}, {}):
            with api.connect(client, server.url, **options) as conn:
                api.next(conn)
        got = [(request.headers["Authorization"], request.headers["X"]) for request in server.requests]
        assert got == [(basic("a", "b"), "1"), (basic("c", "d"), "2"), (basic("a", "b"), "1")]


def test_client_headers_are_copied(api: Api) -> None:
    headers = {"X": "1"}
    with SSEServer(stream("data: x\n\n")) as server, api.client(headers=headers) as client:
        headers["X"] = "2"
        with api.connect(client, server.url) as conn:
            api.next(conn)
        assert server.requests[0].headers["X"] == "1"


# -- encoding


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("", ""),
        ("user", ""),
        ("", "word"),
        ("user", ":a:b:"),
        ("müller", "päß☃"),
        ("a b", " % + / @ "),
        ("u", "x" * 3000),
    ],
    ids=repr,
)
def test_auth_is_encoded_as_utf_8(api: Api, user: str, password: str) -> None:
    assert sent(api, {}, {"auth": (user, password)}) == basic(user, password)
    assert sent(api, {"auth": (user, password)}, {}) == basic(user, password)


@pytest.mark.parametrize(
    ("userinfo", "user", "password"),
    [
        ("user:word", "user", "word"),
        ("user", "user", ""),
        ("user:", "user", ""),
        (":word", "", "word"),
        ("user:a:b", "user", "a:b"),
        ("user:a%3Ab", "user", "a:b"),
        ("m%C3%BCller:%E2%98%83", "müller", "☃"),
        ("müller:☃", "müller", "☃"),
        ("a%20b:p%40s%2Fs%3F%23", "a b", "p@s/s?#"),
        ("user:a+b", "user", "a+b"),  # not form encoding: a plus sign stays
        ("user:p@ss", "user", "p@ss"),  # the last @ is the separator
        ("user:100%25", "user", "100%"),
        ("user:100%", "user", "100%"),
    ],
)
def test_credentials_in_a_url_are_decoded(api: Api, userinfo: str, user: str, password: str) -> None:
    assert sent(api, {}, {}, userinfo) == basic(user, password)


def test_credentials_of_a_url_are_sent_on_every_reconnect(api: Api) -> None:
    with SSEServer(stream("data: x\n\n", CUT), stream("data: y\n\n")) as server, api.client(policy=QUICK) as client:
        with api.connect(client, with_userinfo(server.url, "u:p")) as conn:
            assert [event.data for event in api.rest(conn)] == ["x", "y"]
        assert {request.headers["Authorization"] for request in server.requests} == {basic("u", "p")}


# -- invalid credentials


@pytest.mark.parametrize(
    ("kind", "auth"),
    [
        (TypeError, "user:secret"),
        (TypeError, ["user", "secret"]),
        (TypeError, ("secret",)),
        (TypeError, ("user", "secret", "realm")),
        (TypeError, ("user", b"secret")),
        (TypeError, ("secret", None)),
        (TypeError, ()),
        (TypeError, 5),
        (ValueError, ("us:er", "secret")),
        (ValueError, ("user", "secret\ud800")),
    ],
    ids=repr,
)
def test_bad_auth_raises_at_once(kind: type[Exception], auth: Any) -> None:
    with SSEClient() as client:
        for make in (lambda: SSEClient(auth=auth), lambda: client.connect("http://127.0.0.1:9/", auth=auth)):
            with pytest.raises(kind, match=r"^auth\b") as caught:
                make()
            assert "secret" not in str(caught.value)
            assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("userinfo", ["us%3Aer:secret", "user:secret%FF", "us%C3er:secret"])
def test_bad_credentials_in_a_url_raise_at_once(userinfo: str) -> None:
    with SSEClient() as client, pytest.raises(ValueError, match=r"^url\b") as caught:
        client.connect(f"http://{userinfo}@127.0.0.1/")
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# -- confidentiality


@pytest.mark.parametrize(
    ("client_options", "options", "userinfo"),
    [
        ({"auth": ("u", "secret")}, {}, ""),
        ({}, {"auth": ("u", "secret")}, ""),
        ({}, {}, "u:secret"),
        ({"headers": {"Authorization": "secret"}}, {}, ""),
        ({}, {"headers": {"Authorization": "secret"}}, ""),
        ({}, {"headers": lambda: {"Authorization": "secret"}}, ""),
        ({"headers": {"X-Api-Key": "secret", "Cookie": "secret"}}, {}, ""),
    ],
)
def test_credentials_are_not_sent_to_another_origin(
    api: Api, client_options: dict[str, Any], options: dict[str, Any], userinfo: str
) -> None:
    with SSEServer(stream("data: x\n\n")) as other:
        with SSEServer(redirect("/here"), redirect(other.url)) as server, api.client(**client_options) as client:
            url = with_userinfo(server.url, userinfo) if userinfo else server.url
            with api.connect(client, url, **options) as conn:
                api.next(conn)
            first, second = server.requests
            assert first.raw_headers == second.raw_headers
        wanted = {"authorization", "x-api-key", "cookie"}
        assert wanted & {*first.headers}
        assert not wanted & {*other.requests[0].headers}


def test_credentials_in_a_location_header_are_ignored(api: Api) -> None:
    with SSEServer(stream("data: x\n\n")) as other, SSEServer() as server, api.client() as client:
        server.add(redirect(with_userinfo(other.url, "u:secret")))
        with api.connect(client, server.url) as conn:
            api.next(conn)
            assert conn.response_url == other.url
        assert "Authorization" not in other.requests[0].headers


def test_credentials_are_in_no_message_and_no_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    encoded = basic("user", "secret").split()[1]
    texts: list[str] = []
    with SSEServer(
        stream("data: x\n\n", CUT),
        status(503),
        redirect("ftp://user:secret@x/"),
        status(401),
        status(200, "no stream"),
    ) as server:
        with api.client(auth=("user", "secret"), policy=QUICK) as client:
            for _ in range(3):  # an invalid redirect, an error status, and a wrong media type
                conn = client.connect(with_userinfo(server.url, "user:secret"))
                with pytest.raises(SSEConnectionError) as caught:
                    api.rest(conn)
                texts.append(repr(conn))
                error: BaseException | None = caught.value
                while error is not None:
                    texts += [str(error), repr(error), repr(vars(error))]
                    error = error.__cause__ or error.__context__
        assert len(server.requests) == 5
        server.refuse()
        with api.client() as client, pytest.raises(SSEConnectionError) as caught:
            api.open(client.connect(with_userinfo(server.url, "user:secret"), reconnect=False))
        texts.append(str(caught.value))
    for text in [*texts, caplog.text]:
        assert "secret" not in text
        assert encoded not in text
