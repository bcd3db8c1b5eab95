"""URLs: checks, origins and credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode

from urllib3.util import parse_url

from sseclient_dual.checks import check_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from urllib3.util import Url

DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL (WHATWG HTML 7.1.1), without the port if it is the scheme's default."""
    parts = parse_url(url)
    default = DEFAULT_PORTS.get(parts.scheme or "")
    port = "" if parts.port in {None, default} else f":{parts.port}"
    return f"{parts.scheme}://{parts.host}{port}"


def check_url(url: object) -> tuple[str, tuple[str, str] | None]:
    """Return `url` without credentials and fragment; and the credentials.

    :raises TypeError: `url` is not a str.
    :raises ValueError: `url` is not an http or https URL with a host.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    try:
        parts = parse_url(url)
    except ValueError:
        # Without its cause, which would show the URL and its credentials.
        raise ValueError("url cannot be parsed: it must look like https://host/path") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError("url must begin with http:// or https://")
    if not parts.host:
        raise ValueError("url has no host")
    plain = parts._replace(auth=None, fragment=None, query=parts.query or None, path=parts.path or "/")
    return plain.url, credentials("url", parts)


def with_params(url: str, params: object) -> str:
    """Return a URL of `check_url` with `params` added to its query.

    :raises TypeError: `params` is neither a mapping nor pairs.
    :raises ValueError: `params` contains a lone surrogate.
    """
    added = encode_form("params", check_pairs("params", params))
    if not added:
        return url
    return f"{url}{'&' if '?' in url else '?'}{added}"


def credentials(name: str, parts: Url) -> tuple[str, str] | None:
    """Return the user and password of a URL, percent-decoded; None if it has none.

    :param name: the argument that an error names.
    :raises ValueError: the decoded credentials are not UTF-8.
    """
    if not parts.auth:
        return None
    user, _, password = parts.auth.partition(":")
    try:
        return unquote(user, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError:
        # Without its cause, which would show the credentials.
        raise ValueError(f"{name} has credentials that are not percent-encoded UTF-8") from None


def encode_form(name: str, pairs: Iterable[tuple[Any, Any]]) -> str:
    """Return `pairs` as application/x-www-form-urlencoded; pairs whose value is None are left out.

    :param name: the argument that an error names.
    :raises ValueError: a pair contains a lone surrogate.
    """
    try:
        return urlencode([(key, value) for key, value in pairs if value is not None], doseq=True)
    except UnicodeEncodeError:
        raise ValueError(f"{name} contains a lone surrogate, which UTF-8 cannot encode") from None
