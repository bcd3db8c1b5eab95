"""The scripts, call by call: what each answers, and what it leaves in the three keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual.event import SSEEvent
from sseclient_dual.redis.connections import ResponseError, Server
from sseclient_dual.redis.entries import Kind, encode_event, encode_mark, keys_of
from sseclient_dual.redis.scripts import Answer, Scripts, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.redis_servers import RedisServer


UPSTREAM = "upstream"
LEASE = 3600.0


def events(*numbers: int) -> list[list[bytes]]:
    return [encode_event(SSEEvent(f"data {number}", id=f"{number}")) for number in numbers]


@pytest.fixture
def scripts(server: RedisServer, stream: str) -> Iterator[Scripts]:
    client = Server(server.url).client()
    yield Scripts(client, keys_of(stream), lease=LEASE, maxlen=1000)
    client.close()


@pytest.fixture
def fence(scripts: Scripts) -> str:
    """Return the fence of a holder with the nonce "a"."""
    return scripts.acquire("a", UPSTREAM, "host:1").fence


def seqs(raw: Any, stream: str) -> list[int]:
    return [int(fields["seq"]) for _, fields in raw.xrange(keys_of(stream).events)]


def test_the_first_holder_begins_at_zero(scripts: Scripts, raw: Any, stream: str) -> None:
    assert scripts.acquire("a", UPSTREAM, "host:1") == Answer(Status.ACQUIRED, 0, "", "1:a", "")
    keys = keys_of(stream)
    assert raw.hgetall(keys.state) == {
        "fence": "1:a", "term": "1", "holder": "host:1", "upstream": UPSTREAM, "seq": "0", "last_id": "",
    }  # fmt: skip
    assert raw.get(keys.lease) == "1:a"
    assert LEASE * 900 < raw.pttl(keys.lease) <= LEASE * 1000


def test_a_repeated_acquire_gets_the_same_fence(scripts: Scripts, fence: str) -> None:
    assert scripts.acquire("a", UPSTREAM, "host:1").fence == fence
    assert scripts.acquire("b", UPSTREAM, "host:2").status is Status.HELD


def test_a_nonce_that_ends_like_another_is_another(scripts: Scripts) -> None:
    scripts.acquire("xa", UPSTREAM, "host:1")
    assert scripts.acquire("a", UPSTREAM, "host:2").status is Status.HELD


def test_entries_follow_the_wanted_one(scripts: Scripts, raw: Any, stream: str, fence: str) -> None:
    assert scripts.append(fence, 0, events(1, 2), "2") == Answer(Status.ADDED, 2, "2", "", "")
    assert scripts.append(fence, 2, events(3), "3").seq == 3
    entries = raw.xrange(keys_of(stream).events)
    assert [fields for _, fields in entries] == [
        {"seq": f"{number}", "data": f"data {number}", "id": f"{number}"} for number in (1, 2, 3)
    ]
    state = raw.hgetall(keys_of(stream).state)
    assert (state["seq"], state["last_id"], state["ended"]) == ("3", "3", "")


def test_a_repeated_append_adds_nothing(scripts: Scripts, raw: Any, stream: str, fence: str) -> None:
    scripts.append(fence, 0, events(1, 2), "2")
    assert scripts.append(fence, 0, events(1, 2), "2") == Answer(Status.ALREADY, 2, "2", "", "")
    assert seqs(raw, stream) == [1, 2]


def test_an_append_after_an_entry_that_is_not_the_last_is_a_rewind(
    scripts: Scripts, raw: Any, stream: str, fence: str
) -> None:
    scripts.append(fence, 0, events(1, 2), "2")
    assert scripts.append(fence, 9, events(10), "10") == Answer(Status.REWIND, 2, "2", "", "")
    assert scripts.append(fence, 9) == Answer(Status.REWIND, 2, "2", "", "")  # also while the upstream is quiet
    assert seqs(raw, stream) == [1, 2]


def test_a_lapsed_holder_that_was_replaced_is_fenced(scripts: Scripts, raw: Any, stream: str, fence: str) -> None:
    raw.delete(keys_of(stream).lease)
    other = scripts.acquire("b", UPSTREAM, "host:2")
    assert (other.status, other.fence) == (Status.ACQUIRED, "2:b")
    assert scripts.append(fence, 0, events(1), "1").status is Status.FENCED
    assert scripts.append(fence, 0).status is Status.FENCED
    assert scripts.release(fence).status is Status.FENCED
    assert raw.get(keys_of(stream).lease) == "2:b"
    assert seqs(raw, stream) == []


def test_a_lapsed_holder_that_nobody_replaced_goes_on(scripts: Scripts, raw: Any, stream: str, fence: str) -> None:
    raw.delete(keys_of(stream).lease)
    assert scripts.append(fence, 0, events(1), "1").status is Status.ADDED
    assert raw.get(keys_of(stream).lease) == fence
    assert scripts.acquire("b", UPSTREAM, "host:2").status is Status.HELD


def test_an_append_without_entries_renews_the_lease(scripts: Scripts, raw: Any, stream: str, fence: str) -> None:
    for left in (True, False):
        if left:
            raw.pexpire(keys_of(stream).lease, 1000)
        else:
            raw.delete(keys_of(stream).lease)
        assert scripts.append(fence, 0).status is Status.ALREADY
        assert raw.pttl(keys_of(stream).lease) > 1000


def test_after_a_release_another_takes_over_where_the_holder_stopped(scripts: Scripts, fence: str) -> None:
    scripts.append(fence, 0, events(1, 2), "2")
    assert scripts.release(fence).status is Status.RELEASED
    assert scripts.acquire("b", UPSTREAM, "host:2") == Answer(Status.ACQUIRED, 2, "2", "2:b", "")


def test_another_upstream_is_refused(scripts: Scripts, fence: str) -> None:
    scripts.release(fence)
    assert scripts.acquire("b", "another", "host:2").status is Status.OTHER_UPSTREAM


@pytest.mark.parametrize("fields", [{"id": "7"}, {"last_id": "7"}, {}])
def test_a_lost_state_is_recovered_from_the_last_entry(
    scripts: Scripts, raw: Any, stream: str, fence: str, fields: dict[str, str]
) -> None:
    scripts.append(fence, 0, events(1), "1")
    raw.xadd(keys_of(stream).events, {"seq": 2, "data": "x", **fields})
    raw.delete(keys_of(stream).state)
    assert scripts.append(fence, 1, events(2), "2").status is Status.FENCED
    # The lease is that of a fence that is not known any more.
    expected = "7" if fields else ""
    assert scripts.acquire("b", UPSTREAM, "host:2") == Answer(Status.ACQUIRED, 2, expected, "1:b", "")


def test_entries_that_are_ahead_of_the_state_count(scripts: Scripts, raw: Any, stream: str, fence: str) -> None:
    scripts.append(fence, 0, events(1), "1")
    raw.xadd(keys_of(stream).events, {"seq": 2, "data": "half a batch", "id": "2"})
    assert scripts.append(fence, 1, events(2, 3), "3") == Answer(Status.REWIND, 2, "2", "", "")


def test_entries_of_others_do_not_count(scripts: Scripts, raw: Any, stream: str, fence: str) -> None:
    raw.xadd(keys_of(stream).events, {"seq": "x", "data": "y"})
    assert scripts.append(fence, 0, events(1), "1").status is Status.ADDED


def test_evicted_entries_leave_the_numbers(scripts: Scripts, raw: Any, stream: str, fence: str) -> None:
    scripts.append(fence, 0, events(1, 2), "2")
    raw.delete(keys_of(stream).events)
    assert scripts.append(fence, 2, events(3), "3").seq == 3
    assert seqs(raw, stream) == [3]


def test_after_a_flush_the_holder_is_fenced_and_can_acquire_again(scripts: Scripts, raw: Any, stream: str) -> None:
    fence = scripts.acquire("a", UPSTREAM, "host:1").fence
    scripts.append(fence, 0, events(1), "1")
    raw.delete(*keys_of(stream))
    assert scripts.append(fence, 1, events(2), "2").status is Status.FENCED
    assert scripts.acquire("b", UPSTREAM, "host:1") == Answer(Status.ACQUIRED, 0, "", "1:b", "")


def test_the_end_is_told_to_those_who_were_there_before(scripts: Scripts, raw: Any, stream: str, fence: str) -> None:
    known = scripts.acquire("b", UPSTREAM, "host:2").ended
    scripts.append(fence, 0, [encode_mark(Kind.END, "")], "", ends=True)
    scripts.release(fence)
    assert scripts.acquire("b", UPSTREAM, "host:2", known) == Answer(Status.ENDED, 0, "", "", "1")
    # One that starts after the end tries anew, and so do those that stand by for it.
    assert scripts.acquire("c", UPSTREAM, "host:3").fence == "2:c"
    answer = scripts.acquire("d", UPSTREAM, "host:4")
    assert (answer.status, answer.ended) == (Status.HELD, "1")
    assert scripts.acquire("d", UPSTREAM, "host:4", "1").status is Status.HELD
    scripts.append("2:c", 1, events(1), "1")
    assert scripts.acquire("d", UPSTREAM, "host:4", "1").ended == ""
    assert raw.hget(keys_of(stream).state, "ended") == ""


def test_old_entries_are_trimmed(server: RedisServer, raw: Any, stream: str) -> None:
    client = Server(server.url).client()
    scripts = Scripts(client, keys_of(stream), lease=LEASE, maxlen=100)
    fence = scripts.acquire("a", UPSTREAM, "host:1").fence
    for seq in range(0, 1000, 50):
        scripts.append(fence, seq, events(*range(seq, seq + 50)), f"{seq + 49}")
    client.close()
    kept = seqs(raw, stream)
    assert kept == list(range(kept[0], 1001))
    assert 100 <= len(kept) <= 300


def test_the_scripts_survive_a_flush_of_scripts(scripts: Scripts, raw: Any, fence: str) -> None:
    raw.script_flush()
    assert scripts.append(fence, 0, events(1), "1").status is Status.ADDED
    assert scripts.append(fence, 1, events(2), "2").status is Status.ADDED


def test_out_of_memory_nothing_is_added_and_the_lease_can_be_renewed(own_server: RedisServer, stream: str) -> None:
    with own_server, own_server.client() as raw:
        client = Server(own_server.url).client()
        scripts = Scripts(client, keys_of(stream), lease=LEASE, maxlen=1000)
        fence = scripts.acquire("a", UPSTREAM, "host:1").fence
        scripts.append(fence, 0, events(1), "1")
        raw.config_set("maxmemory", 1)
        with pytest.raises(ResponseError, match="maxmemory"):
            scripts.append(fence, 1, events(2, 3), "3")
        raw.pexpire(keys_of(stream).lease, 1000)
        assert scripts.append(fence, 1).status is Status.ALREADY
        assert raw.pttl(keys_of(stream).lease) > 1000
        raw.config_set("maxmemory", 0)
        assert scripts.append(fence, 1, events(2, 3), "3").seq == 3
        assert seqs(raw, stream) == [1, 2, 3]
        client.close()
