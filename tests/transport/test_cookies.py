"""Cookies of a client: what is sent where, what is stored, and what is never shown."""

from __future__ import annotations

import logging
import os
from http.cookiejar import CookieJar, DefaultCookiePolicy, LWPCookieJar
from typing import TYPE_CHECKING, Any

import pytest
from urllib3 import HTTPHeaderDict

from sseclient_dual import SSEClient, SSEStatusError
from sseclient_dual.testing import CUT, SSEServer, redirect, status, stream
from sseclient_dual.transport import cookies as module
from sseclient_dual.transport.cookies import Cookies
from sseclient_dual.transport.redirects import Hop
from support.forks import held, in_child
from support.policies import QUICK, QUICK_NO_DEDUP
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from http.cookiejar import Cookie
    from pathlib import Path

    from sseclient_dual.testing import ReceivedRequest
    from support.apis import Api
    from support.tls import Tls

X = "data: x\n\n"


def sent(request: ReceivedRequest) -> str | None:
    return request.headers.get("cookie")


def set_cookie(*fields: str) -> dict[str, Any]:
    return {"headers": [("Set-Cookie", field) for field in fields]}


def on(server: SSEServer, host: str) -> str:
    """Return the server's URL with another name of its host, which is another host for cookies."""
    return server.url.replace("127.0.0.1", host)


# --- in streams ---------------------------------------------------------------------------------------------


def test_without_cookies_none_are_stored(api: Api) -> None:
    replies = stream(X, **set_cookie("a=1")), stream(X), status(204)
    with SSEServer(*replies) as server, api.client(policy=QUICK_NO_DEDUP) as client:
        assert len(api.rest(client.connect(server.url))) == 2
        assert [sent(request) for request in server.requests] == [None] * 3


@pytest.mark.parametrize("cookies", [dict, CookieJar, LWPCookieJar])
def test_cookies_of_a_response_are_sent_with_the_next_request(api: Api, cookies: Callable[[], Any]) -> None:
    """As load balancers need it, to which a cookie names one of their servers."""
    replies = (
        stream(X, CUT, **set_cookie("node=1; Path=/", "other=2; Max-Age=100; HttpOnly")),
        status(503, **set_cookie("node=2; Path=/")),
        stream(X, **set_cookie("other=; Max-Age=0")),
        status(204),
    )
    with SSEServer(*replies) as server, api.client(cookies=cookies(), policy=QUICK_NO_DEDUP) as client:
        assert len(api.rest(client.connect(server.url))) == 2
        assert [sent(request) for request in server.requests] == [
            None,
            "node=1; other=2",
            "node=2; other=2",
            "node=2",
        ]


def test_the_cookies_of_a_mapping_are_sent_with_every_request(api: Api) -> None:
    cookies = {"session": "s", "name": "Jürgen ☃", "empty": "", "quoted": '"a, b"'}
    with SSEServer(stream(X), status(204)) as server, api.client(cookies=cookies, policy=QUICK) as client:
        cookies["session"] = "another one"  # it was copied
        api.rest(client.connect(f"{server.url}?x=1"))
        for request in server.requests:
            value = (sent(request) or "").encode("latin-1").decode()
            assert value == 'session=s; name=Jürgen ☃; empty=; quoted="a, b"'


def test_the_connections_of_a_client_share_its_cookies(api: Api) -> None:
    """And a cookie that a server has replaced or deleted is not set again."""
    replies = [
        status(404, **set_cookie("session=2; Path=/", "gone=; Path=/; Max-Age=0")),
        status(404, **set_cookie("session=3; Path=/")),
        status(404),
    ]
    with SSEServer(*replies) as server, api.client(cookies={"session": "1", "gone": "1"}) as client:
        for path in ("/a", "/b/c", "/d"):
            with pytest.raises(SSEStatusError):
                api.open(client.connect(server.url + path))
        assert [sent(request) for request in server.requests] == ["session=1; gone=1", "session=2", "session=3"]


def test_cookies_follow_redirects_by_the_rules_of_the_jar(api: Api) -> None:
    with SSEServer() as server, api.client(cookies={"mine": "1"}) as client:
        elsewhere = on(server, "localhost")
        server.add(
            redirect("/login", **set_cookie("here=2; Path=/", "deep=3; Path=/login")),
            redirect(f"{elsewhere}/there", **set_cookie("here=4; Path=/")),
            redirect(server.url, **set_cookie("there=5; Path=/", "stolen=6; Domain=127.0.0.1")),
            stream(X),
            stream(X),
        )
        with api.connect(client, server.url) as conn:
            assert api.next(conn).data == "x"
        assert [sent(request) for request in server.requests] == [
            "mine=1",
            "deep=3; mine=1; here=2",
            None,
            "mine=1; here=4",
        ]
        with api.connect(client, f"{elsewhere}/there"):
            assert sent(server.requests[-1]) == "there=5; mine=1"


