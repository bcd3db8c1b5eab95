"""Forks of a process that has a connection with a checkpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEClient
from sseclient_dual.testing import HANG, SSEServer, stream
from support.forks import held, in_child
from support.streams import ONE, TWO
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")


def test_a_child_cannot_commit_for_its_parent_and_saves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "last.id"
    with SSEServer(stream(ONE, TWO, HANG)) as server, SSEClient() as client:
        with client.connect(server.url, checkpoint=path) as conn:
            next(conn)

            def work() -> None:
                with pytest.raises(RuntimeError, match="before the fork"):
                    conn.commit()
                conn.__exit__(None, None, None)

            assert in_child(work) == 0
            assert not path.exists()
            assert next(conn).data == "two"
            assert path.read_bytes() == b"1\n"


def test_a_connection_made_before_the_fork_loads_and_saves_in_the_child_that_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "last.id"
    with SSEServer(default=stream(ONE, HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url, checkpoint=path)
        assert conn._position is not None

        def work() -> None:
            with conn:
                assert conn.recv(PATIENCE).data == "one"

        path.write_text("7\n")
        thread, release = held(conn._position._lock)  # as during a call of the checkpoint
        try:
            assert in_child(work) == 0
        finally:
            release.set()
            thread.join()
        assert path.read_bytes() == b"1\n"
        assert [request.last_event_id for request in server.requests] == ["7"]
        conn.close()
