"""The delay before the next attempt: backoff, jitter, `retry` and `Retry-After`."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime, formatdate
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sseclient_dual.policy import DAY, Outcome, Reconnector, ReconnectPolicy, Retry, Stop, retry_after
from support.reconnectors import DROP, NOON, NOT_SSE, Bench, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual.errors import SSEConnectionError


# --- delays -------------------------------------------------------------------------------------------------


def test_the_reconnection_time_is_the_retry_delay_until_the_server_sends_retry() -> None:
    bench = Bench(ReconnectPolicy(retry_delay=500, jitter=0))
    assert bench.reconnector.reconnection_time == 500
    assert bench.delay(progress=True) == 500
    assert bench.delay(progress=True, asked=700) == 700
    assert bench.reconnector.reconnection_time == 700
    assert bench.delay(progress=True) == 700


def test_the_connections_retry_delay_overrides_the_policys() -> None:
    assert Bench(retry_delay=50).delay() == 50
    assert Bench(retry_delay=0).delay() == 0


@pytest.mark.parametrize("error", [None, DROP, status(503), NOT_SSE], ids=str)
def test_after_progress_the_delay_is_exactly_the_reconnection_time(error: SSEConnectionError | None) -> None:
    assert Bench().delay(error, progress=True) == 3000


def test_a_server_that_closes_every_few_seconds_causes_no_backoff() -> None:
    bench = Bench()
    assert {bench.delay(None, progress=True, lasted=5) for _ in range(50)} == {3000}
    assert bench.reconnector.failures == 0


def test_a_server_that_closes_without_sending_anything_causes_backoff() -> None:
    bench = Bench()
    assert [bench.delay(None, opened=True) for _ in range(3)] == [3000, 6000, 12_000]


def test_without_progress_the_delay_doubles_up_to_the_cap() -> None:
    bench = Bench()
    assert [bench.delay() for _ in range(7)] == [3000, 6000, 12_000, 24_000, 48_000, 60_000, 60_000]
    assert bench.reconnector.failures == 7


def test_the_policy_sets_the_multiplier() -> None:
    bench = Bench(ReconnectPolicy(retry_delay=1000, multiplier=1.5, jitter=0))
    assert [bench.delay() for _ in range(4)] == [1000, 1500, 2250, 3375]
    steady = Bench(ReconnectPolicy(multiplier=1, jitter=0))
    assert {steady.delay() for _ in range(50)} == {3000}


def test_progress_resets_the_backoff() -> None:
    bench = Bench()
    for _ in range(5):
        bench.delay()
    assert bench.delay(progress=True) == 3000
    assert bench.reconnector.failures == 0
    assert [bench.delay() for _ in range(3)] == [3000, 6000, 12_000]


@pytest.mark.parametrize(("lasted", "delay"), [(59.9, 6000), (60, 3000), (3600, 3000)])
def test_a_connection_that_stays_open_for_a_minute_makes_progress(lasted: float, delay: float) -> None:
    bench = Bench()
    bench.delay()
    assert bench.delay(lasted=lasted) == delay


def test_a_long_attempt_that_does_not_open_makes_no_progress() -> None:
    bench = Bench()
    bench.delay()
    bench.now += 3600
    assert bench.delay() == 6000


def test_progress_counts_for_one_connection_only() -> None:
    bench = Bench()
    bench.delay(progress=True)
    assert [bench.delay(opened=True) for _ in range(2)] == [3000, 6000]


def test_a_restart_is_neither_progress_nor_a_failure() -> None:
    bench = Bench()
    assert [bench.delay() for _ in range(2)] == [3000, 6000]
    bench.reconnector.opened()
    bench.reconnector.progressed()
    bench.now += 100
    bench.reconnector.restarted()
    assert bench.reconnector.failures == 2
    assert bench.delay() == 12_000


@pytest.mark.parametrize(("asked", "delay"), [(0, 100), (99, 100), (100, 100), (101, 101), (5000, 5000)])
def test_the_servers_retry_is_raised_to_the_minimum_delay(asked: int, delay: float) -> None:
    assert Bench().delay(progress=True, asked=asked) == delay


@pytest.mark.parametrize("asked", [int(DAY), int(DAY) + 1, 2**53 - 1])
def test_a_retry_beyond_a_day_is_reduced_to_a_day(asked: int) -> None:
    assert Bench().delay(progress=True, asked=asked) == DAY == 24 * 60 * 60 * 1000


def test_the_servers_retry_may_exceed_the_maximum_delay() -> None:
    bench = Bench(ReconnectPolicy(max_retry_delay=1000, jitter=0))
    assert bench.delay(progress=True, asked=50_000) == 50_000
    assert {bench.delay() for _ in range(5)} == {50_000}


def test_a_retry_delay_below_the_minimum_applies_but_backoff_starts_at_the_minimum() -> None:
    bench = Bench(ReconnectPolicy(retry_delay=0, jitter=0))
    assert [bench.delay() for _ in range(4)] == [0, 100, 200, 400]
    assert bench.delay(progress=True) == 0


def test_a_retry_during_backoff_may_lengthen_the_delay_but_never_shortens_it() -> None:
    bench = Bench()
    assert [bench.delay() for _ in range(2)] == [3000, 6000]
    assert bench.delay(asked=30_000) == 30_000
    assert bench.delay(asked=100) == 60_000


def test_jitter_is_added_and_never_subtracted() -> None:
    policy = ReconnectPolicy(jitter=0.5)
    assert Bench(policy, luck=0).delay() == 3000
    assert Bench(policy, luck=0.5).delay() == 3750
    assert Bench(policy, luck=1).delay() == 4500


def test_jitter_does_not_accumulate() -> None:
    bench = Bench(ReconnectPolicy(jitter=0.1), luck=1)
    assert [bench.delay() for _ in range(4)] == pytest.approx([3300, 6600, 13_200, 26_400])


def test_the_default_randomness_and_clock_are_real() -> None:
    reconnector = Reconnector(ReconnectPolicy())
    delays = set()
    for _ in range(50):
        reconnector.opened()
        reconnector.progressed()
        decision = reconnector.decide(Outcome(DROP))
        assert isinstance(decision, Retry)
        delays.add(decision.delay)
    assert len(delays) > 10
    assert 3000 <= min(delays) <= max(delays) <= 3300


# --- Retry-After --------------------------------------------------------------------------------------------


def http_date(seconds: float) -> str:
    return formatdate(NOON + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("value", "delay"),
    [
        ("120", 120_000),
        (" 120 ", 120_000),
        ("0120", 120_000),
        ("0", 3000),
        ("2", 3000),
        ("3", 3000),
        ("4", 4000),
        ("86400", DAY),
        ("86401", DAY),
        ("9" * 400, DAY),
        ("9" * 5000, DAY),
        (http_date(90), 90_000),
        (http_date(-90), 3000),
        (http_date(0), 3000),
        (http_date(40 * 86400), DAY),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY),
        ("Sunday, 06-Nov-94 12:01:30 GMT", 90_000),
        ("", 3000),
        ("soon", 3000),
        ("-5", 3000),
        ("+5", 3000),
        ("1.5", 3000),
        ("1e9", 3000),
        ("1_000", 3000),
        ("٣٠٠", 3000),
        ("²", 3000),
        ("120, 240", 3000),
        ("Sun, 99 Nov 1994 12:00:00 GMT", 3000),
        ("Fri, 31 Dec 99999 23:59:59 GMT", 3000),
    ],
)
def test_retry_after_sets_a_minimum_delay_of_up_to_a_day(value: str, delay: float) -> None:
    assert Bench().delay(status(503, value)) == delay


@pytest.fixture(params=["UTC0", "JST-9", "EST5"])
def local_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set another local time zone."""
    if not hasattr(time, "tzset"):
        pytest.skip("this platform cannot change the time zone of a process")
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    assert os.environ.get("TZ") == before
    time.tzset()


