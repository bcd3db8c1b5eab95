"""A peer that is gone without a word is found dead, and the stream goes on; `make soak` takes its time."""

from __future__ import annotations

from stress import dead_peer


def test_a_peer_behind_a_cut_wire_is_found_dead_and_the_stream_goes_on() -> None:
    done = dead_peer.run("brisk", capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("dead after") == len(dead_peer.LISTS["brisk"])
