"""Load, in short; `make soak` has it at length."""

from __future__ import annotations

from pathlib import Path

import pytest

from stress.load import ApiName, Churn, Flood

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells the figures")

both_apis = pytest.mark.parametrize("api_name", ["sync", "async"])


@both_apis
def test_a_server_faster_than_its_consumer_costs_neither_events_nor_memory(api_name: ApiName) -> None:
    flood = Flood(api_name, 1.0, print)
    assert not flood.broken, flood


@both_apis
def test_many_connections_leave_nothing_behind(api_name: ApiName) -> None:
    churn = Churn(api_name, 100, 3, print)
    assert not churn.broken, churn