@pytest.mark.usefixtures("local_time")
@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 12:01:30 GMT",
        "Sunday, 06-Nov-94 12:01:30 GMT",
        "Sun Nov  6 12:01:30 1994",
        "Sun, 06 Nov 1994 12:01:30 -0000",
        "Sun, 06 Nov 1994 13:01:30 +0100",
    ],
)
def test_dates_do_not_depend_on_the_local_time_zone(value: str) -> None:
    """RFC 9110, section 5.6.7, requires three formats; the third one names no time zone."""
    assert retry_after({"Retry-After": value}, NOON) == 90_000


def test_retry_after_lengthens_one_delay_without_changing_the_backoff() -> None:
    bench = Bench()
    assert bench.delay(status(503, "100")) == 100_000
    assert bench.delay(status(503)) == 6000
    assert bench.delay(status(503, "1")) == 12_000
    assert bench.reconnector.reconnection_time == 3000


def test_jitter_applies_to_retry_after() -> None:
    assert Bench(ReconnectPolicy(jitter=0.1), luck=1).delay(status(429, "100")) == pytest.approx(110_000)


def test_retry_after_is_ignored_if_the_status_is_not_retried() -> None:
    error = status(404, "1")
    assert Bench().attempt(error) == Stop(error)


@given(st.text(max_size=40))
@example("Sun, 06 Nov 1994 11:59:59 GMT")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
@example("Sun, 06 Nov 1994 12:00:00 +9999")
@example("Sun, 06 Nov 1994 12:00:00 " + "9" * 30)
def test_any_retry_after_value_gives_a_delay(value: str) -> None:
    assert retry_after({"Retry-After": value}, NOON) >= 0


