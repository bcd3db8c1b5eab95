"""Failing system calls: a client gets all events once and in order, or a clear error; it never hangs.

`strace` makes system calls of a client process fail, see `FAULTS`. The server is in this process. `test_faults.py`
runs a few of them, `make soak ARGS='faults [system call]'` all, or those of one system call. Linux with strace only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sseclient_dual import SSEEvent
from sseclient_dual.testing import CUT, HANG, SSEServer, stream
from stress.faults_client import COMPLETE, LENGTH, STREAMS
from support.processes import script, with_tests
from support.tls import make_tls
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual.testing import ReceivedRequest, Reply
    from support.tls import Tls

ApiName = Literal["sync", "async"]

_PER_RESPONSE = 6  # events
_BOTH: tuple[ApiName, ...] = ("sync", "async")
_SYNC: tuple[ApiName, ...] = ("sync",)  # where the failure would hit the user's event loop, too
_CLEAR = (
    "SSEConnectionError: ",
    "RuntimeError: a connection needs background threads, and none can be started",
    "RuntimeError: the thread that reads all streams failed",
    "ValueError: verify must be the path of a certificate file or folder: could not load",
)


@dataclass(frozen=True)
class Fault:
    """A system call that fails.

    :param when: the calls that fail, counted in each thread: the first one, or FIRST+STEP.
    :param outcome: the expected one: all events, an error, or either.
    """

    syscall: str
    error: str
    when: str
    outcome: Literal["events", "error", "either"]
    apis: tuple[ApiName, ...] = _BOTH
    secure: bool = False
    of_authority: bool = False
    """Only calls for the file with the authority's certificate."""

    def __str__(self) -> str:
        file = " of the certificates" if self.of_authority else ""
        return f"{self.syscall}{file} {self.error} {self.when}{', tls' if self.secure else ''}"


# The script makes the first two calls of some kinds for nothing, see `use_up_the_first_failures`.
FAULTS = [
    Fault("socket", "EMFILE", "1+2", "events"),
    Fault("socket", "EMFILE", "1+1", "error"),
    Fault("socket", "ENOBUFS", "2+2", "events"),
    Fault("socketpair", "EMFILE", "1", "events", _SYNC),  # of the hub
    Fault("socketpair", "ENFILE", "1+1", "events", _SYNC),  # each response is read as far as it has arrived
    Fault("setsockopt", "ENOPROTOOPT", "2", "events"),  # a keep-alive option, which is optional
    Fault("setsockopt", "ENOPROTOOPT", "1+1", "error"),
    Fault("connect", "ENETUNREACH", "1+2", "events"),
    Fault("connect", "ENETUNREACH", "1+1", "error"),
    Fault("connect", "ETIMEDOUT", "2+2", "events"),
    Fault("connect", "ECONNREFUSED", "1+3", "events"),
    Fault("connect", "EINTR", "1+2", "events"),
    Fault("poll", "EINTR", "1+2", "events"),
    Fault("poll", "ENOMEM", "2+7", "events"),
    Fault("sendto", "EPIPE", "1", "events", _SYNC),
    Fault("sendto", "ECONNRESET", "1", "events", _SYNC),
    Fault("sendto", "EINTR", "1+2", "events"),
    Fault("write", "EPIPE", "1", "events", secure=True),
    Fault("write", "ECONNRESET", "2", "events", secure=True),
    Fault("recvfrom", "EINTR", "1+2", "events"),
    Fault("recvfrom", "EAGAIN", "1+2", "events"),
    # It may be the hub's own socket, which is an error.
    Fault("recvfrom", "ECONNRESET", "2", "either", _SYNC),
    Fault("recvfrom", "ECONNRESET", "3", "either", _SYNC),
    Fault("recvfrom", "ETIMEDOUT", "4", "either", _SYNC),
    Fault("recvfrom", "ECONNRESET", "5+7", "either", _SYNC),
    Fault("shutdown", "ENOTCONN", "1+1", "events"),
    Fault("epoll_create1", "EMFILE", "1+1", "events", _SYNC),  # noticed at the import, so that poll is used
    Fault("epoll_ctl", "ENOSPC", "1+1", "events", _SYNC),  # as with `socketpair`
    Fault("epoll_ctl", "ENOSPC", "2+3", "events", _SYNC),
    Fault("epoll_ctl", "ENOMEM", "1+2", "either", _SYNC),
    Fault("epoll_wait", "EINTR", "1+2", "events"),
    Fault("clone,clone3", "EAGAIN", "1+1", "error"),  # all threads
    Fault("clone,clone3", "EAGAIN", "1", "either"),  # the hub's
    Fault("clone,clone3", "EAGAIN", "2", "either"),  # the first worker
    Fault("openat", "EMFILE", "1", "events", secure=True, of_authority=True),  # at the connect
    Fault("openat", "EMFILE", "2", "error", secure=True, of_authority=True),  # at the client's constructor
    Fault("openat", "EACCES", "1", "either", secure=True, of_authority=True),
]


