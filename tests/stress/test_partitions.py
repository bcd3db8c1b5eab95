"""Wires between ingests, Redis, the upstream and a web worker are cut; more often by `make soak ARGS=partitions`."""

from __future__ import annotations

from stress import partitions


def test_each_event_is_stored_and_received_once_whichever_wire_is_cut() -> None:
    done = partitions.run(1, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("3 cuts, ")