@given(st.integers(0, 10**6), st.booleans())
def test_retry_after_in_seconds_and_as_a_date_are_equivalent(seconds: int, zoned: bool) -> None:
    moment = datetime.fromtimestamp(NOON + seconds, timezone(timedelta(hours=2)))
    date = format_datetime(moment) if zoned else http_date(seconds)
    assert retry_after({"Retry-After": date}, NOON) == retry_after({"Retry-After": str(seconds)}, NOON)


# --- delays after any history -------------------------------------------------------------------------------

milliseconds = st.one_of(st.integers(0, 200_000), st.floats(0, 200_000))
policies = st.builds(
    ReconnectPolicy,
    retry_delay=milliseconds,
    max_retry_delay=milliseconds,
    min_retry_delay=milliseconds,
    multiplier=st.floats(1, 1e300),
    jitter=st.floats(0, 10),
)
histories = st.lists(
    st.fixed_dictionaries(
        {
            "error": st.sampled_from([None, DROP, status(503)]),
            "opened": st.booleans(),
            "lasted": st.sampled_from([0, 1, 61]),
            "progress": st.booleans(),
            "asked": st.one_of(st.none(), st.integers(0, 2**53)),
        }
    ),
    max_size=40,
)


@pytest.mark.filterwarnings("ignore:retry_delay is in milliseconds")
@given(policies, histories, st.floats(0, 1))
def test_a_delay_is_between_the_reconnection_time_and_the_cap(
    policy: ReconnectPolicy, history: list[dict[str, Any]], luck: float
) -> None:
    bench = Bench(policy, luck=luck)
    for attempt in history:
        delay = bench.delay(**attempt)
        reconnection_time = bench.reconnector.reconnection_time
        assert delay >= reconnection_time
        assert delay <= max(reconnection_time, policy.max_retry_delay) * (1 + policy.jitter * luck)
        if attempt["progress"]:
            assert delay == reconnection_time * (1 + policy.jitter * luck)


@pytest.mark.filterwarnings("ignore:retry_delay is in milliseconds")
@given(policies, st.integers(2, 60))
def test_delays_without_progress_never_decrease(policy: ReconnectPolicy, count: int) -> None:
    bench = Bench(policy)
    delays = [bench.delay() for _ in range(count)]
    assert delays == sorted(delays)
    assert delays[0] == policy.retry_delay
