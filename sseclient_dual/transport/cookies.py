"""`Cookies`: the cookies of a client, sent and stored by the rules of the standard library's cookie jar."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.request import Request

from sseclient_dual.checks import encode_utf8
from sseclient_dual.waiting import Lock, renew_locks_after_fork

from .headers import is_field_value, is_token, merge

if TYPE_CHECKING:
    from http.cookiejar import CookieJar

    from typing_extensions import Self
    from urllib3 import HTTPHeaderDict

    from .headers import Headers
    from .redirects import Hop

CookiesArgument: TypeAlias = "Mapping[str, str] | CookieJar | None"

# The least that a browser stores (RFC 6265, section 6.1). A server can store no more.
_MOST = 3000  # cookies
_LONGEST = 4096  # bytes of a cookie with its attributes

# For a Max-Age without a value, the standard library warns of a bug and ignores all cookies of the response.
_empty_max_age = re.compile(r";\s*max-age\s*(?=;|$)", re.IGNORECASE)


class Cookies:
    """The cookies of a client. Only worker threads use them, because the user's jar may run code of the user.

    :param cookies: a jar, which is used as it is; or names and values, for the host of each connection's URL.
    :raises TypeError: `cookies` is neither, or has names or values of the wrong type.
    :raises ValueError: a name or value contains a character that a cookie cannot have.
    """

    def __init__(self, cookies: Mapping[str, str] | CookieJar) -> None:
        from http.cookiejar import CookieJar, DefaultCookiePolicy  # noqa: PLC0415 - only for clients with cookies

        self._given: list[str] = []
        if isinstance(cookies, CookieJar):
            self._jar = cookies
        elif isinstance(cookies, Mapping):
            self._given = [_pair(name, value) for name, value in cookies.items()]
            # As in browsers, a cookie without a domain is not sent to the subdomains of its host.
            self._jar = CookieJar(DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain))
        else:
            raise TypeError(f"cookies must be a mapping or an http.cookiejar.CookieJar, not {type(cookies).__name__}")
        self._most = len(self._jar) + _MOST
        self._lock = Lock()  # guards _hosts, and the jar against changes while its cookies are counted
        self._hosts: set[str] = set()  # which have the given cookies
        renew_locks_after_fork(self)

    def _renew_locks(self) -> None:
        """See `waiting.LockOwner`; called in a forked child."""
        self._lock = Lock()
        vars(self._jar)["_cookies_lock"] = threading.RLock()  # the standard library has no hook for this

    def fields(self, hop: Hop) -> Headers:
        """Return the headers with the cookies to send.

        :raises ValueError: a cookie of the user's jar contains a control character.
        """
        request = _request(hop)
        with self._lock:
            if hop.url == hop.first_url:
                self._give(request)
            self._jar.add_cookie_header(request)
        fields = {name: _encoded(value) for name, value in request.unredirected_hdrs.items()}
        if not all(map(is_field_value, fields.values())):
            raise ValueError("cookies has a cookie with a control character (such as CR or LF)")
        return merge(fields)

    def store(self, hop: Hop, headers: HTTPHeaderDict) -> None:
        """Store the cookies of a response."""
        with self._lock:
            if not self._is_full():
                self._extract(headers.getlist("Set-Cookie"), _request(hop))

    def _give(self, request: Request) -> None:
        """Store the given cookies for the host of a connection's URL: only once, as the server may replace them."""
        if self._given and request.origin_req_host not in self._hosts:
            self._hosts.add(request.origin_req_host)
            attributes = "; Path=/; Secure" if request.type == "https" else "; Path=/"
            self._extract([pair + attributes for pair in self._given], request)

    def _extract(self, fields: list[str], request: Request) -> None:
        storable = [_empty_max_age.sub("", field) for field in fields if _is_storable(_encoded(field))]
        response: Any = _Response(storable)
        self._jar.extract_cookies(response, request)

    def _is_full(self) -> bool:
        with contextlib.suppress(RuntimeError):  # other code changed the user's jar meanwhile
            return len(self._jar) >= self._most
        return False


class _Response:
    """A response with these ``Set-Cookie`` fields, as a jar reads it."""

    def __init__(self, fields: list[str]) -> None:
        self._lines = fields

    def info(self) -> Self:
        return self

    def get_all(self, name: str, default: list[str]) -> list[str]:
        return self._lines if name == "Set-Cookie" else default


def _request(hop: Hop) -> Request:
    """Return the request as a jar reads it."""
    if hop.url == hop.first_url:
        return Request(hop.url)  # noqa: S310 - nothing opens it
    return Request(hop.url, origin_req_host=Request(hop.first_url).origin_req_host, unverifiable=True)  # noqa: S310


def _pair(name: object, value: object) -> str:
    """Return a name and a value as in a ``Set-Cookie`` field.

    :raises TypeError: they have the wrong type.
    :raises ValueError: they contain a character that a cookie cannot have.
    """
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"cookies must map names to str, not {name!r} to {type(value).__name__}")
    if not is_token(name):
        raise ValueError("cookies has a name with a character that HTTP does not allow in names")
    raw = encode_utf8("cookies", value)
    if b";" in raw or not is_field_value(raw):
        raise ValueError(f"cookies has a semicolon or a control character in the value of {name!r}")
    return f"{name}={raw.decode('latin-1')}"


def _encoded(text: str) -> bytes:
    """Return the bytes of a field, whose text is decoded as Latin-1 unless it comes from the user's jar."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _is_storable(field: bytes) -> bool:
    return len(field) <= _LONGEST and is_field_value(field) is not None
