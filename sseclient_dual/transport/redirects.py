"""Redirects: the next request of a chain, and the headers that may cross origins."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from urllib3.util import parse_url

from sseclient_dual.errors import SSEConnectionError

from .urls import origin_of

if TYPE_CHECKING:
    from .headers import Headers

MAX_REDIRECTS = 20
REDIRECT_STATUSES = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.FOUND,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.PERMANENT_REDIRECT,
    }
)
_BODY_HEADERS = frozenset({"content-type", "content-length", "content-encoding", "content-language"})
_CROSS_ORIGIN_HEADERS = frozenset({"accept", "user-agent", "cache-control", "last-event-id"}) | _BODY_HEADERS


@dataclass(frozen=True)
class Hop:
    """One request of a chain of redirects."""

    method: str
    url: str
    headers: Headers
    body: bytes | None
    first_url: str
    """The URL of the first request of the chain."""

    @cached_property
    def origin(self) -> str:
        """The origin of the URL."""
        return origin_of(self.url)

    def redirected(self, status: int, location: str | None) -> Hop:
        """Return the next request, as a browser would make it (WHATWG Fetch, HTTP-redirect fetch).

        :raises SSEConnectionError: `location` is missing or is not the URL of an HTTP server.
        """
        if not location:
            raise self._invalid("has no Location header")
        with contextlib.suppress(UnicodeError):
            location = location.encode("latin-1").decode()  # http.client decodes headers as Latin-1
        try:
            target = parse_url(urljoin(self.url, location))._replace(auth=None, fragment=None)
        except ValueError:
            raise self._invalid("has a Location header that is not a URL") from None
        if target.scheme not in {"http", "https"} or not target.host:
            raise self._invalid("does not lead to an HTTP server")
        hop = replace(self, url=target.url)
        if status == HTTPStatus.SEE_OTHER or (
            status in {HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND} and self.method == "POST"
        ):
            kept = {name: value for name, value in hop.headers.items() if name not in _BODY_HEADERS}
            hop = replace(hop, method="GET", body=None, headers=kept)
        if hop.origin != self.origin:
            allowed = {name: value for name, value in hop.headers.items() if _allowed_cross_origin(name)}
            hop = replace(hop, headers=allowed)
        return hop

    def _invalid(self, why: str) -> SSEConnectionError:
        return SSEConnectionError(f"{self.origin}: a redirect {why}", remedy="check the URL", final=True)


def _allowed_cross_origin(name: str) -> bool:
    """Return True if a header may be sent to another origin. Headers about the body are sent with the body."""
    return name in _CROSS_ORIGIN_HEADERS or name.startswith("accept-")
