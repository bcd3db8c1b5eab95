"""A short soak test of the compiled core; `make soak` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from stress import compiled
from support.implementations import build

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux: /proc")


def test_many_events_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        build(tmp_path)
    except OSError as error:
        pytest.skip(f"the core cannot be compiled: {error}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(compiled, "_STREAMS", 2)
    assert not compiled.soak(100_000, print)
