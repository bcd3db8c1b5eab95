"""URLs: checks, and the credentials in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEClient
from sseclient_dual.testing import SSEServer, stream

if TYPE_CHECKING:
    from support.apis import Api


def test_no_secret_is_in_the_message_of_a_bad_url() -> None:
    with SSEClient() as client, pytest.raises(ValueError, match="url") as caught:
        client.connect("http://user:secret@host:port/?key=secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_credentials_in_the_url_are_sent_and_stripped(api: Api) -> None:
    with SSEServer(stream("data: x\n\n")) as server, api.client() as client:
        url = server.url.replace("://", "://m%C3%BCller:p%40ss%3A@")
        with api.connect(client, url) as conn:
            api.next(conn)
            assert conn.url == conn.response_url == server.url
        assert server.requests[0].headers["Authorization"] == "Basic bcO8bGxlcjpwQHNzOg=="
