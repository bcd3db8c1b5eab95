"""Memory: unused connections are freed without the garbage collector."""

from __future__ import annotations

import gc
import itertools
import traceback
import weakref
from functools import partial
from typing import TYPE_CHECKING

import pytest
import urllib3

from sseclient_dual import Interrupted, SSEClient, SSEConnectionError, SSEStatusError
from sseclient_dual.testing import CUT, HANG, Reply, SSEServer, status, stream
from support.handoffs import Job
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def without_gc() -> Iterator[None]:
    """Disable the garbage collector, so that only reference counting frees objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_gc")
@pytest.mark.parametrize("reply", [status(404), stream("data: x\n\n", HANG)], ids=["refused", "open"])
def test_a_dropped_connection_is_freed_without_garbage_collection(reply: Reply) -> None:
    def use(client: SSEClient, url: str) -> tuple[weakref.ref[object], weakref.ref[object]]:
        conn = client.connect(url)
        try:
            next(conn)
        except SSEStatusError as error:
            inner = error.__context__, traceback.format_exception(error)
            assert inner[0] is None
            assert not [line for line in inner[1] if "handoff.py" in line]
        return weakref.ref(conn), weakref.ref(conn._reader)

    with SSEServer(reply) as server, SSEClient() as client:
        # In a thread: other tests raise errors in `except` blocks of this one, and the interpreter keeps them.
        conn, reader = Job(partial(use, client, server.url)).result()
        # The reader may still be ending, and its error still refers to the frames of this test.
        wait_until(lambda: conn() is None and reader() is None, "the reader's end")


@pytest.mark.usefixtures("without_gc")
def test_a_kept_signal_does_not_keep_its_connection_alive() -> None:
    with SSEServer(stream("data: " + "x" * 100_000, CUT), stream(HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url)
        _, interrupted = itertools.islice(conn.signals(), 2)
        assert isinstance(interrupted, Interrupted)
        reader = weakref.ref(conn._reader)
        del conn
        wait_until(lambda: reader() is None, "the reader's end")
        assert isinstance(interrupted.error, SSEConnectionError)
        assert isinstance(interrupted.error.__cause__, urllib3.exceptions.ProtocolError)


def test_a_kept_tcp_connection_is_closed_with_its_client() -> None:
    def use(url: str) -> None:
        client = SSEClient()
        with client.connect(url, "POST", data=b"x" * 1000, keep_connection=True) as conn:
            assert len(list(conn)) == 1

    with SSEServer(default=stream("data: x\n\n")) as server:
        use(server.url)
        gc.collect()
        server.wait_for_connections(0)
