"""A few failing system calls; `make soak` makes more of them fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stress.faults import FAULTS, run, why_skipped

if TYPE_CHECKING:
    from support.tls import Tls


@pytest.fixture(scope="module", autouse=True)
def needs_strace() -> None:
    if reason := why_skipped():
        pytest.skip(reason)


@pytest.mark.parametrize(
    ("syscall", "error"), [("socketpair", "EMFILE"), ("epoll_ctl", "ENOSPC"), ("recvfrom", "EAGAIN")]
)
def test_failing_system_calls_lose_no_event(syscall: str, error: str, tls: Tls) -> None:
    fault = next(fault for fault in FAULTS if (fault.syscall, fault.error) == (syscall, error))
    result = run(fault, "sync", tls)
    assert not result.failure
