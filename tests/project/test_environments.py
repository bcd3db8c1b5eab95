"""Supported environments: forked and spawned processes, greenlets, other event loops, thread pools, module imports.

`test_process_ends.py` has more tests of forks. Servers and scripts run as separate processes here: patches, forks and
threads would affect this process.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib
import json
import multiprocessing
import os
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from servers.running import Server, need, python
from sseclient_dual import SSEClient, SSEClosedError, SSEEvent
from sseclient_dual.testing import CUT, HANG, Gate, Reply, SSEServer, pause, stream
from support.apis import drive
from support.policies import RESTARTS
from support.processes import HOST, run
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from sseclient_dual import SSEConnection
    from sseclient_dual.testing import ReceivedRequest, Step

    MakeLoop = Callable[[], asyncio.AbstractEventLoop]
    from support.tls import Tls

T = TypeVar("T")

MANY = 8  # concurrent streams
DROPPED = 5  # events after which the connection drops
EVENTS = 12
ALL = [str(number) for number in range(1, EVENTS + 1)]


def numbered(request: ReceivedRequest) -> Reply:
    """Send the first events and drop the connection; after the reconnect send the rest, then keep silent."""
    first = int(request.last_event_id or 0) + 1
    events = [SSEEvent(str(number), id=str(number)) for number in ALL[first - 1 :]]
    return stream(events[:DROPPED], CUT) if first == 1 else stream(events, HANG)


@pytest.fixture
def url() -> Iterator[str]:
    with SSEServer(default=numbered) as server:
        yield server.url


# -- gunicorn workers: forked processes; with gevent, their threads are greenlets

GUNICORN = "gunicorn --bind {host}:{port} --config servers/gunicorn_conf.py --workers 1 servers.relay_app:app"
needs_groups = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")


def upstream(gate: Gate) -> SSEServer:
    """Return a server with one stream per path; the stream `/held` pauses until the gate opens."""

    def endless() -> Iterator[Step]:
        while True:
            yield "data: x\n\n"
            yield pause(0.02)

    replies = {
        "/endless": stream(endless),
        "/held": stream("data: first\n\n", gate, "data: last\n\n"),
        "/import": stream([SSEEvent(number) for number in ALL], HANG),
    }
    return SSEServer(default=lambda request: replies[request.path])


def get(server: Server, path: str) -> Any:
    """Return the response body of a plain request, decoded if it is JSON."""
    with closing(http.client.HTTPConnection(HOST, server.port, timeout=PATIENCE)) as conn:
        conn.request("GET", path)
        response = conn.getresponse()
        assert response.status == 200
        body = response.read()
        return json.loads(body) if "json" in response.headers["Content-Type"] else body.decode()


@pytest.mark.real
@needs_groups
@pytest.mark.parametrize("option", ["", "--preload"])
def test_one_gevent_worker_reads_many_streams_and_keeps_serving(option: str) -> None:
    """With ``--preload``, the app, its client and a connection exist before gevent patches the modules they use."""
    need("gunicorn", "flask", "gevent")
    command = python(f"{GUNICORN} --worker-class gevent {option}")
    with (
        upstream(gate := Gate()) as source,
        Server(command, {"UPSTREAM": source.url}) as server,
        SSEClient() as client,
    ):
        assert get(server, "/locks").startswith("gevent.")
        conns = [client.connect(f"{server.url}/relay/held", reconnect=False) for _ in range(MANY)]
        assert [next(conn).data for conn in conns] == ["first"] * MANY
        with ThreadPoolExecutor() as pool:
            reading = pool.submit(get, server, "/read/held")
            source.wait_for_connections(MANY + 1)
            # All these streams wait in the worker, which has one thread.
            assert get(server, "/import/4") == ALL[:4]
            assert not reading.done()
            gate.open()
            assert reading.result(PATIENCE) == ["first", "last"]
        assert [[event.data for event in conn] for conn in conns] == [["last"]] * MANY

        with client.connect(f"{server.url}/relay/endless", reconnect=False) as conn:
            assert next(conn).data == "x"
            source.wait_for_connections(2)
        source.wait_for_connections(1)  # only the connection made at import is left
        assert get(server, "/import/8") == ALL[4:]


@pytest.mark.real
@needs_groups
def test_a_stream_opened_before_the_fork_belongs_to_the_master() -> None:
    need("gunicorn", "flask")
    with (
        upstream(gate := Gate()) as source,
        Server(python(f"{GUNICORN} --preload"), {"UPSTREAM": source.url, "OPEN_AT_IMPORT": "1"}) as server,
    ):
        (error,) = get(server, "/import/1")
        assert "before the fork" in error
        gate.open()
        assert get(server, "/read/held") == ["first", "last"]  # with the same client
        source.wait_for_connections(1)
        assert [request.path for request in source.requests] == ["/import", "/held"]


# -- gevent in a script

GREENLETS = """
    import sys
    when, version, url, tls_url, authority = sys.argv[1:]
    from gevent import monkey
    if when == "first":
        monkey.patch_all()
    from sseclient_dual import ReconnectPolicy, SSEClient

    http2 = "prior-knowledge" if version == "HTTP/2" else False
    client = SSEClient(policy=ReconnectPolicy(retry_delay=100), http2=http2)
    made = [client.connect(url, queue_size=2) for _ in range(4)]
    opened = client.connect(url, queue_size=2)
    if when == "late":
        next(opened)
        monkey.patch_all()

    import ssl
    import gevent

    context = ssl.create_default_context(cafile=authority)
    secure = SSEClient(ssl_context=context, policy=client._policy, http2=http2)
    made += [secure.connect(tls_url, queue_size=2) for _ in range(4)]
    made += [client.connect(url, queue_size=2) for _ in range(4)]
    turns = 0

    def others():
        global turns
        while True:
            gevent.sleep(0.01)
            turns += 1

    gevent.spawn(others)
    reading = [gevent.spawn(lambda conn: [next(conn).data for _ in range(12)], conn) for conn in made]
    for reader in reading:  # through a full queue, a drop and a wait before the next attempt
        assert reader.get() == [str(number) for number in range(1, 13)]
    assert turns > 3, turns  # about a dozen during the backoff alone, unless something blocks the loop

    # No more events come: closing a connection wakes the greenlet that waits on it.
    waiting = [gevent.spawn(list, conn) for conn in made]
    gevent.sleep(0.1)
    for conn in (*made, opened):
        conn.close()
    assert [reader.get() for reader in waiting] == [[]] * len(made)
    print("done")