def test_a_jar_is_used_as_it_is(api: Api, tmp_path: Path) -> None:
    jar = LWPCookieJar(tmp_path / "cookies.txt")
    with SSEServer(default=stream(X, **set_cookie("a=1; Max-Age=1000"))) as server:
        with api.client(cookies=jar) as client, api.connect(client, server.url):
            pass
        assert [(cookie.name, cookie.value) for cookie in jar] == [("a", "1")]
        jar.save()
        saved = LWPCookieJar(tmp_path / "cookies.txt")
        saved.load()
        with api.client(cookies=saved) as client, api.connect(client, server.url):
            assert sent(server.requests[-1]) == "a=1"
        refusing = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        with api.client(cookies=refusing) as client, api.connect(client, server.url):
            assert len(refusing) == 0


def test_a_cookie_header_replaces_the_cookies(api: Api) -> None:
    with SSEServer() as server, api.client(cookies={"a": "1"}) as client:
        server.add(
            redirect(on(server, "localhost"), **set_cookie("b=2")),
            redirect(on(server, "localhost"), **set_cookie("c=3")),
            stream(X),
        )
        with api.connect(client, server.url, headers={"cookie": "own=1"}):
            assert [sent(request) for request in server.requests] == ["own=1", None, "c=3"]


def test_a_secure_cookie_is_sent_over_https_only(api: Api, tls: Tls) -> None:
    context, authority = tls
    with SSEServer(default=stream(X)) as plain, SSEServer(tls=context) as server:
        server.add(redirect("/", **set_cookie("theirs=2; Secure", "plain=3")), redirect(plain.url))
        with api.client(cookies={"mine": "1"}, verify=authority) as client, api.connect(client, server.url):
            assert [sent(request) for request in server.requests] == ["mine=1", "mine=1; theirs=2; plain=3"]
            assert [sent(request) for request in plain.requests] == ["plain=3"]


def test_cookies_are_never_shown(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    replies = stream(X, CUT, **set_cookie("a=hunter2")), status(404, **set_cookie("b=hunter2"))
    with SSEServer(*replies) as server, api.client(cookies={"c": "hunter2"}, policy=QUICK) as client:
        conn = client.connect(server.url)
        with pytest.raises(SSEStatusError) as caught:
            api.rest(conn)
        assert sent(server.requests[1]) == "c=hunter2; a=hunter2"
    assert "hunter2" not in caplog.text + str(caught.value) + repr(caught.value) + repr(conn) + repr(client)


def test_a_control_character_in_a_cookie_of_the_jar_is_an_error(api: Api) -> None:
    jar = CookieJar()
    with SSEServer(stream(X, **set_cookie("a=1"))) as server, api.client(cookies=jar) as client:
        with api.connect(client, server.url):
            (cookie,) = jar
            cookie.value = "a\r\nEvil: 1"
        with pytest.raises(ValueError, match="cookies has a cookie with a control character"):
            api.open(client.connect(server.url))


def test_an_error_of_the_jar_is_raised_to_the_consumer(api: Api) -> None:
    class Broken(CookieJar):
        def extract_cookies(self, *_: object) -> None:
            raise OSError("the disk is full")

    with SSEServer(default=stream(X)) as server, api.client(cookies=Broken()) as client:
        with pytest.raises(OSError, match="the disk is full"):
            api.open(client.connect(server.url))
        server.wait_for_connections(0)


# --- which cookies, without a server ------------------------------------------------------------------------


def hop(url: str, first_url: str | None = None) -> Hop:
    return Hop("GET", url, {}, None, first_url=first_url or url)


def cookie_for(cookies: Cookies, url: str, first_url: str = "http://other.test/") -> str | None:
    found: Mapping[str, tuple[str, bytes]] = cookies.fields(hop(url, first_url))
    return found["cookie"][1].decode("latin-1") if found else None


def store(cookies: Cookies, url: str, *fields: str) -> None:
    cookies.store(hop(url), HTTPHeaderDict([("Set-Cookie", field) for field in fields]))


def test_the_cookies_of_a_mapping_stay_at_their_host() -> None:
    cookies = Cookies({"a": "1"})
    first = "http://example.test:8080/x?y"
    assert cookie_for(cookies, first, first) == "a=1"
    store(cookies, first, "host=2; Path=/", "domain=3; Domain=example.test; Path=/", "evil=4; Domain=test; Path=/")
    assert cookie_for(cookies, "http://example.test/") == "a=1; host=2; domain=3"
    assert cookie_for(cookies, "https://EXAMPLE.test/") == "a=1; host=2; domain=3"
    assert cookie_for(cookies, "http://sub.example.test/") == "domain=3"
    for url in ("http://badexample.test/", "http://test/", "http://example.test.evil.test/", "http://[::1]/"):
        assert cookie_for(cookies, url) is None
    assert cookie_for(cookies, "http://[::1]:80/", "http://[::1]:80/") == "a=1"
    assert cookie_for(cookies, "http://[::1]:81/") == "a=1"


def test_a_third_party_is_recognised_after_a_redirect() -> None:
    jar = CookieJar(DefaultCookiePolicy(strict_ns_unverifiable=True))
    cookies = Cookies(jar)
    store(cookies, "http://tracker.test/", "a=1")
    assert cookie_for(cookies, "http://tracker.test/", "http://tracker.test/") == "a=1"
    assert cookie_for(cookies, "http://tracker.test/", "http://example.test/") is None


def test_a_jar_may_use_the_old_standard() -> None:
    cookies = Cookies(CookieJar(DefaultCookiePolicy(rfc2965=True, netscape=True)))
    store(cookies, "http://example.test/", "a=1")
    found = cookies.fields(hop("http://example.test/"))
    assert dict(found.values()) == {"Cookie": b"a=1", "Cookie2": b'$Version="1"'}


def test_text_of_a_jar_is_sent_as_utf_8_unless_it_is_latin_1() -> None:
    jar = CookieJar()
    cookies = Cookies(jar)
    store(cookies, "http://example.test/", "a=1")
    for value, raw in (("☃", "☃".encode()), ("ü", b"\xfc")):
        (cookie,) = jar
        cookie.value = value
        assert cookies.fields(hop("http://example.test/"))["cookie"][1] == b"a=" + raw


def test_a_server_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 10)
    jar = CookieJar()
    store(Cookies(jar), "http://example.test/", *(f"own{n}=1" for n in range(5)))
    cookies = Cookies(jar)
    for number in range(100):
        store(cookies, "http://example.test/", f"a{number}=1; Path=/{number}", f"long=1; Path=/{'x' * 4096}")
    assert len(jar) == 15


