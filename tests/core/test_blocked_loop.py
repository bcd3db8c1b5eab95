"""Blocking calls in the thread of a running event loop: a warning, once per place."""

from __future__ import annotations

import ast
import asyncio
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient, SSEConnection
from sseclient_dual.testing import HANG, SSEServer, pause, stream
from support.policies import QUICK
from support.streams import ONE, TWO
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOW = stream(pause(0.1), ONE, pause(0.1), TWO)


@pytest.fixture
def caught() -> Iterator[list[warnings.WarningMessage]]:
    """Record warnings as Python shows them by default: once per place."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield caught


def run_in_loop(function: Callable[[SSEConnection], object], **options: Any) -> None:
    """Call `function` with a connection, in a coroutine."""

    async def main() -> None:
        with SSEServer(SLOW) as server, SSEClient(policy=QUICK) as client:
            function(client.connect(server.url, reconnect=False, **options))

    asyncio.run(main())


USES: dict[str, Callable[[SSEConnection], object]] = {
    "for": lambda conn: [event.data for event in conn],
    "next": lambda conn: next(conn),  # noqa: PLW0108 - its line is checked
    "recv": lambda conn: conn.recv(),
    "recv(timeout)": lambda conn: conn.recv(timeout=10),
    "open": lambda conn: conn.open(),
    "open(timeout)": lambda conn: conn.open(timeout=10),
    "with": lambda conn: conn.__enter__(),
    "signals": lambda conn: next(conn.signals()),
    "relay": lambda conn: next(conn.relay()),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_use_that_waits_warns_at_the_line_of_the_caller(
    caught: list[warnings.WarningMessage], use: Callable[[SSEConnection], object]
) -> None:
    def function(conn: SSEConnection) -> None:
        use(conn)
        conn.close()

    run_in_loop(function)
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert (warning.filename, warning.lineno) == (__file__, use.__code__.co_firstlineno)
    for name in ("async for", "async with", "arecv()", "arelay()"):
        assert name in str(warning.message)


def test_a_loop_warns_once(caught: list[warnings.WarningMessage]) -> None:
    def function(conn: SSEConnection) -> None:
        with conn:
            for event in conn:
                events.extend([event.data])

    events: list[str] = []
    run_in_loop(function)
    run_in_loop(function)
    assert events == ["one", "two"] * 2
    first = function.__code__.co_firstlineno
    assert [warning.lineno for warning in caught] == [first + 1, first + 2]


def test_a_warning_that_is_an_error_loses_no_event() -> None:
    def function(conn: SSEConnection) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for call in (conn.open, conn.recv):
                with pytest.raises(RuntimeWarning, match="async for"):
                    call()
            warnings.simplefilter("ignore")
            assert [event.data for event in conn] == ["one", "two"]

    run_in_loop(function)


def test_a_call_that_does_not_wait_does_not_warn(caught: list[warnings.WarningMessage]) -> None:
    async def main() -> None:
        with SSEServer(stream(ONE + TWO, HANG)) as server, SSEClient() as client:
            conn = await client.connect(server.url)
            wait_until(lambda: conn.stats.queued == 2, "two events")
            with conn:
                assert next(conn).data == "one"
                assert conn.recv().data == "two"
                with pytest.raises(TimeoutError):
                    conn.recv(timeout=0)
            assert list(conn) == []

    asyncio.run(main())
    assert caught == []


def test_waits_of_other_threads_do_not_warn(caught: list[warnings.WarningMessage]) -> None:
    async def main() -> None:
        with SSEServer(SLOW) as server, SSEClient() as client:
            conn = client.connect(server.url, reconnect=False)
            assert len(await asyncio.to_thread(list, conn)) == 2

    asyncio.run(main())
    with SSEServer(SLOW) as server, SSEClient() as client:
        assert len(list(client.connect(server.url, reconnect=False))) == 2
    assert caught == []


def test_a_callback_of_the_loop_warns(caught: list[warnings.WarningMessage]) -> None:
    async def main() -> None:
        with SSEServer(SLOW) as server, SSEClient() as client:
            conn = client.connect(server.url, reconnect=False)
            done = asyncio.Event()

            def callback() -> None:
                next(conn)
                done.set()

            asyncio.get_running_loop().call_soon(callback)
            await done.wait()

    asyncio.run(main())
    assert len(caught) == 1


CELL = """
for event in conn:
    events.append(event.data)
"""
CELL_WITH_FUNCTION = """
def read():
    for event in conn:
        events.append(event.data)
read()
"""
CELL_WITH_COROUTINE = """
async def read():
    for event in conn:
        events.append(event.data)
coroutine = read()
try:
    coroutine.send(None)
except StopIteration:
    pass
"""
CELL_WITH_AWAIT = """
async def nothing():
    pass
await nothing()
for event in conn:
    events.append(event.data)
"""


@pytest.mark.parametrize(
    ("cell", "warned"),
    [(CELL, False), (CELL_WITH_FUNCTION, False), (CELL_WITH_COROUTINE, True), (CELL_WITH_AWAIT, False)],
)
def test_a_cell_of_a_notebook_may_wait(caught: list[warnings.WarningMessage], cell: str, *, warned: bool) -> None:
    """Jupyter runs cells as modules, in a coroutine of its own; IPython defines `get_ipython` in them."""
    module = types.ModuleType("__main__")
    module.get_ipython = lambda: None  # type: ignore[attr-defined]
    events: list[str] = []

    def function(conn: SSEConnection) -> None:
        vars(module).update(conn=conn, events=events)
        code = compile(cell, "<ipython-input-1>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        coroutine = eval(code, vars(module))  # noqa: S307 - one of the cells above
        if coroutine is not None:
            with pytest.raises(StopIteration):
                coroutine.send(None)

    run_in_loop(function)
    assert events == ["one", "two"]
    assert bool(caught) == warned


@pytest.mark.parametrize("module", [None, types.ModuleType("asyncio")], ids=["not imported", "being imported"])
def test_a_program_without_asyncio_does_not_warn(
    caught: list[warnings.WarningMessage], monkeypatch: pytest.MonkeyPatch, module: types.ModuleType | None
) -> None:
    with SSEServer(SLOW) as server, SSEClient() as client:
        monkeypatch.setitem(sys.modules, "asyncio", module)
        assert len(list(client.connect(server.url, reconnect=False))) == 2
    assert caught == []