"""


@pytest.mark.parametrize("when", ["first", "late"])
def test_greenlets(tls: Tls, when: str, both_versions: str) -> None:
    """``late`` patches after the import, after the client is made, and with one connection open."""
    need("gevent")

    with SSEServer(default=numbered) as server, SSEServer(default=numbered, tls=tls[0]) as secure:
        done = run(GREENLETS, when, both_versions, server.url, secure.url, tls[1], flags=())
        assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
        server.wait_for_connections(0)
        secure.wait_for_connections(0)


# -- event loops


@pytest.fixture(params=["asyncio", "uvloop"])
def make_loop(request: pytest.FixtureRequest) -> MakeLoop:
    """Return the function that makes an event loop."""
    if request.param == "uvloop":
        need("uvloop")
    new_event_loop: MakeLoop = importlib.import_module(request.param).new_event_loop
    return new_event_loop


def run_in(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end, and close the loop."""
    with closing(loop):
        loop.set_debug(True)
        return loop.run_until_complete(asyncio.wait_for(main, PATIENCE))


async def aread(conn: SSEConnection, count: int = EVENTS) -> list[str]:
    return [(await anext(conn)).data for _ in range(count)]


def read(conn: SSEConnection) -> list[str]:
    with conn:
        return [next(conn).data for _ in ALL]


def test_an_event_loop(make_loop: MakeLoop, url: str) -> None:
    async def main() -> None:
        async with SSEClient(policy=RESTARTS) as client:
            async with client.connect(url) as conn:
                assert await aread(conn) == ALL
                with pytest.raises(TimeoutError):
                    await conn.arecv(0.01)
                waiting = asyncio.create_task(conn.arecv())
                await asyncio.sleep(0.01)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                waiting = asyncio.create_task(conn.arecv())
                await asyncio.sleep(0.01)
                conn.close()
                with pytest.raises(SSEClosedError):
                    await waiting
            conns = [client.connect(url) for _ in range(MANY)]
            assert await asyncio.gather(*map(aread, conns)) == [ALL] * MANY

    run_in(make_loop(), main())


def test_waits_of_a_feed_end_in_time(make_loop: MakeLoop, url: str) -> None:
    """The timer of a wait that is due at once is another kind of object in uvloop."""

    async def main() -> None:
        async with SSEClient() as client:
            subscription = client.share(url).subscribe()
            for timeout in (0.0002, 0.01, 0.0001):
                with pytest.raises(TimeoutError):
                    while True:
                        await subscription.arecv(timeout)

    run_in(make_loop(), main())


def test_one_client_in_two_loops_and_a_thread(make_loop: MakeLoop, url: str) -> None:
    together = threading.Barrier(3)

    async def main(client: SSEClient) -> list[list[str]]:
        conns = [await client.connect(url) for _ in range(MANY)]
        together.wait(PATIENCE)
        return await asyncio.gather(*map(aread, conns))

    def in_a_loop(client: SSEClient) -> list[list[str]]:
        return run_in(make_loop(), main(client))

    def in_a_thread(client: SSEClient) -> list[list[str]]:
        conns = [client.connect(url).open() for _ in range(MANY)]
        together.wait(PATIENCE)
        return list(map(read, conns))

    with SSEClient(policy=RESTARTS) as client, ThreadPoolExecutor() as pool:
        running = [pool.submit(function, client) for function in (in_a_loop, in_a_loop, in_a_thread)]
        assert [each.result() for each in running] == [[ALL] * MANY] * 3


