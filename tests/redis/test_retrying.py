"""`Retrying`, and the delays between its attempts."""

from __future__ import annotations

import pytest

from sseclient_dual.redis.connections import RedisConnectionError, Server
from sseclient_dual.redis.retrying import Retrying, doubled


@pytest.mark.parametrize(("times", "delay"), [(0, 0.5), (3, 4.0), (4, 5.0), (100_000, 5.0)])
def test_a_delay_doubles_up_to_the_longest(times: int, delay: float) -> None:
    assert doubled(0.5, times, 5.0) == delay


def test_a_call_is_repeated_any_number_of_times() -> None:
    """Redis may be away for a night."""
    failures = 2000
    reports: list[object] = []
    errors = [RedisConnectionError(str(number)) for number in range(failures)]
    remaining = iter(errors)

    def call() -> str:
        for error in remaining:
            raise error
        return "answer"

    retrying = Retrying(Server("redis://127.0.0.1:1").client(), 0.0, reports.append)
    assert retrying(call) == "answer"
    assert reports == [errors[0], None]
