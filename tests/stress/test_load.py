"""Load, in short; `make soak` has it at length."""

from __future__ import annotations

from pathlib import Path

import pytest

from stress.load import Churn, FaceName, Flood

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells the figures")

both_faces = pytest.mark.parametrize("face_name", ["sync", "async"])


@both_faces
def test_a_server_faster_than_its_consumer_costs_neither_events_nor_memory(face_name: FaceName) -> None:
    flood = Flood(face_name, 1.0, print)
    assert not flood.broken, flood


@both_faces
def test_many_connections_leave_nothing_behind(face_name: FaceName) -> None:
    churn = Churn(face_name, 100, 3, print)
    assert not churn.broken, churn
