"""Short load tests; `make soak` runs the long ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from stress.load import ApiName, Churn, Flood

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux: /proc")

both_apis = pytest.mark.parametrize("api_name", ["sync", "async"])


@both_apis
def test_a_slow_consumer_loses_no_events_and_memory_stays_bounded(api_name: ApiName) -> None:
    flood = Flood(api_name, 1.0, print)
    assert not flood.failures, flood


@both_apis
def test_many_connections_leave_nothing_behind(api_name: ApiName) -> None:
    churn = Churn(api_name, 100, 3, print)
    assert not churn.failures, churn
