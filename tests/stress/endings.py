"""The ways to end a process with open connections. This file is also the script that the processes run."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sseclient_dual import SSEClient
from stress.states import STATES, SlowNames, State, adrain, drain, serve
from support.logs import quiet
from support.policies import SLOW
from support.processes import TESTS, script, with_tests
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from sseclient_dual import SSEConnection
    from stress.states import Wire
    from support.tls import Tls


@dataclass(frozen=True)
class _Ending:
    """The expected exit status and last line of a script."""

    status: int
    last_line: str


ENDINGS = {
    "end of the script": _Ending(0, ""),
    "sys.exit": _Ending(3, ""),
    "exception": _Ending(1, "ValueError: oops"),
    "Ctrl-C": _Ending(-signal.SIGINT, "KeyboardInterrupt"),
}


def end_process(places: list[tuple[State, Wire]], api: str, ending: str, tls: Tls) -> float:
    """End a process that has a connection in each of `places`; return the seconds that this takes.

    :raises AssertionError: the exit status or the output is not the expected one.
    """
    with ExitStack() as stack:
        urls = [stack.enter_context(serve(state, wire, tls)) for state, wire in places]
        named = itertools.chain.from_iterable(
            (state.name, wire, url) for (state, wire), url in zip(places, urls, strict=True)
        )
        process = stack.enter_context(
            subprocess.Popen(
                script("stress.endings", api, ending, tls[1], *named),
                env=with_tests(),
                cwd=TESTS.parent,  # coverage data is collected there
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        ready = process.stdout.readline()
        began = time.perf_counter()
        if ready and ending == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        took = time.perf_counter() - began
        expected = ENDINGS[ending]
        assert process.returncode == expected.status, f"{process.returncode}: {errors}"
        assert errors.rpartition("\n")[0].rpartition("\n")[2] == expected.last_line, errors
        unexpected = ["Fatal", "Warning", "ignored", "never"]
        if sys.version_info < (3, 11) and (api, ending) == ("async", "Ctrl-C"):
            # The KeyboardInterrupt may come between the call of a coroutine function and its await: two reports.
            del unexpected[1:]
        assert not any(word in errors for word in unexpected), errors
    return took


def _script(api: str, ending: str, authority: str, *places: str) -> None:
    """Bring connections into the given states, then end. There are a state, a wire and a URL for each of them."""
    quiet()
    SlowNames().__enter__()
    client = SSEClient(verify=authority, policy=SLOW)
    states = [next(state for state in STATES if state.name == name) for name in places[::3]]
    conns = [
        client.connect(url, timeout=None, http2=wire == "http2")
        for wire, url in zip(places[1::3], places[2::3], strict=True)
    ]
    for state, conn in zip(states, conns, strict=True):
        state.begin(conn)
    if api == "async":
        asyncio.run(_end_async(states, conns, ending), debug=False)  # debug mode reports slow callbacks
    else:
        _end(states, conns, ending)


def _finish(ending: str) -> None:
    if ending == "sys.exit":
        sys.exit(3)
    if ending == "exception":
        msg = "oops"
        raise ValueError(msg)


def _end(states: list[State], conns: list[SSEConnection], ending: str) -> None:
    # Ctrl-C must interrupt the wait on the first connection with a consumer.
    main_conn = (
        next((c for s, c in zip(states, conns, strict=True) if s.consumed), None) if ending == "Ctrl-C" else None
    )
    for state, conn in zip(states, conns, strict=True):
        if state.consumed and conn is not main_conn:
            threading.Thread(target=drain, args=(conn,), daemon=True).start()
    for state, conn in zip(states, conns, strict=True):
        if conn is main_conn:
            state.get_there(conn)
        else:
            wait_until(lambda: state.reached(conn), state.name)
    print("ready", flush=True)
    if main_conn is not None:
        drain(main_conn)
    if ending == "Ctrl-C":
        signal.pause()  # not Event().wait(), which CPython may leave with a broken lock and another error
    _finish(ending)


async def _end_async(states: list[State], conns: list[SSEConnection], ending: str) -> None:
    tasks = [asyncio.create_task(adrain(conn)) for state, conn in zip(states, conns, strict=True) if state.consumed]
    for state, conn in zip(states, conns, strict=True):
        await asyncio.to_thread(wait_until, lambda: state.reached(conn), state.name)
    print("ready", flush=True)
    if ending == "Ctrl-C":
        while True:  # noqa: ASYNC110 - asyncio does not notice a signal that comes just before it waits
            await asyncio.sleep(0.1)
    _finish(ending)
    del tasks


if __name__ == "__main__":
    _script(*sys.argv[1:])
