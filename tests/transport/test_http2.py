"""HTTP/2: how it is chosen, what is sent, and that the code above the transport behaves as with HTTP/1.1."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import ssl
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient, SSEConnectionError, SSEContentTypeError, SSEStatusError
from sseclient_dual.testing import HTTP2, Gate, SSEServer, redirect, status, stream
from sseclient_dual.transport.streams import Stream
from support.http2_peers import Http2Peer
from support.policies import QUICK
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.apis import Api
    from support.http2_peers import Link
    from support.tls import Tls

ONE = stream("id: 1\ndata: one\n\n")


@pytest.fixture
def server() -> Iterator[SSEServer]:
    with SSEServer(http2=True) as server:
        yield server


def read_one(api: Api, url: str, *, http2: Any, **options: Any) -> tuple[str, str | None]:
    """Return the data of the first event, and the version by which it came."""
    with api.client(http2=http2, trust_env=False, **options) as client, api.connect(client, url) as conn:
        return api.next(conn).data, conn.http_version


# -- which version


def test_prior_knowledge(api: Api, server: SSEServer) -> None:
    server.add(ONE)
    assert read_one(api, server.url, http2="prior-knowledge") == ("one", "2")
    assert server.requests[0].version == "HTTP/2"


def test_an_https_server_chooses_http2(api: Api, tls: Tls) -> None:
    context, authority = tls
    with SSEServer(ONE, tls=context, http2=True) as server:
        assert read_one(api, server.url, http2=True, verify=authority) == ("one", "2")


def test_prior_knowledge_over_tls(api: Api, tls: Tls) -> None:
    context, authority = tls
    with SSEServer(ONE, tls=context, http2=True) as server:
        assert read_one(api, server.url, http2="prior-knowledge", verify=authority) == ("one", "2")


@pytest.mark.parametrize("alpn", [("http/1.1",), ("unknown",)])
def test_an_https_server_chooses_http1(api: Api, tls: Tls, alpn: tuple[str, ...]) -> None:
    context, authority = tls
    with SSEServer(ONE, tls=context, http2=HTTP2(alpn=alpn)) as server:
        assert read_one(api, server.url, http2=True, verify=authority) == ("one", "1.1")
        (request,) = server.requests
        assert request.connection == 1  # the one that was negotiated


def test_http_urls_are_requested_over_http1(api: Api, server: SSEServer) -> None:
    server.add(ONE)
    assert read_one(api, server.url, http2=True) == ("one", "1.1")


def test_a_connection_chooses_for_itself(server: SSEServer) -> None:
    server.add(ONE, ONE)
    with SSEClient() as client, client.connect(server.url, http2="prior-knowledge") as conn:
        assert conn.http_version == "2"
    with SSEClient(http2="prior-knowledge") as client, client.connect(server.url, http2=False) as conn:
        assert conn.http_version == "1.1"


def test_the_version_is_unknown_before_the_first_response(server: SSEServer) -> None:
    with SSEClient() as client:
        assert client.connect(server.url).http_version is None


def test_a_feed_passes_the_version_on(server: SSEServer) -> None:
    server.add(ONE)
    with SSEClient() as client, client.share(server.url, http2="prior-knowledge") as feed:
        assert next(feed.subscribe()).data == "one"
    assert server.requests[0].version == "HTTP/2"


def test_a_context_of_the_user_offers_what_it_has(tls: Tls) -> None:
    context, authority = tls
    own = ssl.create_default_context(cafile=authority)
    with SSEServer(ONE, ONE, tls=context, http2=True) as server:
        with SSEClient(http2=True, ssl_context=own) as client, client.connect(server.url) as conn:
            assert conn.http_version == "1.1"
        own.set_alpn_protocols(["h2", "http/1.1"])
        with SSEClient(http2=True, ssl_context=own) as client, client.connect(server.url) as conn:
            assert conn.http_version == "2"


def test_a_server_that_does_not_speak_http2() -> None:
    with SSEServer(default=ONE) as server, SSEClient(http2="prior-knowledge") as client:
        with pytest.raises(SSEConnectionError, match=f"{server.origin}: the response is not HTTP/2; check "):
            client.connect(server.url, reconnect=False).open()


# -- the argument


@pytest.mark.parametrize("value", [None, 2, b"h2", ["h2"]])
def test_an_argument_of_the_wrong_type(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^http2 must be True, False or 'prior-knowledge', not "):
        SSEClient(http2=value)


def test_an_argument_with_an_invalid_value() -> None:
    with pytest.raises(ValueError, match=r"^http2 must be True, False or 'prior-knowledge', not 'h2c'$"):
        SSEClient(http2="h2c")  # type: ignore[arg-type]
    with SSEClient() as client, pytest.raises(ValueError, match=r"^http2 must be"):
        client.connect("http://a/", http2="h2c")  # type: ignore[arg-type]


def test_the_extra_is_named_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ValueError, match=r"http2 needs an extra: pip install 'sseclient-dual\[http2\]'"):
        SSEClient(http2=True)
    SSEClient(http2=False)


def test_h2_is_imported_when_it_is_used() -> None:
    script = "import sys; from sseclient_dual import SSEClient; SSEClient(http2=True); print('h2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


# -- requests and responses


def test_the_head_of_a_request(server: SSEServer) -> None:
    server.add(ONE)
    headers = {
        "X-Api-Key": "secret",
        "Host": "other.test",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
        "Keep-Alive": "5",
        "Proxy-Connection": "keep-alive",
        "Transfer-Encoding": "chunked",
        "Upgrade": "h2c",
        "TE": "gzip",
        "Cookie": "a=1; b=2",
    }
    with SSEClient(http2="prior-knowledge") as client:
        with client.connect(f"{server.url}path?q=1", headers=headers, auth=("user", "word"), last_event_id="7"):
            pass
    (request,) = server.requests
    assert request.raw_headers == [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"other.test"),
        (b":path", b"/path?q=1"),
        (b"accept", b"text/event-stream"),
        (b"cache-control", b"no-cache"),
        (b"accept-encoding", b"identity"),
        (b"user-agent", b"sseclient_dual"),
        (b"x-api-key", b"secret"),
        (b"authorization", b"Basic dXNlcjp3b3Jk"),
        (b"last-event-id", b"7"),
        (b"cookie", b"a=1; b=2"),
    ]


def test_te_may_announce_trailers(server: SSEServer) -> None:
    server.add(ONE)
    with SSEClient(http2="prior-knowledge") as client, client.connect(server.url, headers={"TE": "trailers"}):
        assert server.requests[0].headers["te"] == "trailers"


def test_a_post_sends_its_body(api: Api, server: SSEServer) -> None:
    server.add(ONE)
    body = b"x" * 200_000  # more than the windows that a server begins with
    with api.client(http2="prior-knowledge") as client, api.connect(client, server.url, data=body) as conn:
        assert api.next(conn).data == "one"
    (request,) = server.requests
    assert (request.method, request.body) == ("POST", body)
    assert request.headers["content-length"] == "200000"


@pytest.mark.parametrize("framing", ["chunked", "sized"])
def test_a_refusal_has_its_body(api: Api, server: SSEServer, framing: Any) -> None:
    server.add(stream('{"error": "gone"}', status=404, content_type="application/json", framing=framing))
    with api.client(http2="prior-knowledge") as client, pytest.raises(SSEStatusError) as caught:
        api.open(client.connect(server.url))
    assert str(caught.value).startswith(f"{server.origin} answered with status 404 Not Found, not 200; check the URL")
    assert caught.value.json() == {"error": "gone"}
    assert (caught.value.reason, caught.value.url) == ("Not Found", server.url)


def test_another_media_type(api: Api, server: SSEServer) -> None:
    server.add(status(200, "<html>", content_type="text/html"))
    with api.client(http2="prior-knowledge") as client, pytest.raises(SSEContentTypeError) as caught:
        api.open(client.connect(server.url))
    assert caught.value.body == b"<html>"


def test_an_accepted_answer_is_read_to_its_end(server: SSEServer) -> None:
    answer = '{"text": "' + "x" * 300_000 + '"}'
    server.add(status(200, answer, content_type="application/json"))
    with SSEClient(http2="prior-knowledge") as client, pytest.raises(SSEContentTypeError) as caught:
        client.connect(server.url, headers={"Accept": "text/event-stream, application/json"}).open()
    assert caught.value.body == answer.encode()


def test_redirects_are_followed(api: Api, server: SSEServer) -> None:
    with SSEServer(ONE, http2=True) as other:
        server.add(redirect(f"{server.url}again"), redirect(other.url))
        headers = {"Authorization": "Bearer secret"}
        with api.client(http2="prior-knowledge", headers=headers) as client, api.connect(client, server.url) as conn:
            assert api.next(conn).data == "one"
            assert conn.response_url == other.url
        assert [request.path for request in server.requests] == ["/", "/again"]
        assert "authorization" not in other.requests[0].headers


def test_a_callable_is_asked_again_after_a_401(server: SSEServer) -> None:
    server.add(status(401), ONE)
    tokens = iter(["old", "new"])
    with SSEClient(http2="prior-knowledge", headers=lambda: {"Authorization": next(tokens)}) as client:
        with client.connect(server.url) as conn:
            assert next(conn).data == "one"
    assert [request.headers["authorization"] for request in server.requests] == ["old", "new"]


def test_status_204_ends_the_stream(api: Api, server: SSEServer) -> None:
    with api.client(http2="prior-knowledge") as client:
        conn = client.connect(server.url)
        assert api.rest(conn) == []
        assert (conn.status, conn.http_version) == (204, "2")


def test_an_encoded_body(api: Api, server: SSEServer) -> None:
    server.add(stream("data: a\n\n", "data: b\n\n", encoding="gzip"))
    with api.client(http2="prior-knowledge") as client:
        with api.connect(client, server.url, headers={"Accept-Encoding": "gzip"}, reconnect=False) as conn:
            assert [event.data for event in api.rest(conn)] == ["a", "b"]


def test_an_encoded_body_that_cannot_be_decoded(server: SSEServer) -> None:
    server.add(stream(b"not gzip", headers={"Content-Encoding": "gzip"}))
    with SSEClient(http2="prior-knowledge") as client:
        with pytest.raises(SSEConnectionError, match="does not match its Content-Encoding"):
            list(client.connect(server.url, reconnect=False))


def test_cookies(server: SSEServer) -> None:
    server.add(stream("data: a\n\n", headers={"Set-Cookie": "b=2"}), ONE)
    with SSEClient(http2="prior-knowledge", cookies={"a": "1"}, policy=QUICK) as client:
        assert [event.data for event in client.connect(server.url)] == ["a", "one"]
    assert server.requests[0].headers["cookie"] == "a=1"
    assert server.requests[1].headers["cookie"] == "a=1; b=2"


def test_a_reconnect_resumes(api: Api, server: SSEServer) -> None:
    server.add(stream("id: 1\ndata: a\n\n"), stream("id: 2\ndata: b\n\n"))
    with api.client(http2="prior-knowledge", policy=QUICK) as client:
        assert [event.data for event in api.rest(client.connect(server.url))] == ["a", "b"]
    assert [request.last_event_id for request in server.requests] == [None, "1", "2"]


@pytest.mark.parametrize("look", [1, 2])
def test_data_that_comes_just_after_the_reader_has_looked_for_it(
    api: Api, server: SSEServer, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    gate, looks = Gate(), itertools.count(1)
    needs = Stream.needs.fget  # type: ignore[attr-defined] # mypy does not know that it is a property

    def needs_just_before(stream: Stream) -> int:
        found: int = needs(stream)
        if "worker" in threading.current_thread().name and next(looks) == look:
            gate.open()
            wait_until(lambda: stream.pieces)  # from the hub's thread
        return found

    monkeypatch.setattr(Stream, "needs", property(needs_just_before))
    server.add(stream(gate, "data: a\n\n"))
    with api.client(http2="prior-knowledge") as client, api.connect(client, server.url) as conn:
        assert api.recv(conn, PATIENCE).data == "a"


def test_a_header_with_a_control_character() -> None:
    def script(link: Link) -> None:
        link.begin()
        link.respond([(b":status", b"200"), (b"x", b"a\x01b")])
        link.rest()

    with Http2Peer(script) as peer, SSEClient(http2="prior-knowledge") as client:
        with pytest.raises(SSEConnectionError, match="the server sent a header with a control character"):
            client.connect(peer.url, reconnect=False).open()


def test_credentials_are_not_logged(server: SSEServer, caplog: pytest.LogCaptureFixture) -> None:
    """Not even by the packages that encode the headers, and at the level of the root logger."""
    server.add(ONE)
    headers = {"Authorization": "Bearer secret1", "Cookie": "secret2", "X-Api-Key": "secret3"}
    with caplog.at_level(logging.DEBUG), SSEClient(http2="prior-knowledge", headers=headers) as client:
        with client.connect(f"{server.url}?key=secret4") as conn:
            assert next(conn).data == "one"
    assert caplog.records
    assert not [record for record in caplog.records if "secret" in record.getMessage()]
