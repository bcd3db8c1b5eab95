"""One attempt: its errors with origin and cause, and requests that do not mix."""

from __future__ import annotations

import http.client
import logging
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from sseclient_dual import ReconnectPolicy, SSEClient, SSEConnectionError, SSEStatusError
from sseclient_dual.testing import CUT, ReceivedRequest, SSEServer, raw, status, stream
from sseclient_dual.transport import Exchange
from support.policies import QUICK

if TYPE_CHECKING:
    from support.apis import Api


def test_disown_without_a_socket_does_nothing() -> None:
    with SSEServer() as server, SSEClient() as client:
        reader = client.connect(server.url)._reader
        Exchange(reader._pools, reader._request, "").disown()
        assert server.requests == []


@pytest.mark.parametrize(
    ("code", "advice"),
    [(401, "check the credentials; "), (403, "check the credentials; "), (404, "check the URL; "),
     (405, "check the method; "), (410, "")],
)  # fmt: skip
def test_a_refusal_says_what_to_check(api: Api, code: int, advice: str) -> None:
    with SSEServer(status(code)) as server, api.client() as client:
        with pytest.raises(SSEStatusError, match=f"not 200; {advice}see the error's body attribute"):
            api.open(client.connect(server.url))


def test_every_error_of_the_lower_layers_has_a_cause(api: Api) -> None:
    with SSEServer(raw(CUT), stream(CUT)) as server, api.client() as client:
        with pytest.raises(SSEConnectionError) as caught:
            api.open(client.connect(server.url, reconnect=False))
        assert isinstance(caught.value.__cause__, urllib3.exceptions.ProtocolError)
        with api.connect(client, server.url, reconnect=False) as conn, pytest.raises(SSEConnectionError) as caught:
            api.next(conn)
        assert isinstance(caught.value.__cause__, (urllib3.exceptions.HTTPError, http.client.HTTPException))


def test_no_secret_is_in_a_message_or_a_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sseclient_dual")
    replies = [status(503, "secret"), stream("secret\n"), status(404, "secret")]
    with SSEServer(stream("id: secret\ndata: x\n\n", CUT), *replies) as server:
        url = server.url.replace("://", "://user:secret@") + "path?token=secret"
        headers = {"X-Api-Key": "secret", "Cookie": "secret"}
        with api.client(policy=QUICK, headers=headers) as client, api.connect(client, url) as conn:
            assert api.next(conn).data == "x"
            with pytest.raises(SSEStatusError) as caught:
                api.next(conn)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(conn)
    ours = [record.getMessage() for record in caplog.records if record.name == "sseclient_dual"]
    assert not [message for message in ours if "secret" in message]
    warnings = [message for message in ours if "reconnecting in" in message]
    assert len(warnings) == 3
    assert all(message.startswith(f"{server.origin}: ") or f"{server.origin} " in message for message in warnings)


def test_every_error_of_a_stream_names_its_origin(api: Api) -> None:
    replies = [stream("data: x\n\nno event\n"), stream("data: " + "x" * 5000 + "\n\n"), stream()]
    with SSEServer(*replies) as server, api.client(policy=ReconnectPolicy(max_retries=0)) as client:
        for settings in ({"reconnect": False}, {"max_event_size": 1000}, {}):
            with api.connect(client, server.url, **settings) as conn, pytest.raises(SSEConnectionError) as caught:
                api.rest(conn)
            assert str(caught.value).startswith(f"{server.origin}: ")


def test_requests_of_many_connections_do_not_mix(api: Api) -> None:
    def echo(request: ReceivedRequest) -> Any:
        return stream(f"data: {request.query['n']}\n\n")

    with SSEServer(default=echo) as server, api.client() as client:
        connections = [client.connect(server.url, params={"n": n}, reconnect=False) for n in range(20)]
        for conn in connections:
            api.open(conn)
        assert [api.next(conn).data for conn in connections] == [str(n) for n in range(20)]
