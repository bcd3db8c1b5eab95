"""Proves when a connection is made again and what counts as sent again, sentence by sentence of the design.

Time and chance are injected: nothing here waits, and nothing is left to luck but the examples of the properties.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
import pickle
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime, formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sseclient_dual.errors import (
    SSEConnectionError,
    SSEContentTypeError,
    SSEEventTooLargeError,
    SSEParsingError,
    SSEStatusError,
)
from sseclient_dual.event import SSEEvent
from sseclient_dual.policy import DAY, Deduplicator, Outcome, Reconnector, ReconnectPolicy, Retry, Stop, retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

DEFAULTS: dict[str, Any] = {
    "retry_delay": 3000,
    "max_retry_delay": 60_000,
    "min_retry_delay": 100,
    "multiplier": 2.0,
    "jitter": 0.1,
    "max_retries": None,
    "retry_statuses": {408, 429, 500, 502, 503, 504},
    "dedup": True,
    "dedup_window": 1024,
}
STEADY = ReconnectPolicy(jitter=0)
NOON = 784_123_200.0  # Sunday, 6 November 1994, 12:00:00 GMT

DROP = SSEConnectionError("the connection was reset")
FINAL = SSEConnectionError("the certificate was rejected", final=True)
NOT_SSE = SSEParsingError("a line is not in the event-stream format", "<html>")
TOO_LARGE = SSEEventTooLargeError("an event is larger than max_event_size")
WRONG_TYPE = SSEContentTypeError("the media type is not text/event-stream", status=200)


def status(code: int, after: str | None = None) -> SSEStatusError:
    return SSEStatusError("refused", status=code, headers={} if after is None else {"Retry-After": after})


class Bench:
    """A reconnector on a clock that the test sets; `luck` is the random number."""

    def __init__(self, policy: ReconnectPolicy = STEADY, *, luck: float = 0, **options: Any) -> None:
        self.now = 0.0
        self.luck = luck
        self.reconnector = Reconnector(
            policy, clock=lambda: self.now, wall_clock=lambda: NOON, uniform=lambda: self.luck, **options
        )

    def attempt(
        self,
        error: SSEConnectionError | None = DROP,
        *,
        opened: bool = False,
        lasted: float = 0,
        progress: bool = False,
        sent: bool = True,
        asked: int | None = None,
    ) -> Retry | Stop:
        """Have an attempt that ends like this; return what the reconnector decides."""
        if opened or progress or lasted or asked is not None:
            self.reconnector.opened()
        self.now += lasted
        if asked is not None:
            self.reconnector.server_asks(asked)
        if progress:
            self.reconnector.progressed()
        return self.reconnector.decide(Outcome(error, sent))

    def delay(self, *arguments: Any, **options: Any) -> float:
        """Do as `attempt`, and return the wait in milliseconds."""
        decision = self.attempt(*arguments, **options)
        assert isinstance(decision, Retry)
        return decision.delay


# --- the settings -------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_design() -> None:
    assert dataclasses.asdict(ReconnectPolicy()) == DEFAULTS


@pytest.mark.parametrize("name", ["retry_delay", "max_retry_delay", "min_retry_delay", "jitter", "multiplier"])
@pytest.mark.parametrize("value", ["3", None, b"3", True, [3], 3j])
def test_a_setting_that_is_no_number_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} must be a number, not "):
        ReconnectPolicy(**{name: value})


@pytest.mark.parametrize("name", ["retry_delay", "max_retry_delay", "min_retry_delay", "jitter", "multiplier"])
@pytest.mark.parametrize(
    "value", [-1, -0.001, float("nan"), float("inf"), pytest.param(10**400, id="more than a float can be")]
)
def test_a_setting_that_is_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be "):
        ReconnectPolicy(**{name: value})  # type: ignore[arg-type]


def test_the_least_values_that_will_do() -> None:
    policy = ReconnectPolicy(
        retry_delay=0, max_retry_delay=0, min_retry_delay=0, multiplier=1, jitter=0, max_retries=0, dedup_window=0
    )
    assert policy.retry_delay == 0
    with pytest.raises(ValueError, match=r"^multiplier must be at least 1"):
        ReconnectPolicy(multiplier=0.99)


@pytest.mark.parametrize("name", ["max_retries", "dedup_window"])
@pytest.mark.parametrize("value", ["3", 3.0, True])
def test_a_count_that_is_no_integer_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} must be an integer, not "):
        ReconnectPolicy(**{name: value})


@pytest.mark.parametrize("name", ["max_retries", "dedup_window"])
def test_a_count_below_zero_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be at least 0"):
        ReconnectPolicy(**{name: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_dedup_is_a_bool(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^dedup must be a bool, not "):
        ReconnectPolicy(dedup=value)


@pytest.mark.parametrize("value", [503, None, "503", b"503", ["503"], [503.0], [True], [None]])
def test_retry_statuses_are_integers(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^retry_statuses must be "):
        ReconnectPolicy(retry_statuses=value)


@pytest.mark.parametrize("value", [99, 0, -503])
def test_retry_statuses_are_statuses(value: int) -> None:
    with pytest.raises(ValueError, match=r"^retry_statuses must be at least 100"):
        ReconnectPolicy(retry_statuses=frozenset({value}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: {500, 503},
        lambda: frozenset({500, 503}),
        lambda: [503, 500, 500],
        lambda: (500, 503),
        lambda: {500: "a", 503: "b"},
        lambda: {HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE},
        lambda: (number for number in (500, 503)),
    ],
)
def test_retry_statuses_may_come_in_any_collection(make: Callable[[], Any]) -> None:
    policy = ReconnectPolicy(retry_statuses=make())
    assert policy.retry_statuses == frozenset({500, 503})
    assert isinstance(policy.retry_statuses, frozenset)


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_policy_is_frozen(name: str) -> None:
    policy = ReconnectPolicy()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(policy, name, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(policy, name)


def test_a_policy_is_a_value() -> None:
    policy = ReconnectPolicy(retry_delay=5, retry_statuses=frozenset({500}), max_retries=3)
    again = ReconnectPolicy(retry_delay=5, retry_statuses={500}, max_retries=3)
    assert policy == again != ReconnectPolicy()
    assert hash(policy) == hash(again)
    assert len({policy, again, ReconnectPolicy(), ReconnectPolicy()}) == 2
    assert copy.copy(policy) == copy.deepcopy(policy) == policy
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(policy, protocol)) == policy  # noqa: S301 - pickled right here
    assert dataclasses.replace(policy, max_retries=None).max_retries is None
    with pytest.raises(ValueError, match="jitter"):
        dataclasses.replace(policy, jitter=-1)


def test_a_policy_may_be_shared() -> None:
    first, second = Bench(), Bench()
    assert [first.delay() for _ in range(3)] == [3000, 6000, 12_000]
    first.reconnector.server_asks(50_000)
    assert [second.delay() for _ in range(2)] == [3000, 6000]
    assert dataclasses.asdict(STEADY) == {**DEFAULTS, "jitter": 0}


def test_what_is_decided_is_a_value() -> None:
    assert (Retry(5), Stop(DROP), Outcome(DROP)) == (Retry(5), Stop(DROP), Outcome(DROP, sent=True))
    for value in (Retry(5), Stop(DROP), Outcome(DROP)):
        name = dataclasses.fields(value)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


# --- what follows what happened: the table ------------------------------------------------------------------


@pytest.mark.parametrize("reconnect", [True, None])
@pytest.mark.parametrize("error", [None, DROP, *map(status, sorted(DEFAULTS["retry_statuses"]))], ids=str)
def test_what_may_pass_is_waited_out_with_reconnecting_on(
    reconnect: bool | None, error: SSEConnectionError | None
) -> None:
    assert Bench(reconnect=reconnect).attempt(error, opened=error is None) == Retry(3000)


@pytest.mark.parametrize("reconnect", [True, None, False])
@pytest.mark.parametrize(
    "error",
    [WRONG_TYPE, FINAL, TOO_LARGE, *map(status, (201, 301, 400, 401, 403, 404, 405, 410, 501, 505))],
    ids=lambda error: f"{type(error).__name__} {getattr(error, 'status', '')}",
)
def test_what_will_not_pass_is_raised_at_once(reconnect: bool | None, error: SSEConnectionError) -> None:
    assert Bench(reconnect=reconnect).attempt(error) == Stop(error)


@pytest.mark.parametrize("error", [DROP, NOT_SSE, status(503), status(429, "1")], ids=str)
def test_with_reconnecting_off_an_error_is_raised(error: SSEConnectionError) -> None:
    assert Bench(reconnect=False).attempt(error, opened=True, progress=True) == Stop(error)


@pytest.mark.parametrize("progress", [True, False])
def test_with_reconnecting_off_a_clean_end_ends_the_iteration(progress: bool) -> None:
    assert Bench(reconnect=False).attempt(None, opened=True, progress=progress) == Stop(None)


def test_the_statuses_to_retry_are_the_policys() -> None:
    policy = ReconnectPolicy(retry_statuses=frozenset({404}))
    assert isinstance(Bench(policy).attempt(status(404)), Retry)
    error = status(503)
    assert Bench(policy).attempt(error) == Stop(error)


def test_a_content_type_is_never_retried_whatever_the_policys_statuses() -> None:
    assert Bench(ReconnectPolicy(retry_statuses=frozenset({200}))).attempt(WRONG_TYPE) == Stop(WRONG_TYPE)


# --- requests that must not be sent twice unasked -----------------------------------------------------------


def test_a_request_that_may_have_arrived_is_not_replayed_unasked() -> None:
    bench = Bench(replayable=False)
    assert bench.attempt(DROP) == Stop(DROP)
    assert bench.attempt(None, opened=True, progress=True) == Stop(None)
    error = status(500)
    assert bench.attempt(error) == Stop(error)


def test_a_request_that_cannot_have_arrived_is_sent_again() -> None:
    assert Bench(replayable=False).attempt(DROP, sent=False) == Retry(3000)


@pytest.mark.parametrize("code", [429, 503])
def test_a_request_that_was_not_acted_upon_is_sent_again(code: int) -> None:
    assert Bench(replayable=False).attempt(status(code)) == Retry(3000)
    refused = status(code)
    narrow = ReconnectPolicy(retry_statuses=frozenset({500}))
    assert Bench(narrow, replayable=False).attempt(refused) == Stop(refused)


@pytest.mark.parametrize("error", [None, DROP, status(500)], ids=str)
def test_replaying_may_be_asked_for(error: SSEConnectionError | None) -> None:
    assert Bench(replayable=False, reconnect=True).attempt(error, opened=error is None) == Retry(3000)


@pytest.mark.parametrize("error", [DROP, status(429), status(503)], ids=str)
def test_not_reconnecting_may_be_asked_for(error: SSEConnectionError) -> None:
    assert Bench(replayable=False, reconnect=False).attempt(error, sent=False) == Stop(error)


# --- a peer that does not speak SSE -------------------------------------------------------------------------


def test_the_first_bad_line_counts_as_a_drop() -> None:
    assert Bench().attempt(NOT_SSE, opened=True) == Retry(3000)


def test_a_second_connection_in_a_row_that_ends_in_a_bad_line_raises_it() -> None:
    bench = Bench()
    bench.attempt(NOT_SSE, opened=True)
    error = SSEParsingError("again", "<html>")
    assert bench.attempt(error, opened=True, progress=True) == Stop(error), "progress does not excuse it"


@pytest.mark.parametrize("between", [DROP, status(503)], ids=str)
def test_attempts_that_did_not_open_are_no_connection_between_two_bad_lines(between: SSEConnectionError) -> None:
    bench = Bench()
    bench.attempt(NOT_SSE, opened=True)
    assert isinstance(bench.attempt(between), Retry)
    assert bench.attempt(NOT_SSE, opened=True) == Stop(NOT_SSE)


@pytest.mark.parametrize("between", [None, DROP], ids=str)
def test_a_connection_that_ended_otherwise_is_one(between: SSEConnectionError | None) -> None:
    bench = Bench()
    for _ in range(5):
        assert isinstance(bench.attempt(NOT_SSE, opened=True), Retry)
        assert isinstance(bench.attempt(between, opened=True), Retry)


# --- waiting ------------------------------------------------------------------------------------------------


def test_the_reconnection_time_is_the_retry_delay_until_the_server_sends_retry() -> None:
    bench = Bench(ReconnectPolicy(retry_delay=500, jitter=0))
    assert bench.reconnector.reconnection_time == 500
    assert bench.delay(progress=True) == 500
    assert bench.delay(progress=True, asked=700) == 700
    assert bench.reconnector.reconnection_time == 700
    assert bench.delay(progress=True) == 700


def test_the_connections_retry_delay_wins_over_the_policys() -> None:
    assert Bench(retry_delay=50).delay() == 50
    assert Bench(retry_delay=0).delay() == 0


@pytest.mark.parametrize("error", [None, DROP, status(503), NOT_SSE], ids=str)
def test_after_progress_the_wait_is_exactly_the_reconnection_time(error: SSEConnectionError | None) -> None:
    assert Bench().delay(error, progress=True) == 3000


def test_servers_that_close_every_few_seconds_by_design_are_not_punished() -> None:
    bench = Bench()
    assert {bench.delay(None, progress=True, lasted=5) for _ in range(50)} == {3000}
    assert bench.reconnector.failures == 0


def test_servers_that_accept_say_nothing_and_close_are_backed_off_from() -> None:
    bench = Bench()
    assert [bench.delay(None, opened=True) for _ in range(3)] == [3000, 6000, 12_000]


def test_after_the_first_attempt_without_progress_the_wait_is_the_same_and_then_doubles_to_the_cap() -> None:
    bench = Bench()
    assert [bench.delay() for _ in range(7)] == [3000, 6000, 12_000, 24_000, 48_000, 60_000, 60_000]
    assert bench.reconnector.failures == 7


def test_the_multiplier_is_the_policys() -> None:
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
def test_a_connection_that_stayed_open_for_a_minute_made_progress(lasted: float, delay: float) -> None:
    bench = Bench()
    bench.delay()
    assert bench.delay(lasted=lasted) == delay


def test_an_attempt_that_took_long_without_opening_made_none() -> None:
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


@pytest.mark.parametrize(("asked", "in_force"), [(0, 100), (99, 100), (100, 100), (101, 101), (5000, 5000)])
def test_the_servers_retry_comes_down_to_the_least_delay(asked: int, in_force: float) -> None:
    assert Bench().delay(progress=True, asked=asked) == in_force


@pytest.mark.parametrize("asked", [int(DAY), int(DAY) + 1, 2**53 - 1])
def test_a_retry_beyond_a_day_waits_a_day(asked: int) -> None:
    assert Bench().delay(progress=True, asked=asked) == DAY == 24 * 60 * 60 * 1000


def test_what_the_server_asked_for_is_not_capped() -> None:
    bench = Bench(ReconnectPolicy(max_retry_delay=1000, jitter=0))
    assert bench.delay(progress=True, asked=50_000) == 50_000
    assert {bench.delay() for _ in range(5)} == {50_000}


def test_a_smaller_retry_delay_of_the_caller_is_honoured_but_the_backoff_starts_at_the_least() -> None:
    bench = Bench(ReconnectPolicy(retry_delay=0, jitter=0))
    assert [bench.delay() for _ in range(4)] == [0, 100, 200, 400]
    assert bench.delay(progress=True) == 0


def test_a_retry_in_the_midst_of_a_backoff_raises_it_and_never_shortens_it() -> None:
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


def test_by_default_chance_and_time_are_real() -> None:
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


# --- giving up ----------------------------------------------------------------------------------------------


def test_attempts_without_progress_are_not_counted_by_default() -> None:
    bench = Bench()
    assert all(isinstance(bench.attempt(), Retry) for _ in range(1000))


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_after_so_many_retries_without_progress_the_last_error_is_raised(max_retries: int) -> None:
    bench = Bench(ReconnectPolicy(max_retries=max_retries))
    for _ in range(max_retries):
        assert isinstance(bench.attempt(status(503)), Retry)
    assert bench.attempt(DROP) == Stop(DROP)


def test_progress_starts_the_count_anew() -> None:
    bench = Bench(ReconnectPolicy(max_retries=2))
    for _ in range(5):
        assert isinstance(bench.attempt(), Retry)
        assert isinstance(bench.attempt(), Retry)
        assert isinstance(bench.attempt(progress=True), Retry)


def test_giving_up_on_connections_that_just_end_is_an_error_that_says_so() -> None:
    bench = Bench(ReconnectPolicy(max_retries=1))
    bench.attempt(None, opened=True)
    decision = bench.attempt(None, opened=True)
    assert isinstance(decision, Stop)
    assert isinstance(decision.error, SSEConnectionError)
    assert "gave up after 2 connections in a row" in str(decision.error)
    assert "max_retries" in str(decision.error)


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
def test_a_status_is_retried_after_at_least_what_it_asks_for_and_at_most_a_day(value: str, delay: float) -> None:
    assert Bench().delay(status(503, value)) == delay


@pytest.fixture(params=["UTC0", "JST-9", "EST5"])
def local_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Live in another time zone."""
    if not hasattr(time, "tzset"):
        pytest.skip("a process has its time zone for good")
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
def test_every_form_of_a_date_is_in_gmt_wherever_we_live(value: str) -> None:
    """RFC 9110, section 5.6.7: three forms have to be understood, the last one names no zone."""
    assert retry_after({"Retry-After": value}, NOON) == 90_000


