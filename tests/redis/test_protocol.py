"""No order of failures breaks a stream in Redis; and without one of the checks in the scripts, some order does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase

from sseclient_dual.redis import scripts
from sseclient_dual.redis.scripts import Script
from support.protocol import run_model

if TYPE_CHECKING:
    from support.redis_servers import RedisServer

MUTANTS = {
    "no fence": ("_append", "~= ARGV[1] then return {'FENCED'", "== '' then return {'FENCED'"),
    "a fence without its nonce": ("_acquire", "fence = term .. ':' .. ARGV[1]", "fence = term .. ':'"),
    "repetitions are not noticed": ("_append", "if seq ~= wanted then return", "if seq < wanted then return"),
    "entries ahead of the state do not count": ("_append", "entry > seq", "false"),
    "entries do not tell the position": ("_acquire", "entry > seq", "false"),
    "the position is not stored": ("_append", "'last_id', last_id, 'ended'", "'ended'"),
}


def test_no_order_of_failures_breaks_the_stream(server: RedisServer) -> None:
    run_model(server, max_examples=25)  # `make soak ARGS=redis` runs more


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_model_finds_a_script_without_one_of_its_checks(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    name, old, new = MUTANTS[mutant]
    source = getattr(scripts, name).source.decode()
    assert old in source
    monkeypatch.setattr(scripts, name, Script(source.replace(old, new)))
    with pytest.raises(AssertionError):
        run_model(server, max_examples=300, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False)
