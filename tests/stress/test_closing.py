"""Close in every state and in every way: immediately, completely, without leftovers. `make soak` runs longer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from stress.closing import WAYS, Tally, close_busy, close_in_state
from stress.endings import ENDINGS, end_process
from stress.states import PLACES, WIRES, place_name
from support.waiting import BOUND, PATIENCE

if TYPE_CHECKING:
    from stress.closing import Way
    from stress.states import State, Wire
    from support.tls import Tls


@pytest.mark.parametrize(("state", "wire"), PLACES, ids=map(place_name, PLACES))
@pytest.mark.parametrize("way", WAYS, ids=[way.__name__.replace("_", " ") for way in WAYS])
def test_close_in_every_state_and_in_every_way(
    state: State,
    way: Way,
    tls: Tls,
    caplog: pytest.LogCaptureFixture,
    wire: Wire,
) -> None:
    # Three attempts: a close that blocks is slow each time, a busy machine is not.
    assert any((close_in_state(state, way, tls, wire) or 0) < BOUND for _ in range(3))
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("api_name", ["sync", "async"])
def test_a_process_ends_immediately_with_connections_in_every_state(api_name: str, ending: str, tls: Tls) -> None:
    assert end_process(PLACES, api_name, ending, tls) < PATIENCE / 2


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("api_name", ["sync", "async"])
def test_many_closes_of_a_busy_stream_deliver_no_garbage(api_name: str, tls: Tls, wire: Wire) -> None:
    seconds = list(close_busy(api_name, 50, tls, wire))
    # A tenth may be slow on a busy machine.
    assert sum(took >= BOUND for took in seconds) <= len(seconds) / 10, Tally(seconds)