def test_retry_after_waits_longer_but_leaves_the_backoff_as_it_is() -> None:
    bench = Bench()
    assert bench.delay(status(503, "100")) == 100_000
    assert bench.delay(status(503)) == 6000
    assert bench.delay(status(503, "1")) == 12_000
    assert bench.reconnector.reconnection_time == 3000


def test_retry_after_gets_its_jitter_too_so_that_clients_do_not_come_back_all_at_once() -> None:
    assert Bench(ReconnectPolicy(jitter=0.1), luck=1).delay(status(429, "100")) == pytest.approx(110_000)


def test_retry_after_is_for_statuses_that_are_retried() -> None:
    error = status(404, "1")
    assert Bench().attempt(error) == Stop(error)


@given(st.text(max_size=40))
@example("Sun, 06 Nov 1994 11:59:59 GMT")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
@example("Sun, 06 Nov 1994 12:00:00 +9999")
@example("Sun, 06 Nov 1994 12:00:00 " + "9" * 30)
def test_no_retry_after_is_too_odd(value: str) -> None:
    assert retry_after({"Retry-After": value}, NOON) >= 0


@given(st.integers(0, 10**6), st.booleans())
def test_retry_after_in_seconds_and_as_a_date_mean_the_same(seconds: int, zoned: bool) -> None:
    moment = datetime.fromtimestamp(NOON + seconds, timezone(timedelta(hours=2)))
    date = format_datetime(moment) if zoned else http_date(seconds)
    assert retry_after({"Retry-After": date}, NOON) == retry_after({"Retry-After": str(seconds)}, NOON)