@dataclass
class Run:
    """The result of a client with a fault."""

    injected: int
    """The number of calls that failed."""
    outcomes: list[str]
    failure: str = ""


def why_skipped() -> str:
    """Return the reason why no client can run under strace; "" if one can."""
    strace = shutil.which("strace")
    if strace is None:
        return "needs strace: apt-get install strace"
    tried = subprocess.run(
        [strace, "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    return f"strace does not work here: {tried.stderr.strip()}" if tried.returncode else ""


def run(fault: Fault, api: ApiName, tls: Tls) -> Run:
    """Run a client with a fault against a server that ends its responses after a few events."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    with tempfile.TemporaryDirectory() as folder:
        calls = Path(folder, "calls")
        command = ["strace", "-f", "-qq", "-o", str(calls), "-e", f"trace={fault.syscall}"]
        command += ["-e", f"inject={fault.syscall}:error={fault.error}:when={fault.when}"]
        command += ["-P", tls[1]] if fault.of_authority else []
        with SSEServer(default=_answer, tls=tls[0] if fault.secure else None) as server:
            client = script("stress.faults_client", api, server.url, tls[1])
            try:
                done = subprocess.run(
                    [*command, *client],
                    env=with_tests(environment),
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=PATIENCE,
                )
            except subprocess.TimeoutExpired as error:
                return Run(0, [], f"hangs: {error.stdout!r} {error.stderr!r}")
        injected = calls.read_text(encoding="utf-8", errors="replace").count("(INJECTED)")
    outcomes = done.stdout.splitlines()
    return Run(injected, outcomes, "; ".join(_failures(fault, injected, outcomes, done)))


def _failures(
    fault: Fault, injected: int, outcomes: list[str], done: subprocess.CompletedProcess[str]
) -> Iterator[str]:
    if done.returncode or done.stderr:
        yield f"exit status {done.returncode}, with the output\n{done.stderr}"
    elif not injected:
        yield "no call failed"
    elif len(outcomes) != STREAMS:
        yield f"unexpected output: {outcomes}"
    for outcome in outcomes:
        if outcome == COMPLETE and fault.outcome == "error":
            yield "expected an error"
        elif outcome != COMPLETE and fault.outcome == "events":
            yield f"expected all events: {outcome}"
        elif outcome != COMPLETE and not outcome.startswith(_CLEAR):
            yield f"no clear error: {outcome}"


def _answer(request: ReceivedRequest) -> Reply:
    begin = int(request.last_event_id or 0) + 1
    numbers = range(max(1, begin - 1), min(begin + _PER_RESPONSE, LENGTH + 1))  # with one event again
    events = [SSEEvent(str(number), id=str(number)) for number in numbers]
    if begin + _PER_RESPONSE <= LENGTH:
        return stream(*events, CUT)
    return stream(*events, SSEEvent("", "end"), HANG)  # so that the client shuts down an open connection


def main(arguments: list[str]) -> int:
    """Run all faults, or those of one system call; print the outcomes, and return 1 if one is not as expected."""
    if reason := why_skipped():
        print(f"skipped: {reason}")
        return 0
    faults = [fault for fault in FAULTS if not arguments or fault.syscall in arguments]
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        tls = make_tls(Path(folder))
        for fault, api in product(faults, _BOTH):
            if api in fault.apis:
                runs.append(result := run(fault, api, tls))
                shown = ", ".join(f"{count} x {outcome}" for outcome, count in Counter(result.outcomes).items())
                print(f"{fault}, {api}: {result.injected} calls failed; {shown}", flush=True)
                if result.failure:
                    print(f"FAILURE: {result.failure}", flush=True)
    complete = sum(run.outcomes.count(COMPLETE) for run in runs)
    failures = sum(bool(run.failure) for run in runs)
    print(
        f"== {len(runs)} runs, {sum(run.injected for run in runs):,} failed system calls; of "
        f"{STREAMS * len(runs)} streams, {complete} got all events, the others a clear error; {failures} failures"
    )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
