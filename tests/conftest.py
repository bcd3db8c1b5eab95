"""Fixtures of every test: no leaks, no proxies, a working Ctrl-C, both APIs, TLS."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from support.apis import drive
from support.leaks import Leftovers
from support.tls import make_tls
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.apis import Api
    from support.tls import Tls

# Assertions of these show the values that they compare, as those of test files do.
pytest.register_assert_rewrite("support.command", "support.dialling", "support.parsing", "support.proxies")


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail the test if a thread or a socket that it made, or a fixture for it, is still there afterwards."""
    leftovers = Leftovers()
    yield
    if left := leftovers.settle():
        pytest.fail(f"left behind by the test, {PATIENCE:g} s after its end: {', '.join(left)}", pytrace=False)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the proxies of this machine: what a test connects to it connects to directly, unless it says so."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Have Ctrl-C work as in a terminal, here and in processes that tests start.

    A shell makes what it runs in the background ignore it, and that is handed down.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["sync", "async"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """Run the test once per API."""
    with drive(request.param) as driven:
        yield driven


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """Give a server's context for 127.0.0.1, and the path of the authority that signed its certificate."""
    return make_tls(tmp_path_factory.mktemp("tls"))
