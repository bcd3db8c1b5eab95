"""The members of urllib3 that the package overrides or uses exist, with the expected parameters."""

from __future__ import annotations

import ast
import inspect
import re
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import urllib3
import urllib3.connection
from urllib3.contrib.socks import SOCKSConnection, SOCKSProxyManager

from sseclient_dual.transport import connections, socks_proxy

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
URLLIB3 = f"urllib3 {version('urllib3')}"

# -- the checks


def check_overrides(own: type, base: type, names: tuple[str, ...]) -> None:
    """Fail if `base`, a class of urllib3, lacks a member that `own` overrides, or has other parameters for it."""
    problems = problems_of(base.__name__, base, names, "overrides")
    for name in names:
        ours, theirs = getattr(own, name), getattr(base, name, None)
        if inspect.isfunction(ours) and inspect.isfunction(theirs) and parameters(ours) != parameters(theirs):
            problems.append(
                f"{URLLIB3} has {base.__name__}.{name}{parameters(theirs)}, which "
                f"sseclient_dual overrides with parameters {parameters(ours)}: see docs/design.rst"
            )
    fail_with(problems)


def check_uses(label: str, example: object, names: tuple[str, ...]) -> None:
    """Fail if `example`, an object of urllib3, lacks a member that the package uses."""
    fail_with(problems_of(label, example, names, "uses"))


def problems_of(label: str, example: object, names: tuple[str, ...], verb: str) -> list[str]:
    return [
        f"{URLLIB3} has no {label}.{name}, which sseclient_dual {verb}: see docs/design.rst"
        for name in names
        if not has(example, name)
    ]


def has(example: object, name: str) -> bool:
    return name in example if isinstance(example, dict) else hasattr(example, name)


def parameters(function: Callable[..., object]) -> str:
    """Return the parameters of a function without annotations."""
    found = inspect.signature(function).parameters.values()
    return str(inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in found]))


def fail_with(problems: list[str]) -> None:
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


# -- the members

CONNECTION = ("_new_conn", "_tunnel", "connect", "getresponse", "response_class", "send")
POOL = ("ConnectionCls", "_put_conn", "_validate_conn")
OVERRIDES: list[tuple[type, type, tuple[str, ...]]] = [
    (connections.HTTPConnection, urllib3.connection.HTTPConnection, CONNECTION),
    (connections.HTTPSConnection, urllib3.connection.HTTPSConnection, CONNECTION),
    (connections.HTTPConnectionPool, urllib3.HTTPConnectionPool, POOL),
    (connections.HTTPSConnectionPool, urllib3.HTTPSConnectionPool, POOL),
    (socks_proxy._SOCKSHTTPConnection, SOCKSConnection, CONNECTION),
    (socks_proxy._SOCKSHTTPSConnection, urllib3.connection.HTTPSConnection, CONNECTION),
    (socks_proxy._SOCKSHTTPPool, urllib3.HTTPConnectionPool, POOL),
    (socks_proxy._SOCKSHTTPSPool, urllib3.HTTPSConnectionPool, POOL),
]


def proxy_manager() -> urllib3.ProxyManager:
    return urllib3.ProxyManager("http://proxy.test:3128")


def socks_settings() -> dict[str, Any]:
    return SOCKSProxyManager("socks5h://proxy.test:1080").connection_pool_kw


def response_options() -> object:
    """Return the options that a connection keeps between sending a request and reading its response."""
    connection = urllib3.connection.HTTPConnection("example.test")
    connection.sock = Mock()
    connection.request("GET", "/")
    return connection._response_options


# Objects, not classes: some attributes exist only after __init__.
USES: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "HTTPConnection": (
        lambda: urllib3.connection.HTTPConnection("example.test"),
        ("_dns_host", "_response_options", "close", "default_socket_options", "host", "is_closed", "port", "proxy",
         "sock", "socket_options", "source_address", "timeout"),
    ),
    "HTTPConnection._response_options": (response_options, ("_replace", "request_url")),
    "HTTPSConnection": (
        lambda: urllib3.connection.HTTPSConnection("example.test"),
        ("assert_fingerprint", "assert_hostname", "ca_cert_data", "ca_cert_dir", "ca_certs", "cert_file", "cert_reqs",
         "key_file", "proxy_config", "proxy_is_forwarding", "ssl_context"),
    ),
    "SOCKSConnection": (
        lambda: SOCKSConnection(socks_settings()["_socks_options"], "example.test"),
        ("_socks_options",),
    ),
    "HTTPResponse": (urllib3.HTTPResponse, ("CONTENT_DECODERS", "connection")),
    "PoolManager": (
        urllib3.PoolManager,
        ("clear", "connection_pool_kw", "headers", "pool_classes_by_scheme", "proxy", "proxy_config"),
    ),
    "ProxyManager": (proxy_manager, ("pool_classes_by_scheme", "proxy", "proxy_config", "proxy_headers")),
    "ProxyManager.proxy_config": (
        lambda: proxy_manager().proxy_config,
        ("_asdict", "assert_fingerprint", "assert_hostname", "ssl_context", "use_forwarding_for_https"),
    ),
    "ProxyManager.connection_pool_kw": (
        lambda: proxy_manager().connection_pool_kw,
        ("_proxy", "_proxy_config", "_proxy_headers"),
    ),
    "SOCKSProxyManager": (
        lambda: SOCKSProxyManager("socks5h://proxy.test:1080"),
        ("connection_pool_kw", "pool_classes_by_scheme"),
    ),
    "SOCKSProxyManager.connection_pool_kw": (socks_settings, ("_socks_options",)),
    "SOCKSConnection._socks_options": (
        lambda: socks_settings()["_socks_options"],
        ("password", "proxy_host", "proxy_port", "rdns", "socks_version", "username"),
    ),
}  # fmt: skip
NAMEDTUPLE_METHODS = {"_asdict", "_replace"}  # public in spite of their names
LISTED = {name for _, _, names in OVERRIDES for name in names} | {
    name for _, names in USES.values() for name in names
}
PRIVATE = {name for name in LISTED if name.startswith("_")} - NAMEDTUPLE_METHODS


