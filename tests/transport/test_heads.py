"""Response heads with unusual white space, repeated fields or invalid lines, in one piece and cut at every byte."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEConnectionError, SSEStatusError
from sseclient_dual.testing import HANG, SSEServer, raw, stream
from sseclient_dual.transport.headers import ResponseHeaders
from support.parsing import every_byte
from support.policies import QUICK_NO_DEDUP

if TYPE_CHECKING:
    from support.apis import Api

BODY = b"data: hello\n\n"
CHUNKED = b"9\r\ndata: hel\r\n4\r\nlo\n\n\r\n0\r\n\r\n"
GZIP = gzip.compress(BODY)
EXCESS = b"data: beyond the length\n\n"

# The header lines after Content-Type, and the body, which contains one event.
LEGAL = {
    "a blank after chunked": (b"Transfer-Encoding: chunked ", CHUNKED),
    "a tab after chunked": (b"Transfer-Encoding: chunked\t", CHUNKED),
    "a tab before chunked": (b"Transfer-Encoding:\tchunked", CHUNKED),
    "chunked in capitals": (b"TRANSFER-ENCODING: Chunked", CHUNKED),
    "chunked on a line of its own": (b"Transfer-Encoding:\r\n chunked", CHUNKED),
    "identity and chunked": (b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunked and identity": (b"Transfer-Encoding: chunked, identity", CHUNKED),
    "empty list elements": (b"Transfer-Encoding: , chunked ,", CHUNKED),
    "identity": (b"Transfer-Encoding: identity\r\nContent-Length: 13", BODY + EXCESS),
    "no transfer coding": (b"Transfer-Encoding:\r\nContent-Length: 13", BODY + EXCESS),
    "chunked overrides the length": (b"Content-Length: 5\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunked overrides two lengths": (b"Transfer-Encoding: chunked\r\nContent-Length: 5, 6", CHUNKED),
    "gzip and a blank": (b"Content-Encoding: gzip \t", GZIP),
    "gzip on a line of its own": (b"Content-Encoding:\r\n gzip", GZIP),
    "gzip in a list": (b"Content-Encoding: , gzip,", GZIP),
    "identity and gzip": (b"Content-Encoding: identity\r\nContent-Encoding: gzip", GZIP),
    "gzip twice": (b"Content-Encoding: gzip\r\nContent-Encoding: GZIP", gzip.compress(GZIP)),
    "no content coding": (b"Content-Encoding:", BODY),
    "a length and a blank": (b"Content-Length: 13 ", BODY + EXCESS),
    "a length twice": (b"Content-Length: 13, 13", BODY + EXCESS),
    "two fields of one length": (b"Content-Length: 13\r\nContent-Length: 13", BODY + EXCESS),
    "a length with zeros": (b"Content-Length: 13,013", BODY + EXCESS),
}
# Not legal, but accepted by browsers.
TOLERATED = {
    "a length with an underscore": (b"Content-Length: 1_0", BODY),
    "a length with a sign": (b"Content-Length: +5", BODY),
    "no number at all": (b"Content-Length: x", BODY),
    "a number and none": (b"Content-Length: 5, x", BODY),
    "a blank before the colon": (b"Transfer-Encoding : chunked", CHUNKED),
    "no colon": (b"Bad line\r\n folded\r\nTransfer-Encoding: chunked", CHUNKED),
    "two lines without a colon": (b"Bad line\r\nX: y\r\n\tz\r\nAnother\r\nTransfer-Encoding: chunked", CHUNKED),
    "no name": (b": no name\r\nTransfer-Encoding: chunked", CHUNKED),
    "a name in Latin-1": (b"X-Gr\xf6\xdfe: 1\r\nTransfer-Encoding: chunked", CHUNKED),
    "a CR in a value": (b"X: y\rTransfer-Encoding: chunked\r\r\rContent-Length: 5", BODY),
}
HEADS = LEGAL | TOLERATED


def reply(lines: bytes, rest: bytes, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return start + b"\r\nContent-Type: text/event-stream\r\n" + lines + b"\r\n\r\n" + rest


@pytest.mark.parametrize("name", HEADS)
def test_the_body_is_read_as_the_head_says(api: Api, name: str) -> None:
    with (
        SSEServer(raw(reply(*HEADS[name]))) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False, strict=False) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["hello"]


@pytest.mark.parametrize("name", HEADS)
def test_a_head_cut_at_every_byte(api: Api, name: str) -> None:
    head = reply(*HEADS[name], start=b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK")
    with (
        SSEServer(raw(*every_byte(head))) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False, strict=False) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["hello"]


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "chunked, chunked", "chunked;x=y", "chunked, gzip", "x"])
def test_any_other_transfer_coding_is_an_error(api: Api, coding: str) -> None:
    lines = b"Transfer-Encoding: " + coding.replace(", ", "\r\nTransfer-Encoding:").encode()
    with SSEServer(raw(reply(lines, CHUNKED), HANG)) as server, api.client() as client:
        with pytest.raises(SSEConnectionError, match="transfer coding") as caught:
            api.open(client.connect(server.url, strict=False))
        assert str(caught.value) == (
            f"{server.origin} answered with transfer coding '{coding}', but only 'chunked' is supported; "
            "fix the server or the proxy: the request asks for no transfer coding"
        )
        assert len(server.requests) == 1


def test_a_transfer_coding_does_not_hide_the_status(api: Api) -> None:
    lines = b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 1, 2"
    replies = [raw(reply(lines, b"2\r\nno\r\n0\r\n\r\n", b"HTTP/1.1 404 Not Found"), HANG)]
    with SSEServer(*replies) as server, api.client() as client:
        with pytest.raises(SSEStatusError) as caught:
            api.open(client.connect(server.url))
        assert (caught.value.status, caught.value.body) == (404, b"no")


@pytest.mark.parametrize("lines", [b"Content-Length: 1, 2", b"Content-Length: 1\r\nContent-Length: 2"])
def test_different_lengths_contradict_each_other(api: Api, lines: bytes) -> None:
    with SSEServer(raw(reply(lines, BODY), HANG)) as server, api.client() as client:
        with pytest.raises(SSEConnectionError, match="contradict each other"):
            api.open(client.connect(server.url, reconnect=False))


@pytest.mark.parametrize("code", [204, 304])
@pytest.mark.parametrize("lines", [b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Content-Length: 9"])
def test_the_head_of_a_bodiless_response_is_not_taken_for_framing(api: Api, code: int, lines: bytes) -> None:
    with SSEServer(raw(b"HTTP/1.1 %d \r\n%b\r\n\r\n" % (code, lines), HANG)) as server, api.client() as client:
        conn = client.connect(server.url)
        if code == 204:
            with api.enter(conn):
                assert api.rest(conn) == []
        else:
            with pytest.raises(SSEStatusError) as caught:
                api.open(conn)
            assert (caught.value.status, caught.value.body) == (304, b"")


def test_the_response_to_head_has_no_body(api: Api) -> None:
    with SSEServer(raw(reply(b"Transfer-Encoding: chunked", b""), HANG)) as server, api.client() as client:
        with api.connect(client, server.url, "HEAD", reconnect=False) as conn:
            assert api.rest(conn) == []


# The HTTP version, further header lines, and whether the connection is used again.
KEPT = {
    "1.1": (b"1.1", b"", True),
    "1.1 with two fields": (b"1.1", b"Connection: x\r\nConnection: close\r\n", False),
    "1.1 with a length, too": (b"1.1", b"Content-Length: 5\r\n", False),
    "1.0": (b"1.0", b"", False),
    "1.0 that claims to keep it": (b"1.0", b"Connection: keep-alive\r\n", False),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_connection_with_ambiguous_framing_is_not_used_again(api: Api, name: str) -> None:
    version, lines, kept = KEPT[name]
    start = b"HTTP/%b 200 OK\r\nContent-Type: text/event-stream\r\n" % version
    answer = replace(stream(BODY), head=start + lines + b"Transfer-Encoding: chunked\r\n")
    with (
        SSEServer(answer, answer, stream(HANG)) as server,
        api.client(policy=QUICK_NO_DEDUP) as client,
        api.connect(client, server.url, keep_connection=True) as conn,
    ):
        assert [event.data for event in api.take(conn, 2)] == ["hello"] * 2
        first, second = (request.connection for request in server.wait_for_requests(2)[:2])
        assert (first == second) is kept


def test_the_headers_of_a_connection_are_a_mapping_that_ignores_case(api: Api) -> None:
    fields = [("X-Name", "value"), ("x-list", "1"), ("X-List", "2")]
    with SSEServer(stream(HANG, headers=fields)) as server, api.client() as client:
        headers = api.open(client.connect(server.url)).headers
    assert headers["x-name"] == headers["X-NAME"] == "value"
    assert headers["X-List"] == "1, 2"
    assert "X-Other" not in headers
    assert headers.get("X-Other") is None
    assert len(headers) == len(list(headers)) == len({name.lower() for name in headers})
    assert repr(ResponseHeaders([("A", "1"), ("b", "2")])) == "ResponseHeaders({'A': '1', 'b': '2'})"