def test_a_client_and_a_connection_in_one_loop_after_the_other(make_loop: MakeLoop, url: str) -> None:
    with SSEClient(policy=RESTARTS) as client, client.connect(url) as conn:
        kept = run_in(make_loop(), aread(conn, 3))
        for count in (4, EVENTS - 7):
            kept += run_in(make_loop(), aread(conn, count))
            with client.connect(url) as other:
                assert run_in(make_loop(), aread(other)) == ALL
        assert kept == ALL


def test_asyncio_run_twice(url: str) -> None:
    with SSEClient(policy=RESTARTS) as client, client.connect(url) as conn:
        assert asyncio.run(aread(conn, 3)) + asyncio.run(aread(conn, EVENTS - 3)) == ALL
        assert asyncio.run(aread(client.connect(url))) == ALL


# -- threads


@pytest.mark.parametrize("api_name", ["sync", "async"])
def test_the_workers_of_a_thread_pool(api_name: str, url: str) -> None:
    with SSEClient(policy=RESTARTS) as client, ThreadPoolExecutor(4) as pool:

        def work(_: int) -> list[str]:
            with drive(api_name) as api, api.connect(client, url) as conn:
                return [event.data for event in api.take(conn, EVENTS)]

        assert list(pool.map(work, range(3 * 4))) == [ALL] * 3 * 4


# -- other processes and module imports; every warning is an error there

MODULE = """
    import asyncio, logging, multiprocessing, sys, threading
    from concurrent.futures import ProcessPoolExecutor
    from sseclient_dual import ReconnectPolicy, SSEClient

    logging.getLogger("sseclient_dual").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # no warnings of slow callbacks, on a busy machine
    client = SSEClient(policy=ReconnectPolicy(retry_delay=50))

    def read(*connect):
        with client.connect(*connect) as conn:
            return [next(conn).data for _ in range(12)]

    async def aread(*connect):
        async with client.connect(*connect) as conn:
            return [(await anext(conn)).data for _ in range(12)]

    def run(*connect):
        return asyncio.run(aread(*connect))
"""
AT_IMPORT = """
    def headers():  # called in the connection's thread during the import of this module
        import colorsys
        return {"X-Thread": threading.current_thread().name}

    url = sys.argv[1].replace("127.0.0.1", "localhost")
    received = read(url, "GET", headers) + run(url, "GET", headers)
    kept = client.connect(url)
    next(kept)
"""
IN_PROCESSES = """
    def main(method, url):
        with client.connect(url) as conn:
            first = next(conn)
            with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
                received = [*pool.submit(read, url).result(), *pool.submit(run, url).result()]
                assert pool.submit(type(first).json, first).result() == 1
            return received + [first.data] + [next(conn).data for _ in range(11)]
"""


def test_connections_during_the_import_of_a_module(url: str, tmp_path: Path) -> None:
    (tmp_path / "at_import.py").write_text(textwrap.dedent(MODULE) + textwrap.dedent(AT_IMPORT))
    script = """
        import sys
        sys.path.insert(0, sys.argv[2])
        import at_import
        print(*at_import.received, next(at_import.kept).data)
    """
    done = run(script, url, str(tmp_path))
    assert (done.stdout.split(), done.returncode, done.stderr) == ([*ALL, *ALL, "2"], 0, "")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_spawn_and_forkserver_processes(url: str, tmp_path: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"the platform has no {method}")
    (tmp_path / "in_processes.py").write_text(textwrap.dedent(MODULE) + textwrap.dedent(IN_PROCESSES))
    script = """
        import sys
        sys.path.insert(0, sys.argv[3])
        import in_processes
        print(*in_processes.main(*sys.argv[1:3]))
    """
    done = run(script, method, url, str(tmp_path))
    assert (done.stdout.split(), done.returncode, done.stderr) == (ALL * 3, 0, "")


def test_development_mode_shows_no_warnings(tls: Tls) -> None:
    script = """
        exec(sys.argv[1])
        client = SSEClient(policy=client._policy, verify=sys.argv[3])
        print(*read(sys.argv[2]), *run(sys.argv[2]))
        left_open = client.connect(sys.argv[2])
        next(left_open)
    """
    with SSEServer(default=numbered, tls=tls[0]) as server:
        done = run(f"import sys\n{textwrap.dedent(script)}", textwrap.dedent(MODULE), server.url, tls[1])
        assert (done.stdout.split(), done.returncode, done.stderr) == (ALL * 2, 0, "")