@pytest.mark.parametrize("field", ["a=\x01", "a=1\r\n b", "a=\x7f", "=1", "", ";", "a" * 4097], ids=ascii)
def test_an_invalid_cookie_of_a_server_is_ignored(field: str) -> None:
    cookies = Cookies({})
    store(cookies, "http://example.test/", field, "b=2; Max-Age=x", "c=3; Expires=never; Version=x", "d=4")
    assert cookie_for(cookies, "http://example.test/") == "d=4"


def test_a_max_age_without_a_value_is_ignored() -> None:
    cookies = Cookies({})
    store(cookies, "http://example.test/", "a=1; MAX-AGE", "b=2;max-age ; Path=/", "max-age; Max-Age=10; max-age")
    assert cookie_for(cookies, "http://example.test/") == "a=1; b=2; max-age"


def test_other_code_may_change_the_jar_at_any_time() -> None:
    class Changing(CookieJar):
        changed = False

        def __iter__(self) -> Iterator[Cookie]:
            if self.changed:
                raise RuntimeError("dictionary changed size during iteration")
            return super().__iter__()

    jar = Changing()
    cookies = Cookies(jar)
    jar.changed = True
    cookies.store(hop("http://example.test/"), HTTPHeaderDict({"Set-Cookie": "a=1"}))
    jar.changed = False
    assert [cookie.name for cookie in jar] == ["a"]


# --- the argument -------------------------------------------------------------------------------------------

WRONG = [
    ("a=1", TypeError, "cookies must be a mapping or an http.cookiejar.CookieJar, not str"),
    ([("a", "1")], TypeError, "cookies must be a mapping or an http.cookiejar.CookieJar, not list"),
    ({"a": 1}, TypeError, "cookies must map names to str, not 'a' to int"),
    ({1: "a"}, TypeError, "cookies must map names to str, not 1 to str"),
    ({"a b": "1"}, ValueError, "cookies has a name with a character that HTTP does not allow in names"),
    ({"a": "1; b=2"}, ValueError, "cookies has a semicolon or a control character in the value of 'a'"),
    ({"a": "1\r\nb: 2"}, ValueError, "cookies has a semicolon or a control character in the value of 'a'"),
    ({"a": "\ud800"}, ValueError, "cookies contains a lone surrogate"),
]


@pytest.mark.parametrize(("cookies", "error", "message"), WRONG, ids=str)
def test_the_argument_is_checked(cookies: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        SSEClient(cookies=cookies)


# --- forks --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.parametrize("whose", ["ours", "jar"])
def test_a_child_does_not_wait_for_a_lock_that_a_thread_of_the_parent_holds(whose: str) -> None:
    jar: Any = CookieJar()
    with SSEServer(default=stream(X, **set_cookie("a=1"))) as server, SSEClient(cookies=jar) as client:
        assert client._cookies is not None
        lock: Any = client._cookies._lock if whose == "ours" else jar._cookies_lock
        thread, release = held(lock)

        def receive() -> None:
            assert client.connect(server.url).recv(PATIENCE).data == "x"

        assert in_child(receive) == 0
        release.set()
        thread.join()
