"""Fixtures of every test: no leaks, no proxies, a working Ctrl-C, both APIs, TLS."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, settings

from sseclient_dual import SSEClient
from sseclient_dual.testing import SSEServer
from sseclient_dual.transport.callables import private_loop
from support.apis import drive
from support.leaks import Leftovers, running_hub
from support.processes import restore_ctrl_c
from support.tls import make_tls
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.apis import Api
    from support.tls import Tls

# Failed assertions in these modules show the compared values, as in test files.
pytest.register_assert_rewrite(
    "support.command", "support.dialling", "support.ingests", "support.parsing", "support.proxies"
)


# A busy machine may take any time for an example.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def small_heap() -> Iterator[None]:
    """Make garbage collection fast, which many tests call: it skips the objects that exist before the first test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def hub() -> Iterator[None]:
    """Keep the hub's thread, which all tests use."""
    with running_hub():
        yield


@pytest.fixture(scope="session", autouse=True)
def event_loop_of_callables() -> None:
    """Start the private loop of async callables: it runs until the end of the process."""
    private_loop()


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail the test if a thread or a socket of the test or of its fixtures remains afterwards."""
    leftovers = Leftovers()
    yield
    if left := leftovers.settle():
        pytest.fail(f"still open {PATIENCE:g} s after the test: {', '.join(left)}", pytrace=False)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the proxies of this machine, so that tests connect directly unless they set a proxy."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Make Ctrl-C work as in a terminal, here and in the processes that tests start."""
    restore_ctrl_c()


@pytest.fixture(params=["sync", "async"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """Run the test once per API."""
    with drive(request.param) as driven:
        yield driven


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """Return a server's context for 127.0.0.1, and the path of the authority that signed its certificate."""
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def both_versions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once per version of HTTP, which servers and clients then use by default."""
    if request.param == "HTTP/2":
        for cls, value in ((SSEServer, True), (SSEClient, "prior-knowledge")):
            monkeypatch.setitem(cast("dict[str, object]", cls.__init__.__kwdefaults__), "http2", value)
    version: str = request.param
    return version


@pytest.fixture
def untraced() -> Iterator[None]:
    """Disable coverage tracing, because its locks must not be interrupted."""
    previous = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(previous)
