"""Every way for a process to end with connections open; this file is also the script of those processes."""

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
from stress.states import STATES, SlowNames, State, adrain, drain, quiet
from support.policies import SLOW
from support.processes import TESTS, script, with_tests
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from sseclient_dual import SSEConnection
    from support.tls import Tls


@dataclass(frozen=True)
class _Ending:
    """How a script ends, and what shows it."""

    status: int
    last_words: str


ENDINGS = {
    "its end": _Ending(0, ""),
    "sys.exit": _Ending(3, ""),
    "exception": _Ending(1, "ValueError: oops"),
    "Ctrl-C": _Ending(-signal.SIGINT, "KeyboardInterrupt"),
}


def end_process(places: list[tuple[State, bool]], api: str, ending: str, tls: Tls) -> float:
    """Let a process end with a connection in each of `places`; return the seconds from then on.

    :raises AssertionError: it did so with another status or other words.
    """
    with ExitStack() as stack:
        urls = [stack.enter_context(state.serve(tls[0] if secure else None)) for state, secure in places]
        named = itertools.chain.from_iterable((state.name, url) for (state, _), url in zip(places, urls, strict=True))
        process = stack.enter_context(
            subprocess.Popen(
                script("stress.endings", api, ending, tls[1], *named),
                env=with_tests(),
                cwd=TESTS.parent,  # where the coverage is collected
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        there = process.stdout.readline()
        began = time.perf_counter()
        if there and ending == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=PATIENCE)
        took = time.perf_counter() - began
        expected = ENDINGS[ending]
        assert process.returncode == expected.status, f"{process.returncode}: {words}"
        assert words.rpartition("\n")[0].rpartition("\n")[2] == expected.last_words, words
        assert not any(word in words for word in ("Warning", "ignored", "Fatal", "never"))
    return took


def _script(api: str, ending: str, authority: str, *named: str) -> None:
    """Bring connections into the states named, each followed by its URL, and end."""
    quiet()
    SlowNames().__enter__()
    client = SSEClient(verify=authority, policy=SLOW)
    states = [next(state for state in STATES if state.name == name) for name in named[::2]]
    conns = [client.connect(url, timeout=None) for url in named[1::2]]
    for state, conn in zip(states, conns, strict=True):
        state.begin(conn)
    if api == "async":
        asyncio.run(_aend(states, conns, ending))
    else:
        _end(states, conns, ending)


def _finish(ending: str) -> None:
    if ending == "sys.exit":
        sys.exit(3)
    if ending == "exception":
        msg = "oops"
        raise ValueError(msg)


def _end(states: list[State], conns: list[SSEConnection], ending: str) -> None:
    # Ctrl-C is to interrupt the wait of the first that somebody may wait for.
    mine = next((c for s, c in zip(states, conns, strict=True) if s.consumed), None) if ending == "Ctrl-C" else None
    for state, conn in zip(states, conns, strict=True):
        if state.consumed and conn is not mine:
            threading.Thread(target=drain, args=(conn,), daemon=True).start()
    for state, conn in zip(states, conns, strict=True):
        if conn is mine:
            state.get_there(conn)
        else:
            wait_until(lambda: state.reached(conn), state.name)
    print("there", flush=True)
    if mine is not None:
        drain(mine)
    if ending == "Ctrl-C":
        threading.Event().wait()
    _finish(ending)


async def _aend(states: list[State], conns: list[SSEConnection], ending: str) -> None:
    tasks = [asyncio.create_task(adrain(conn)) for state, conn in zip(states, conns, strict=True) if state.consumed]
    for state, conn in zip(states, conns, strict=True):
        await asyncio.to_thread(wait_until, lambda: state.reached(conn), state.name)
    print("there", flush=True)
    if ending == "Ctrl-C":
        await asyncio.Event().wait()
    _finish(ending)
    del tasks


if __name__ == "__main__":
    _script(*sys.argv[1:])