# --- waiting, whatever happens ------------------------------------------------------------------------------

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


@given(policies, histories, st.floats(0, 1))
def test_a_wait_is_never_below_the_reconnection_time_nor_above_the_cap_unless_the_server_asked(
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


@given(policies, st.integers(2, 60))
def test_waits_without_progress_never_shrink(policy: ReconnectPolicy, count: int) -> None:
    bench = Bench(policy)
    delays = [bench.delay() for _ in range(count)]
    assert delays == sorted(delays)
    assert delays[0] == policy.retry_delay


# --- de-duplication: the rules ------------------------------------------------------------------------------


def ticks(*ids: str | None, data: str = "tick", event: str | None = None) -> list[SSEEvent]:
    return [SSEEvent(data, event, id) for id in ids]  # noqa: A001 - the standard's name for it


def delivered(dedup: Deduplicator, *connections: Iterable[SSEEvent]) -> list[SSEEvent]:
    """Return what is left of what comes on one connection after the other, the first being the one in use.

    However many events come at a time, it is the same.
    """
    in_batches = [batched(copy.deepcopy(dedup), size, connections) for size in (1, 2, 3, 1000)]
    kept: list[SSEEvent] = []
    for number, events in enumerate(connections):
        if number:
            dedup.reconnected()
        for event in events:
            if not dedup.is_duplicate(event):
                dedup.delivered(event)
                kept.append(event)
    assert in_batches == [kept] * len(in_batches)
    return kept


def batched(dedup: Deduplicator, size: int, connections: Iterable[Iterable[SSEEvent]]) -> list[SSEEvent]:
    kept: list[SSEEvent] = []
    for number, connection in enumerate(connections):
        if number:
            dedup.reconnected()
        events = list(connection)
        for start in range(0, len(events), size):
            new = [
                item
                for item in dedup.without_duplicates([*events[start : start + size]])
                if isinstance(item, SSEEvent)
            ]
            if new:
                dedup.delivered(new[-1])
            kept += new
    return kept


@pytest.mark.parametrize("ids", [[None, None, None], ["1", "1", "1"], ["1", None, "1"], ["1", "2", "3"], ["", ""]])
def test_nothing_is_dropped_on_the_first_connection(ids: list[str | None]) -> None:
    assert delivered(Deduplicator(10), ticks(*ids)) == ticks(*ids)


def test_equal_events_in_a_row_after_a_reconnect_are_all_new_if_the_first_is() -> None:
    assert delivered(Deduplicator(10), ticks("1"), ticks("2", None, None, "3")) == ticks("1", "2", None, None, "3")


def test_an_event_that_an_earlier_connection_delivered_is_dropped() -> None:
    replay = [ticks("1", "2", "3"), ticks("2", "3", "4"), ticks("1", "2", "3", "4", "5"), ticks("5", "6")]
    assert delivered(Deduplicator(10), *replay) == ticks("1", "2", "3", "4", "5", "6")


@pytest.mark.parametrize("other", [ticks("1", data="tock"), ticks("1", event="other")])
def test_the_same_id_with_other_content_is_a_new_event(other: list[SSEEvent]) -> None:
    assert delivered(Deduplicator(10), ticks("1"), other) == ticks("1") + other


def test_an_event_of_type_message_is_the_same_with_its_type_named() -> None:
    assert delivered(Deduplicator(10), ticks("1"), ticks("1", event="message")) == ticks("1")


def test_the_same_id_with_other_content_empties_the_memory() -> None:
    anew = [SSEEvent("new", id="1"), *ticks("2", "3")]
    assert delivered(Deduplicator(10), ticks("1", "2", "3"), anew) == [*ticks("1", "2", "3"), *anew]


def test_the_memory_that_was_emptied_is_used_again() -> None:
    anew = [SSEEvent("new", id="1"), *ticks("2")]
    dedup = Deduplicator(10)
    assert delivered(dedup, ticks("1", "2"), anew, anew) == [*ticks("1", "2"), *anew]


def test_the_sticky_id_does_not_identify_an_event() -> None:
    first = SSEEvent("tick", id="1", last_event_id="1")
    others = [SSEEvent("tock", last_event_id="1"), SSEEvent("tick", last_event_id="1")]
    assert delivered(Deduplicator(10), [first], others) == [first, *others]


def test_an_id_that_came_twice_on_one_connection_ends_the_use_of_ids() -> None:
    answer = [SSEEvent("a", id="x"), SSEEvent("b", id="x")]
    dedup = Deduplicator(10)
    assert delivered(dedup, answer, answer, ticks("1"), ticks("1")) == [*answer, *answer, *ticks("1", "1")]


def test_an_id_that_came_twice_on_a_later_connection_does_so_too() -> None:
    connections = [ticks("1"), ticks("1", "1"), ticks("1")]
    assert delivered(Deduplicator(10), *connections) == ticks("1", "1", "1")


def test_an_id_of_each_connection_does_not_come_twice_on_one() -> None:
    assert delivered(Deduplicator(10), *[ticks("1", "2")] * 5) == ticks("1", "2")


@pytest.mark.parametrize("before", [ticks(None), ticks("1"), ticks("")])
@pytest.mark.parametrize("again", [ticks(None), ticks("")])
def test_the_first_event_after_a_reconnect_is_dropped_if_it_has_no_id_and_equals_the_last_one(
    before: list[SSEEvent], again: list[SSEEvent]
) -> None:
    assert delivered(Deduplicator(10), before, again + ticks(None)) == before + ticks(None)


def test_only_the_first_event_after_a_reconnect_is_dropped_for_that() -> None:
    before = ticks(None)
    others = [SSEEvent("other"), *ticks(None)]
    assert delivered(Deduplicator(10), before, others) == before + others
    with_id = [*ticks("1"), *ticks(None)]
    assert delivered(Deduplicator(10), before, with_id) == before + with_id


@pytest.mark.parametrize("other", [ticks(None, data="tock"), ticks(None, event="other")])
def test_the_first_event_after_a_reconnect_is_kept_if_it_differs(other: list[SSEEvent]) -> None:
    assert delivered(Deduplicator(10), ticks(None), other) == ticks(None) + other


def test_what_the_first_event_after_a_reconnect_is_compared_with_is_the_last_one_delivered() -> None:
    assert delivered(Deduplicator(10), ticks(None), [], [], ticks(None)) == ticks(None)
    assert delivered(Deduplicator(10), ticks(None), ticks(None), ticks(None)) == ticks(None)
    tock = SSEEvent("tock", id="2")
    again = [tock, SSEEvent("tock")]
    assert delivered(Deduplicator(10), [*ticks("1"), tock], again, [SSEEvent("tock")]) == [*ticks("1"), *again]
    tail = [SSEEvent("end"), *again, SSEEvent("end")]
    assert delivered(Deduplicator(10), [tock], tail, [SSEEvent("end")]) == [tock, tail[0], tail[2], tail[3]]


def test_the_very_first_event_has_nothing_to_be_compared_with() -> None:
    assert delivered(Deduplicator(10), [], ticks(None)) == ticks(None)


def test_the_memory_is_the_last_events_with_an_id() -> None:
    many = [SSEEvent(str(number), id=str(number)) for number in range(20)]
    without = [SSEEvent("no id")] * 50
    assert delivered(Deduplicator(10), many + without, many[10:]) == many + without
    assert delivered(Deduplicator(9), many, many[11:]) == many
    assert delivered(Deduplicator(9), many, [many[10]]) == [*many, many[10]]


def test_what_was_sent_again_keeps_its_place_in_the_memory() -> None:
    many = [SSEEvent(str(number), id=str(number)) for number in range(20)]
    dedup = Deduplicator(10)
    assert delivered(dedup, many[:10], many[:10], many[:15], many[5:20], many[10:]) == many


def test_the_memory_does_not_keep_the_data() -> None:
    dedup = Deduplicator(1024)
    data = "x" * 1_000_000
    delivered(dedup, [SSEEvent(data + str(number), id=str(number)) for number in range(10)])
    assert len(pickle.dumps(dedup)) < 10_000


def test_a_memory_of_none_remembers_none() -> None:
    assert delivered(Deduplicator(0), ticks("1", "2"), ticks("1", "2")) == ticks("1", "2", "1", "2")


# --- de-duplication: what was not delivered after all -------------------------------------------------------


@pytest.mark.parametrize("ids", [["1", "2", "3", "4"], [None, None, None, None], ["1", None, "3", None]])
@pytest.mark.parametrize("count", range(5))
def test_what_was_retracted_is_new_when_it_comes_again(ids: list[str | None], count: int) -> None:
    dedup = Deduplicator(10)
    events = [SSEEvent(f"tick {number}", id=event_id) for number, event_id in enumerate(ids)]
    assert not any(dedup.is_duplicate(event) for event in events)
    for event in events[:count]:
        dedup.delivered(event)
    dedup.retract(events[count:])
    dedup.reconnected()
    assert delivered(dedup, events[count:]) == events[count:]


def test_a_retraction_leaves_the_last_event_delivered_as_it_was() -> None:
    dedup = Deduplicator(10)
    events = [SSEEvent("a"), SSEEvent("b")]
    delivered(dedup, events[:1])
    assert not dedup.is_duplicate(events[1])
    dedup.retract(events[1:])
    dedup.reconnected()
    assert delivered(dedup, events) == events[1:]


def test_what_was_delivered_before_is_still_known_after_a_retraction() -> None:
    dedup = Deduplicator(10)
    delivered(dedup, ticks("1", "2", "3"))
    dedup.retract(iter(ticks("3")))
    dedup.reconnected()
    assert delivered(dedup, ticks("1", "2", "3")) == ticks("3")


def test_retracting_nothing_loses_nothing() -> None:
    dedup = Deduplicator(10)
    delivered(dedup, ticks("1"))
    dedup.retract([])
    dedup.reconnected()
    assert delivered(dedup, ticks("1", None)) == ticks(None)


# --- de-duplication, whatever comes -------------------------------------------------------------------------

few_ids = st.sampled_from([None, "", "1", "2", "3"])
few_events = st.builds(SSEEvent, st.sampled_from(["a", "b"]), st.sampled_from([None, "x"]), few_ids)


@given(st.lists(few_events), st.integers(0, 5))
def test_within_one_connection_nothing_is_ever_dropped(events: list[SSEEvent], window: int) -> None:
    assert delivered(Deduplicator(window), events) == events


@given(
    st.lists(st.sampled_from(["a", "b"]), max_size=40),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=10),
    st.booleans(),
)
def test_a_server_that_replays_any_suffix_has_each_event_delivered_once(
    contents: list[str], drops: list[tuple[int, int]], numbered: bool
) -> None:
    """Each drop is how many events a connection brought, and how many of those the next one repeats."""
    events = [SSEEvent(data, id=str(number)) for number, data in enumerate(contents)]
    connections: list[Sequence[SSEEvent]] = []
    start = 0
    for length, repeated in drops:
        connections.append(events[start : start + length])
        start = max(0, min(start + length, len(events)) - repeated)
    connections.append(events[start:])
    assert delivered(Deduplicator(40), *connections) == events


