"""TLS contexts that check nothing, and connections whose certificate is accepted or rejected."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEConnectionError
from support.policies import QUICK

if TYPE_CHECKING:
    from sseclient_dual.testing import SSEServer
    from support.apis import Api


def unverified_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def read_one(api: Api, client_options: dict[str, Any], url: str, **options: Any) -> str:
    with api.client(**({"policy": QUICK} | client_options)) as client, api.connect(client, url, **options) as conn:
        return api.next(conn).data


def rejected(api: Api, client_options: dict[str, Any], server: SSEServer, **options: Any) -> str:
    """Return the message of a rejected certificate; assert that the error is final with reconnecting on."""
    before = len(server.requests)
    with api.client(**({"policy": QUICK} | client_options)) as client:
        with pytest.raises(SSEConnectionError) as caught:
            api.open(client.connect(server.url, reconnect=True, **options))
    assert len(server.requests) == before
    assert caught.value.final
    assert f"the certificate of {server.origin} was rejected" in str(caught.value)
    return str(caught.value)
