"""Fixtures of the transport's tests: a certificate authority, and proxies as processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from support.processes import HOST, Process
from support.proxies import CREDENTIALS, PASSWORD, USER, microsocks_with, proxy_py_with, tinyproxy_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.tls import Tls


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return an authority other than that of the fixture `tls`."""
    return trustme.CA()


@pytest.fixture(scope="module")
def tinyproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with tinyproxy_with(tmp_path_factory.mktemp("tinyproxy")) as process:
        yield process


@pytest.fixture(scope="module")
def proxy_py(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Run proxy.py, which requires credentials with special characters."""
    with proxy_py_with(tmp_path_factory.mktemp("proxy.py"), "--basic-auth", f"{USER}:{PASSWORD}") as process:
        yield process


@pytest.fixture(scope="module")
def proxy_py_tls(tls_of_proxy: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Run proxy.py with TLS; it requires the same credentials."""
    certificate, _ = tls_of_proxy
    options = ["--cert-file", str(certificate), "--key-file", str(certificate)]
    folder = tmp_path_factory.mktemp("proxy.py-tls")
    with proxy_py_with(folder, "--basic-auth", f"{USER}:{PASSWORD}", *options) as process:
        yield process


@pytest.fixture(scope="module")
def tls_of_proxy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the paths of a proxy's certificate with its key, and of its authority, which signs no server."""
    folder = tmp_path_factory.mktemp("tls-of-proxy")
    authority = trustme.CA()
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(folder / "proxy.pem"))
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    return folder / "proxy.pem", str(folder / "authority.pem")


@pytest.fixture(scope="module")
def both_authorities(tls: Tls, tls_of_proxy: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("authorities") / "both.pem"
    path.write_bytes(b"".join(Path(name).read_bytes() for name in (tls[1], tls_of_proxy[1])))
    return str(path)


@pytest.fixture(scope="module")
def microsocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with microsocks_with(tmp_path_factory.mktemp("microsocks")) as process:
        yield process


@pytest.fixture(scope="module")
def microsocks_auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with microsocks_with(tmp_path_factory.mktemp("microsocks"), "-u", USER, "-P", PASSWORD) as process:
        yield process


# For each proxy: the pattern of its URL, and the fixture that runs it.
HTTP_PROXIES = {
    "tinyproxy": ("http://127.0.0.1:{}", "tinyproxy"),
    "proxy.py": (f"http://{CREDENTIALS}@127.0.0.1:{{}}", "proxy_py"),
    "proxy.py over TLS": (f"https://{CREDENTIALS}@127.0.0.1:{{}}", "proxy_py_tls"),
}
SOCKS_PROXIES = {
    "socks5": ("socks5://127.0.0.1:{}", "microsocks"),
    "socks5h": ("socks5h://127.0.0.1:{}/", "microsocks"),
    "socks5 with credentials": (f"socks5://{CREDENTIALS}@127.0.0.1:{{}}", "microsocks_auth"),
}
PROXIES = HTTP_PROXIES | SOCKS_PROXIES


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest) -> tuple[str, Process]:
    """Run the test once per proxy; return its URL and its process."""
    url, fixture = PROXIES[request.param]
    process: Process = request.getfixturevalue(fixture)
    return url.format(process.port), process