@given(st.lists(st.lists(st.sampled_from(["a", "b"])), min_size=1, max_size=6))
def test_a_server_with_one_id_for_everything_loses_nothing(contents: list[list[str]]) -> None:
    contents[0] = ["a", "a", *contents[0]]  # once it shows that it is one
    connections = [[SSEEvent(data, id="x") for data in connection] for connection in contents]
    assert delivered(Deduplicator(10), *connections) == list(itertools.chain.from_iterable(connections))


@example([[SSEEvent("a", "x", "1")], [*[SSEEvent("a")] * 2, SSEEvent("a", id="2"), SSEEvent("a", "x", "1")]], 1)
@given(st.lists(st.lists(few_events), max_size=6), st.integers(0, 5))
def test_whatever_is_dropped_was_delivered_by_an_earlier_connection(
    connections: list[list[SSEEvent]], window: int
) -> None:
    dedup = Deduplicator(window)
    earlier: list[SSEEvent] = []
    for events in connections:
        kept = delivered(dedup, events)
        for event in events:
            if any(event is other for other in kept):
                continue
            twins = [old for old in earlier if (old.type, old.data) == (event.type, event.data)]
            if event.id:
                assert event.id in {old.id for old in twins}
            else:
                assert twins[-1] is earlier[-1]
                assert event is events[0]
        earlier += kept
        dedup.reconnected()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_events_that_were_retracted_and_come_again_are_delivered_once(batches: list[tuple[int, int]]) -> None:
    """Each connection brings a batch that begins with what was not queued before; only a part of it is queued."""
    dedup = Deduplicator(100)
    queued: list[SSEEvent] = []
    events = [SSEEvent("tick", id=str(number)) for number in range(100)]
    for size, accepted in batches:
        start = max(0, len(queued) - 2)  # a server that repeats a little
        kept = [event for event in events[start : len(queued) + size] if not dedup.is_duplicate(event)]
        queued += kept[:accepted]
        dedup.retract(kept[accepted:])
        dedup.reconnected()
    assert queued == events[: len(queued)]
