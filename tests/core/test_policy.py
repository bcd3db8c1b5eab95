"""Reconnect policies: settings, and the decision after each outcome of an attempt."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual.errors import SSEConnectionError, SSEContentTypeError, SSEEventTooLargeError, SSEParsingError
from sseclient_dual.policy import Outcome, ReconnectPolicy, Retry, Stop
from support.reconnectors import DROP, NOT_SSE, STEADY, Bench, status

if TYPE_CHECKING:
    from collections.abc import Callable


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
FINAL = SSEConnectionError("the certificate was rejected", final=True)
TOO_LARGE = SSEEventTooLargeError("an event is larger than max_event_size")
WRONG_TYPE = SSEContentTypeError("the media type is not text/event-stream", status=200)


# --- the settings -------------------------------------------------------------------------------------------


def test_the_defaults() -> None:
    assert dataclasses.asdict(ReconnectPolicy()) == DEFAULTS


@pytest.mark.parametrize("name", ["retry_delay", "max_retry_delay", "min_retry_delay", "jitter", "multiplier"])
@pytest.mark.parametrize("value", ["3", None, b"3", True, [3], 3j])
def test_a_setting_that_is_not_a_number_raises_an_error_with_its_name(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} must be a number, not "):
        ReconnectPolicy(**{name: value})


@pytest.mark.parametrize("name", ["retry_delay", "max_retry_delay", "min_retry_delay", "jitter", "multiplier"])
@pytest.mark.parametrize(
    "value", [-1, -0.001, float("nan"), float("inf"), pytest.param(10**400, id="too large for a float")]
)
def test_a_setting_out_of_range_raises_an_error_with_its_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be "):
        ReconnectPolicy(**{name: value})  # type: ignore[arg-type]


def test_the_minimum_values() -> None:
    policy = ReconnectPolicy(
        retry_delay=0, max_retry_delay=0, min_retry_delay=0, multiplier=1, jitter=0, max_retries=0, dedup_window=0
    )
    assert policy.retry_delay == 0
    with pytest.raises(ValueError, match=r"^multiplier must be at least 1"):
        ReconnectPolicy(multiplier=0.99)


@pytest.mark.parametrize("name", ["max_retries", "dedup_window"])
@pytest.mark.parametrize("value", ["3", 3.0, True])
def test_a_count_that_is_not_an_integer_raises_an_error_with_its_name(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} must be an integer, not "):
        ReconnectPolicy(**{name: value})


@pytest.mark.parametrize("name", ["max_retries", "dedup_window"])
def test_a_negative_count_raises_an_error_with_its_name(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be at least 0"):
        ReconnectPolicy(**{name: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, "id", False])
def test_the_values_of_dedup(value: Any) -> None:
    assert ReconnectPolicy(dedup=value).dedup == value


@pytest.mark.parametrize(
    ("value", "error"),
    [(None, TypeError), (1, TypeError), (["id"], TypeError), ("yes", ValueError), ("", ValueError)],
)
def test_dedup_has_no_other_value(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^dedup must be True, 'id' or False, not "):
        ReconnectPolicy(dedup=value)


@pytest.mark.parametrize("value", [503, None, "503", b"503", ["503"], [503.0], [True], [None]])
def test_retry_statuses_must_be_integers(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^retry_statuses must be "):
        ReconnectPolicy(retry_statuses=value)


@pytest.mark.parametrize("value", [99, 0, -503])
def test_retry_statuses_must_be_at_least_100(value: int) -> None:
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
def test_retry_statuses_may_be_any_iterable(make: Callable[[], Any]) -> None:
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


def test_a_policy_can_be_compared_hashed_copied_and_pickled() -> None:
    policy = ReconnectPolicy(retry_delay=50, retry_statuses=frozenset({500}), max_retries=3)
    again = ReconnectPolicy(retry_delay=50, retry_statuses={500}, max_retries=3)
    assert policy == again != ReconnectPolicy()
    assert hash(policy) == hash(again)
    assert len({policy, again, ReconnectPolicy(), ReconnectPolicy()}) == 2
    assert copy.copy(policy) == copy.deepcopy(policy) == policy
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(policy, protocol)) == policy  # noqa: S301 - pickled in this test
    assert dataclasses.replace(policy, max_retries=None).max_retries is None
    with pytest.raises(ValueError, match="jitter"):
        dataclasses.replace(policy, jitter=-1)


def test_a_policy_can_be_shared() -> None:
    first, second = Bench(), Bench()
    assert [first.delay() for _ in range(3)] == [3000, 6000, 12_000]
    first.reconnector.set_reconnection_time(50_000)
    assert [second.delay() for _ in range(2)] == [3000, 6000]
    assert dataclasses.asdict(STEADY) == {**DEFAULTS, "jitter": 0}


def test_outcomes_and_decisions_are_immutable_values() -> None:
    assert (Retry(5), Stop(DROP), Outcome(DROP)) == (Retry(5), Stop(DROP), Outcome(DROP, sent=True))
    for value in (Retry(5), Stop(DROP), Outcome(DROP)):
        name = dataclasses.fields(value)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


# --- the decision after each outcome ------------------------------------------------------------------------


@pytest.mark.parametrize("reconnect", [True, None])
@pytest.mark.parametrize("error", [None, DROP, *map(status, sorted(DEFAULTS["retry_statuses"]))], ids=str)
def test_a_temporary_error_is_retried_with_reconnecting_on(
    reconnect: bool | None, error: SSEConnectionError | None
) -> None:
    assert Bench(reconnect=reconnect).attempt(error, opened=error is None) == Retry(3000)


@pytest.mark.parametrize("reconnect", [True, None, False])
@pytest.mark.parametrize(
    "error",
    [WRONG_TYPE, FINAL, TOO_LARGE, *map(status, (201, 301, 400, 401, 403, 404, 405, 410, 501, 505))],
    ids=lambda error: f"{type(error).__name__} {getattr(error, 'status', '')}",
)
def test_a_permanent_error_is_raised_immediately(reconnect: bool | None, error: SSEConnectionError) -> None:
    assert Bench(reconnect=reconnect).attempt(error) == Stop(error)


@pytest.mark.parametrize("error", [DROP, NOT_SSE, status(503), status(429, "1")], ids=str)
def test_with_reconnecting_off_an_error_is_raised(error: SSEConnectionError) -> None:
    assert Bench(reconnect=False).attempt(error, opened=True, progress=True) == Stop(error)


@pytest.mark.parametrize("progress", [True, False])
def test_with_reconnecting_off_a_clean_end_ends_the_iteration(progress: bool) -> None:
    assert Bench(reconnect=False).attempt(None, opened=True, progress=progress) == Stop(None)


def test_the_policy_sets_the_statuses_to_retry() -> None:
    policy = ReconnectPolicy(retry_statuses=frozenset({404}))
    assert isinstance(Bench(policy).attempt(status(404)), Retry)
    error = status(503)
    assert Bench(policy).attempt(error) == Stop(error)


def test_a_content_type_error_is_never_retried() -> None:
    assert Bench(ReconnectPolicy(retry_statuses=frozenset({200}))).attempt(WRONG_TYPE) == Stop(WRONG_TYPE)


# --- requests that are not sent twice by default ------------------------------------------------------------


def test_a_request_that_may_have_arrived_is_not_sent_again_by_default() -> None:
    bench = Bench(replayable=False)
    assert bench.attempt(DROP) == Stop(DROP)
    assert bench.attempt(None, opened=True, progress=True) == Stop(None)
    error = status(500)
    assert bench.attempt(error) == Stop(error)


def test_a_request_that_cannot_have_arrived_is_sent_again() -> None:
    assert Bench(replayable=False).attempt(DROP, sent=False) == Retry(3000)


@pytest.mark.parametrize("code", [429, 503])
def test_a_request_that_the_server_did_not_act_on_is_sent_again(code: int) -> None:
    assert Bench(replayable=False).attempt(status(code)) == Retry(3000)
    refused = status(code)
    narrow = ReconnectPolicy(retry_statuses=frozenset({500}))
    assert Bench(narrow, replayable=False).attempt(refused) == Stop(refused)


@pytest.mark.parametrize("error", [None, DROP, status(500)], ids=str)
def test_reconnect_true_sends_the_request_again(error: SSEConnectionError | None) -> None:
    assert Bench(replayable=False, reconnect=True).attempt(error, opened=error is None) == Retry(3000)


@pytest.mark.parametrize("error", [DROP, status(429), status(503)], ids=str)
def test_reconnect_false_does_not_send_the_request_again(error: SSEConnectionError) -> None:
    assert Bench(replayable=False, reconnect=False).attempt(error, sent=False) == Stop(error)


@pytest.mark.parametrize("error", [DROP, status(429), status(503)], ids=str)
def test_a_request_that_is_not_repeated_has_five_attempts_in_a_row(error: SSEConnectionError) -> None:
    bench = Bench(replayable=False)
    for _ in range(4):
        assert isinstance(bench.attempt(error, sent=False), Retry)
    assert bench.attempt(error, sent=False) == Stop(error)


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        (STEADY, {"replayable": True}),
        (STEADY, {"replayable": False, "reconnect": True}),
        (ReconnectPolicy(max_retries=50), {"replayable": False}),
    ],
    ids=["GET", "reconnect=True", "max_retries"],
)
def test_other_requests_and_settings_have_more_attempts(policy: ReconnectPolicy, options: dict[str, Any]) -> None:
    bench = Bench(policy, **options)
    for _ in range(50):
        assert isinstance(bench.attempt(status(503), sent=False), Retry)


# --- a peer that does not speak SSE -------------------------------------------------------------------------


def test_the_first_malformed_line_counts_as_a_drop() -> None:
    assert Bench().attempt(NOT_SSE, opened=True) == Retry(3000)


def test_a_malformed_line_on_two_connections_in_a_row_is_raised() -> None:
    bench = Bench()
    bench.attempt(NOT_SSE, opened=True)
    error = SSEParsingError("again", "<html>")
    assert bench.attempt(error, opened=True, progress=True) == Stop(error), "the error is raised despite the progress"


@pytest.mark.parametrize("between", [DROP, status(503)], ids=str)
def test_a_failed_attempt_between_two_malformed_lines_does_not_reset_the_count(between: SSEConnectionError) -> None:
    bench = Bench()
    bench.attempt(NOT_SSE, opened=True)
    assert isinstance(bench.attempt(between), Retry)
    assert bench.attempt(NOT_SSE, opened=True) == Stop(NOT_SSE)


@pytest.mark.parametrize("between", [None, DROP], ids=str)
def test_another_connection_between_two_malformed_lines_resets_the_count(between: SSEConnectionError | None) -> None:
    bench = Bench()
    for _ in range(5):
        assert isinstance(bench.attempt(NOT_SSE, opened=True), Retry)
        assert isinstance(bench.attempt(between, opened=True), Retry)


# --- giving up ----------------------------------------------------------------------------------------------


def test_attempts_without_progress_are_unlimited_by_default() -> None:
    bench = Bench()
    assert all(isinstance(bench.attempt(), Retry) for _ in range(1000))


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_after_max_retries_without_progress_the_last_error_is_raised(max_retries: int) -> None:
    bench = Bench(ReconnectPolicy(max_retries=max_retries))
    for _ in range(max_retries):
        assert isinstance(bench.attempt(status(503)), Retry)
    assert bench.attempt(DROP) == Stop(DROP)


def test_progress_resets_the_count() -> None:
    bench = Bench(ReconnectPolicy(max_retries=2))
    for _ in range(5):
        assert isinstance(bench.attempt(), Retry)
        assert isinstance(bench.attempt(), Retry)
        assert isinstance(bench.attempt(progress=True), Retry)


@pytest.mark.parametrize(("retries", "connections"), [(0, "a connection"), (1, "2 connections in a row")])
def test_after_max_retries_connections_that_only_end_raise_an_error(retries: int, connections: str) -> None:
    bench = Bench(ReconnectPolicy(max_retries=retries))
    for _ in range(retries):
        bench.attempt(None, opened=True)
    decision = bench.attempt(None, opened=True)
    assert isinstance(decision, Stop)
    assert isinstance(decision.error, SSEConnectionError)
    assert f"gave up after {connections} that ended without a new event; check" in str(decision.error)
    assert "max_retries" in str(decision.error)