@pytest.mark.parametrize(("own", "base", "names"), OVERRIDES, ids=[own.__name__ for own, *_ in OVERRIDES])
def test_urllib3_has_the_members_that_the_package_overrides(own: type, base: type, names: tuple[str, ...]) -> None:
    check_overrides(own, base, names)


@pytest.mark.parametrize("label", USES)
def test_urllib3_has_the_members_that_the_package_uses(label: str) -> None:
    make, names = USES[label]
    check_uses(label, make(), names)


# -- the lists are complete


@pytest.mark.parametrize(("own", "base", "names"), OVERRIDES, ids=[own.__name__ for own, *_ in OVERRIDES])
def test_every_override_is_listed(own: type, base: type, names: tuple[str, ...]) -> None:
    classes = [cls for cls in own.__mro__ if cls.__module__.startswith("sseclient_dual.")]
    defined = {name for cls in classes for name in vars(cls)}
    overrides = {name for name in defined if hasattr(base, name) and not name.startswith("__")}
    assert overrides == set(names)


def test_every_private_name_of_urllib3_in_the_transport_is_listed() -> None:
    examples = [base for _, base, _ in OVERRIDES] + [make() for make, _ in USES.values()]
    mentioned: set[str] = set()
    for file in (ROOT / "sseclient_dual" / "transport").glob("*.py"):
        if file.name != "response.py":  # subclasses http.client, not urllib3
            mentioned |= private_names(file.read_text(encoding="utf-8"))
    of_urllib3 = {name for name in mentioned if any(has(example, name) for example in examples)}
    assert of_urllib3 - NAMEDTUPLE_METHODS == PRIVATE


def private_names(source: str) -> set[str]:
    """Return the attributes, functions and strings in a source that begin with one underscore."""
    found: set[Any] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Constant):
            found.add(node.value)
    return {name for name in found if isinstance(name, str) and re.fullmatch(r"_[a-z]\w*", name)}


def test_the_docs_list_exactly_the_private_members() -> None:
    text = (ROOT / "docs" / "design.rst").read_text(encoding="utf-8")
    table = re.split(r"^\S", text.partition("   * - internal\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    first_cells = re.findall(r"^   \* - (.+)$", table, re.MULTILINE)
    documented = [name for cell in first_cells for name in re.findall(r"``(.+?)``", cell)]
    assert sorted(documented) == sorted(PRIVATE), "update the table of urllib3's internals in docs/design.rst"


# -- the checks can fail


def test_a_missing_override_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(urllib3.HTTPConnectionPool, "_put_conn")
    with pytest.raises(pytest.fail.Exception) as caught:
        check_overrides(connections.HTTPConnectionPool, urllib3.HTTPConnectionPool, POOL)
    assert str(caught.value) == (
        f"{URLLIB3} has no HTTPConnectionPool._put_conn, which sseclient_dual overrides: see docs/design.rst"
    )


@pytest.mark.parametrize("name", ["_put_conn", "_validate_conn"])
def test_an_override_with_other_parameters_is_reported(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def changed(self: object, conn: object, *, reason: str | None = None) -> None:
        """Have a parameter that the method of urllib3 does not have."""

    monkeypatch.setattr(urllib3.HTTPSConnectionPool, name, changed)
    with pytest.raises(pytest.fail.Exception) as caught:
        check_overrides(connections.HTTPSConnectionPool, urllib3.HTTPSConnectionPool, (name,))
    assert str(caught.value) == (
        f"{URLLIB3} has HTTPSConnectionPool.{name}(self, conn, *, reason=None), which "
        "sseclient_dual overrides with parameters (self, conn): see docs/design.rst"
    )


@pytest.mark.parametrize("example", [SimpleNamespace(port=80), {"port": 80}], ids=["attribute", "key"])
def test_a_missing_member_is_reported(example: object) -> None:
    with pytest.raises(pytest.fail.Exception) as caught:
        check_uses("HTTPConnection", example, ("_dns_host", "port"))
    assert str(caught.value) == (
        f"{URLLIB3} has no HTTPConnection._dns_host, which sseclient_dual uses: see docs/design.rst"
    )
