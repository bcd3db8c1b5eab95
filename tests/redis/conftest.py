"""Fixtures for the tests with Redis: a server that all tests of a process share, and names for each test."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual.testing import SSEServer
from support.ingests import StreamInRedis
from support.journals import Journal
from support.redis_servers import RedisServer, engines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a running server without persistence, which tests share: each uses its own `stream` only."""
    with RedisServer(tmp_path_factory.mktemp("redis") / "data") as process:
        yield process


@pytest.fixture
def stream() -> str:
    """Return the name of a stream that no other test uses."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def raw(server: RedisServer) -> Iterator[Any]:
    """Return a client of the shared server for the test's own commands."""
    with server.client() as client:
        yield client


@pytest.fixture(params=engines(), ids=lambda path: path.rsplit("/", 1)[1])
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> RedisServer:
    """Return a server that is not started, for one test; the test runs once with each engine on this machine."""
    return RedisServer(tmp_path / "data", "appendonly yes", "appendfsync always", binary=request.param)


@pytest.fixture
def journal() -> Journal:
    """Return an upstream that replays."""
    return Journal()


@pytest.fixture
def upstream(journal: Journal) -> Iterator[SSEServer]:
    """Serve the journal."""
    with SSEServer(default=journal) as server:
        yield server


@pytest.fixture
def prices(raw: Any, stream: str) -> StreamInRedis:
    """Return the stream of this test."""
    return StreamInRedis(raw, stream)
