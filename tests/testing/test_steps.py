"""Steps of a script: gates, pauses, callables; disconnects, and the close of the server."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sseclient_dual.testing import CUT, HANG, RESET, Gate, SSEServer, Step, pause, raw, status, stream
from support.dialling import CHUNKED, Contexts, answer, dial, expect, get, read, read_all
from support.leaks import workers
from support.waiting import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator


# --- steps --------------------------------------------------------------------------------------------------


def test_a_gate_holds_the_next_steps() -> None:
    gate = Gate()
    with SSEServer(stream("a", gate, "b", HANG)) as server, dial(server) as sock:
        with pytest.raises(TimeoutError, match="no connection reached the gate"):
            gate.wait_reached(0)
        get(sock)
        gate.wait_reached()
        expect(sock, CHUNKED + b"1\r\na\r\n")
        assert not gate.is_open
        gate.open()
        assert gate.is_open
        expect(sock, b"1\r\nb\r\n")


def test_a_gate_opens_for_all_connections() -> None:
    gate = Gate()
    with SSEServer(stream(gate, "a"), default=stream(gate, "a")) as server:
        with dial(server) as one, dial(server) as two:
            for sock in one, two:
                get(sock, "/", "Connection: close")
                assert read(sock, len(CHUNKED)) == CHUNKED
            threading.Thread(target=gate.open).start()
            assert read_all(one) == read_all(two) == b"1\r\na\r\n0\r\n\r\n"
        gate.open()
        with dial(server) as sock:
            get(sock, "/", "Connection: close")
            assert read_all(sock) == CHUNKED + b"1\r\na\r\n0\r\n\r\n"


def test_pause_waits() -> None:
    times: list[float] = []

    def note() -> Step:
        times.append(time.monotonic())
        return ()

    answer(stream(note, pause(0.05), note))
    assert times[1] - times[0] >= 0.05


def test_data_received_during_a_wait_is_kept() -> None:
    gate = Gate()
    with SSEServer(stream(gate, pause(0), "a"), status(204)) as server, dial(server) as sock:
        get(sock)
        gate.wait_reached()
        get(sock, "/next", "Connection: close")
        gate.open()
        assert read_all(sock) == CHUNKED + b"1\r\na\r\n0\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
        assert [request.target for request in server.requests] == ["/", "/next"]


def test_callables_and_iterables_are_evaluated_when_reached() -> None:
    gate, called = Gate(), list[str]()

    def steps() -> Iterator[Step]:
        called.append("begun")
        yield "a", gate
        called.append("gone on")
        yield lambda: ["b", lambda: "c"]

    with SSEServer(stream(steps, CUT)) as server, dial(server) as sock:
        assert not called
        get(sock)
        gate.wait_reached()
        assert called == ["begun"]
        gate.open()
        assert read_all(sock) == CHUNKED + b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n"
        assert called == ["begun", "gone on"]


def test_an_endless_stream_ends_when_the_peer_disconnects() -> None:
    with SSEServer(stream(lambda: (f"data: {n}\n\n" for n in itertools.count()))) as server:
        with dial(server) as sock:
            get(sock)
            assert b"data: 99\n" in read(sock, 9999)
        server.wait_for_connections(0)


# --- disconnects and close ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["FIN", "RST"])
@pytest.mark.parametrize("step", [HANG, Gate(), pause(LONG)], ids=["HANG", "Gate", "pause"])
def test_a_disconnect_is_detected(step: Step, end: str) -> None:
    with SSEServer(stream("a", step)) as server:
        with dial(server) as sock:
            get(sock)
            expect(sock, CHUNKED + b"1\r\na\r\n")
            server.wait_for_connections(1)
            if end == "RST":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.wait_for_connections(0)


@pytest.mark.parametrize("step", [HANG, Gate(), pause(LONG)], ids=["HANG", "Gate", "pause"])
def test_close_ends_every_wait(step: Step) -> None:
    server = SSEServer(stream("a", step)).start()
    with dial(server) as idle, dial(server) as silent, dial(server) as busy:
        get(idle, "/", "Content-Length: 5")
        get(busy)
        expect(busy, CHUNKED + b"1\r\na\r\n")
        server.wait_for_connections(3)
        server.close()
        assert read_all(idle) == read_all(silent) == read_all(busy) == b""


@pytest.mark.parametrize("tls", [False, True])
def test_close_ends_a_blocked_send(tls: bool, contexts: Contexts) -> None:
    reached = threading.Event()

    def reach() -> Step:
        reached.set()
        return ()

    reply = stream(b"x" * (1 << 26), reach)
    server = SSEServer(reply, tls=contexts.server if tls else None).start()
    with dial(server) as plain, contexts.wrap(plain) if tls else plain as sock:
        get(sock)
        assert read(sock, 300).endswith(b"xxx")
        server.close()
        assert not reached.is_set()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc/self/fd")
def test_close_leaves_no_descriptors_and_threads() -> None:
    def open_resources() -> tuple[list[str], set[threading.Thread]]:
        threads = set(threading.enumerate()).difference(workers())  # those of an earlier test end by themselves
        return os.listdir("/proc/self/fd"), threads  # noqa: PTH208 - opens the same one each time

    gc.collect()
    before = open_resources()
    gate = Gate()
    with SSEServer(stream(HANG), stream(gate), stream(pause(LONG)), raw(RESET), handshake=gate) as server:
        gate.open()
        with (
            dial(server),
            dial(server) as one,
            dial(server) as two,
            dial(server) as three,
            dial(server) as four,
        ):
            for sock in one, two, three, four:
                get(sock)
            server.wait_for_requests(4)
            server.refuse()
            server.listen()
    assert open_resources() == before


def test_close_waits_for_the_script() -> None:
    called, release, continued = threading.Event(), threading.Event(), threading.Event()

    def block() -> Step:
        called.set()
        assert release.wait(10)
        continued.set()
        return ()

    server = SSEServer(stream(block)).start()
    closer = threading.Thread(target=server.close)
    with dial(server) as sock:
        get(sock)
        assert called.wait(10)
        closer.start()
        assert read_all(sock) == CHUNKED  # it ends once close() waits for the threads
        closer.join(0.05)
        assert closer.is_alive()
        release.set()
        closer.join()
    assert continued.is_set()


def test_start_and_close_may_be_called_again() -> None:
    server = SSEServer(default=stream("a"))
    server.close()
    assert server.start() is server
    url = server.url
    server.listen()
    server.close()
    server.close()
    with server:
        assert server.url == url
        with dial(server) as sock:
            get(sock, "/", "Connection: close")
            assert read_all(sock).endswith(b"0\r\n\r\n")


def test_an_unclosed_server_does_not_keep_the_process_alive() -> None:
    code = "from sseclient_dual.testing import SSEServer; SSEServer().start()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
