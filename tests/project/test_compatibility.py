"""Programs written for 0.1.0, the first version, still find all names, arguments and options that it had."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

import sseclient_dual
from sseclient_dual import EventStreamParser, ReconnectPolicy, SSEClient, SSEConnection, SSEEvent, testing
from sseclient_dual.cli.arguments import parse
from sseclient_dual.testing import Gate, SSEServer

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = """
    Comment EventStreamParser Interrupted Opened ReadyState ReconnectPolicy SSEClient SSEClosedError SSEConnection
    SSEConnectionError SSEContentTypeError SSEError SSEEvent SSEEventTooLargeError SSEParsingError SSEStatusError
"""
NAMES_FOR_TESTS = """
    CUT Gate HANG Headers RESET ReceivedRequest Reply SSEServer Step half_chunk pause raw redirect status stream wire
"""
CONNECTION = """
    open close aclose restart recv arecv signals relay arelay url ready_state last_event_id reconnection_time status
    headers response_url stats __iter__ __next__ __aiter__ __anext__ __enter__ __exit__ __aenter__ __aexit__
"""
# Functions and their parameters: those before the star by position, in this order, and those after it by name.
SIGNATURES: list[tuple[Callable[..., Any], str]] = [
    (SSEClient, "pool * headers auth timeout verify ssl_context proxy trust_env policy"),
    (
        SSEClient.connect,
        """self url method headers params data json * multipart auth verify ssl_context timeout redirect reconnect
        retry_delay keep_connection last_event_id strict policy queue_size max_event_size""",
    ),
    (SSEConnection.open, "self timeout"),
    (SSEConnection.recv, "self timeout"),
    (SSEConnection.arecv, "self timeout"),
    (SSEConnection.relay, "self heartbeat"),
    (SSEConnection.arelay, "self heartbeat"),
    (
        ReconnectPolicy,
        "retry_delay max_retry_delay min_retry_delay multiplier jitter max_retries retry_statuses dedup dedup_window",
    ),
    (EventStreamParser, "strict comments max_event_size last_event_id"),
    (SSEEvent, "data event id retry * last_event_id origin"),
    (SSEServer, "replies * tls port default handshake"),
    (SSEServer.wait_for_requests, "self count timeout"),
    (Gate.wait_reached, "self timeout"),
    (testing.stream, "steps * status reason headers content_type framing encoding head_with_body"),
    (testing.status, "code body headers content_type reason"),
    (testing.redirect, "location code headers"),
]
OPTIONS = """
    -X --request -H --header -d --data --last-event-id --save-id --no-reconnect --retry-delay --timeout --strict
    --no-strict --event --max-events --json --raw --stats -v --verbose --demo --version
"""


def test_all_names_are_still_there() -> None:
    assert set(NAMES.split()) <= set(sseclient_dual.__all__)
    assert set(NAMES_FOR_TESTS.split()) <= set(testing.__all__)
    assert set(CONNECTION.split()) <= set(dir(SSEConnection))


@pytest.mark.parametrize(("function", "parameters"), SIGNATURES, ids=lambda value: getattr(value, "__qualname__", ""))
def test_all_arguments_can_still_be_passed_as_before(function: Callable[..., Any], parameters: str) -> None:
    by_position, _, by_name = (part.split() for part in parameters.partition("*"))
    now = list(inspect.signature(function).parameters)
    assert now[: len(by_position)] == by_position
    assert set(by_name) <= set(now)


def test_the_command_still_has_all_options() -> None:
    parser, _ = parse(["http://127.0.0.1/"])
    options = {name for action in parser._actions for name in action.option_strings}
    assert set(OPTIONS.split()) <= options
