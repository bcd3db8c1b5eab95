"""Proxies: of an argument, of the environment, or of the user's pool."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from urllib3.util import Url, parse_url

from sseclient_dual.errors import SSEConnectionError

from .headers import authorization
from .tls import UnmodifiedContext, check_unmodified
from .urls import DEFAULT_PORTS, credentials, origin_of

if TYPE_CHECKING:
    from urllib3 import PoolManager

_SCHEMES = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})


@dataclass(frozen=True)
class Proxy:
    """A proxy, with the credentials and headers sent to it."""

    url: str
    """Without credentials."""
    auth: tuple[str, str] | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    config: tuple[tuple[str, Any], ...] = ()
    """Further settings of `urllib3.ProxyManager`."""

    @property
    def is_socks(self) -> bool:
        """True for a SOCKS proxy."""
        return self.url.startswith("socks")


def parse_proxy(argument: str, url: object) -> Proxy:
    """Return the proxy with this URL.

    :param argument: the argument that an error names.
    :raises TypeError: `url` is not a str.
    :raises ValueError: `url` is not the URL of a proxy, or needs PySocks, which is not installed.
    """
    if not isinstance(url, str):
        raise TypeError(f"{argument} must be a str, not {type(url).__name__}")
    try:
        parts = parse_url(url if "://" in url else f"http://{url}")  # environments often leave out the scheme
    except ValueError:
        parts = Url()
    if parts.scheme not in _SCHEMES or not parts.host:
        raise ValueError(
            f"{argument} must be a URL like http://host:port, with one of the schemes {', '.join(sorted(_SCHEMES))}"
        )
    proxy = Proxy(Url(scheme=parts.scheme, host=parts.host, port=parts.port).url, credentials(argument, parts))
    if proxy.is_socks:
        try:
            import socks  # type: ignore[import-untyped] # noqa: F401, PLC0415 - an extra
        except ImportError:
            raise ValueError(
                "proxy is a SOCKS proxy, which needs an extra: pip install 'sseclient-dual[socks]'"
            ) from None
    if proxy.auth is not None:
        authorization(proxy.auth, argument=argument)  # raises now if the credentials cannot be sent
    return proxy


def proxy_of_pool(user_pool: PoolManager, settings: dict[str, Any]) -> Proxy | None:
    """Return the proxy of the user's pool, and remove its settings from `settings`, a copy of the pool's.

    :raises ValueError: the pool has settings that would change its proxy's TLS context.
    """
    for name in ("_proxy", "_proxy_headers", "_proxy_config"):
        settings.pop(name, None)
    socks = settings.pop("_socks_options", None)
    if socks is not None:
        scheme = {(1, False): "socks4", (1, True): "socks4a", (2, False): "socks5", (2, True): "socks5h"}
        version = scheme[socks["socks_version"], bool(socks["rdns"])]
        auth = None if socks["username"] is None else (socks["username"], socks["password"] or "")
        return Proxy(Url(scheme=version, host=socks["proxy_host"], port=socks["proxy_port"]).url, auth)
    if user_pool.proxy is None:
        return None
    config = {} if user_pool.proxy_config is None else user_pool.proxy_config._asdict()
    context = config.get("ssl_context")
    if isinstance(context, ssl.SSLContext):
        check_unmodified("a proxy_ssl_context", context, config)
        context = UnmodifiedContext(context)
    return Proxy(
        user_pool.proxy._replace(auth=None).url,
        credentials("pool", user_pool.proxy),
        tuple(getattr(user_pool, "proxy_headers", {}).items()),
        (
            ("proxy_ssl_context", context),
            ("use_forwarding_for_https", config.get("use_forwarding_for_https", False)),
            ("proxy_assert_hostname", config.get("assert_hostname")),
            ("proxy_assert_fingerprint", config.get("assert_fingerprint")),
        ),
    )


def proxy_of_environment(url: str) -> Proxy | None:
    """Return the proxy that the environment sets for a URL, None if there is none.

    :raises SSEConnectionError: it is not a valid proxy.
    """
    parts = parse_url(url)
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme or "") or proxies.get("all")
    if not proxy or _bypasses_proxy(parts, proxies):
        return None
    try:
        return parse_proxy("the proxy set by the environment", proxy)
    except ValueError as error:
        raise SSEConnectionError(f"{origin_of(url)}: {error}", final=True) from None


def _bypasses_proxy(parts: Url, proxies: dict[str, str]) -> bool:
    """Return True if ``NO_PROXY`` has the host of a URL: its name, the end of its name, or its network."""
    host = (parts.host or "").strip("[]")
    port = parts.port or DEFAULT_PORTS[parts.scheme or "http"]
    names = [name.strip().strip("[]") for name in proxies.get("no", "").split(",")]
    names = [name.removeprefix("*") or "*" for name in names if name]  # some write *.example.com
    if "*" in names or proxy_bypass_environment(f"{host}:{port}", proxies | {"no": ",".join(names)}):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for name in names:
        with contextlib.suppress(ValueError):
            if address in ipaddress.ip_network(name, strict=False):
                return True
    return False
