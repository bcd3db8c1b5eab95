"""`RedisIngest`: one of many reads the upstream, and the stream in Redis has each event once, in order."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient, SSEStatusError
from sseclient_dual.redis import IngestStats, RedisFeed, RedisIngest
from sseclient_dual.redis.connections import Server
from sseclient_dual.redis.entries import keys_of
from sseclient_dual.redis.scripts import Scripts, Status
from sseclient_dual.testing import CUT, HANG, SSEServer, status
from support.failures import TOKEN, OopsError
from support.ingests import UNTIL_CLOSED, StreamInRedis, ingest_of, messages, numbers
from support.journals import Journal
from support.policies import QUICK, QUICK_ONCE
from support.processes import HOST
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from support.redis_servers import RedisServer

# -- the way of an event


def test_events_reach_redis_in_order_with_their_fields(server: RedisServer, prices: StreamInRedis) -> None:
    body = "id: 1\nevent: tick\ndata: a\ndata: b\n\n", "data: no id\n\n", "id\ndata: reset\n\n", "data: \u2603\n\n"
    with SSEServer() as upstream:
        upstream.stream(*body, HANG)
        with ingest_of(upstream.url, server.url, prices.name) as ingest:
            wait_until(lambda: ingest.stats.events == 4)
            assert prices.entries() == [
                {"seq": "1", "data": "a\nb", "event": "tick", "id": "1"},
                {"seq": "2", "data": "no id", "last_id": "1"},
                {"seq": "3", "data": "reset", "id": ""},
                {"seq": "4", "data": "\u2603"},
            ]
            assert prices.state["seq"] == "4"
            assert prices.state["last_id"] == ""
            assert ingest.stats == IngestStats(4, gaps=0, skipped=0, takeovers=1, rewinds=0, reconnects=0)


def test_the_state_names_the_holder(server: RedisServer, prices: StreamInRedis, upstream: SSEServer) -> None:
    with ingest_of(upstream.url, server.url, prices.name) as ingest:
        wait_until(lambda: ingest.holding)
        assert prices.state["holder"].endswith(f":{os.getpid()}")
        assert prices.state["term"] == "1"


@pytest.mark.parametrize(("batch", "least"), [(1, 200), (64, 4)])
def test_events_that_wait_are_appended_together(
    server: RedisServer, prices: StreamInRedis, batch: int, least: int
) -> None:
    def calls() -> int:
        done: int = prices.raw.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
        return done

    body = "".join(f"id: {number}\ndata: {number}\n\n" for number in range(1, 201))
    with SSEServer() as upstream:
        upstream.stream(body, HANG)
        before = calls()
        with ingest_of(upstream.url, server.url, prices.name, batch=batch) as ingest:
            wait_until(lambda: ingest.stats.events == 200)
        assert least <= calls() - before < least + 10
    assert prices.data() == numbers(1, 200)


def test_an_ingest_begins_after_the_given_id(
    server: RedisServer, prices: StreamInRedis, upstream: SSEServer, journal: Journal
) -> None:
    journal.publish(5)
    with ingest_of(upstream.url, server.url, prices.name, last_event_id="3"):
        prices.wait_for("4", "5")


def test_a_large_event_and_a_full_queue(server: RedisServer, prices: StreamInRedis) -> None:
    large = "x" * (3 * 1024 * 1024)
    body = [f"id: {number}\ndata: {large}\n\n" for number in range(1, 4)]
    with SSEServer() as upstream:
        upstream.stream(*body, HANG)
        with ingest_of(upstream.url, server.url, prices.name, queue_size=1):
            prices.wait_for(large, large, large)
    prices.delete()


# -- the lease


def test_a_standby_takes_over_after_a_close(
    server: RedisServer, prices: StreamInRedis, upstream: SSEServer, journal: Journal
) -> None:
    journal.publish(3)
    with ingest_of(upstream.url, server.url, prices.name, lease=0.5, last_event_id="0") as first:
        prices.wait_for("1", "2", "3")
        with ingest_of(upstream.url, server.url, prices.name, lease=0.5) as second:
            assert (first.holding, second.holding) == (True, False)
            first.close()
            wait_until(lambda: second.holding)
            journal.publish(3)
            prices.wait_for(*numbers(1, 6))
            assert not first.holding
    assert upstream.requests[1].last_event_id == "3"


def test_a_standby_takes_over_when_the_lease_expires(
    server: RedisServer, prices: StreamInRedis, upstream: SSEServer, journal: Journal
) -> None:
    client = Server(server.url).client()
    gone = Scripts(client, keys_of(prices.name), lease=0.3, maxlen=1000)
    with ingest_of(upstream.url, server.url, prices.name, lease=0.5) as ingest:
        wait_until(lambda: ingest.holding)  # it stores the upstream
        journal.wait_for_answers(1)
    assert gone.acquire("gone", prices.state["upstream"], "host:1").status is Status.ACQUIRED
    client.close()
    with ingest_of(upstream.url, server.url, prices.name, lease=0.5) as ingest:
        wait_until(lambda: ingest.holding)
        journal.wait_for_answers(2)
        journal.publish()
        prices.wait_for("gap", "1")


@pytest.mark.parametrize(("last_event_id", "stored"), [("", ["gap", "4"]), ("0", numbers(1, 4))])
def test_a_takeover_before_the_first_event_leaves_out_nothing_silently(
    server: RedisServer,
    prices: StreamInRedis,
    upstream: SSEServer,
    journal: Journal,
    last_event_id: str,
    stored: list[str],
) -> None:
    with ingest_of(upstream.url, server.url, prices.name, last_event_id=last_event_id):
        journal.wait_for_answers(1)
    journal.publish(3)
    with ingest_of(upstream.url, server.url, prices.name, last_event_id=last_event_id):
        journal.wait_for_answers(2)
        journal.publish()
        prices.wait_for(*stored)


def test_a_replaced_holder_appends_nothing_and_stands_by(
    server: RedisServer,
    prices: StreamInRedis,
    upstream: SSEServer,
    journal: Journal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ingest_of(upstream.url, server.url, prices.name, lease=0.5) as ingest:
        wait_until(lambda: ingest.holding)
        journal.wait_for_answers(1)
        journal.publish()
        prices.wait_for("1")
        client = Server(server.url).client()
        other = Scripts(client, keys_of(prices.name), lease=UNTIL_CLOSED, maxlen=1000)
        prices.expire()
        while other.acquire("other", prices.state["upstream"], "host:1").status is not Status.ACQUIRED:
            prices.expire()  # it has renewed its lease meanwhile
        journal.publish()
        wait_until(lambda: not ingest.holding)
        assert prices.data() == ["1"]
        other.release(prices.state["fence"])
        client.close()
        prices.wait_for("1", "2")
        wait_until(lambda: ingest.stats.takeovers == 2)
    assert [text for text in messages(caplog) if "has lost the lease" in text]


def test_a_quiet_holder_keeps_the_lease(server: RedisServer, prices: StreamInRedis, upstream: SSEServer) -> None:
    with ingest_of(upstream.url, server.url, prices.name, lease=0.3) as ingest:
        wait_until(lambda: ingest.holding)
        fence = prices.state["fence"]
        with ingest_of(upstream.url, server.url, prices.name, lease=0.3) as other:
            time.sleep(0.6)  # two leases
            assert (ingest.holding, other.holding) == (True, False)
        assert prices.state["fence"] == fence


# -- what the upstream sends again


def test_events_that_the_upstream_repeats_after_a_takeover_are_dropped(
    server: RedisServer, prices: StreamInRedis
) -> None:
    journal = Journal(repeat=3)
    with SSEServer(default=journal) as upstream:
        for last in (5, 6, 7):
            with ingest_of(upstream.url, server.url, prices.name, lease=0.5):
                journal.wait_for_answers(last - 4)
                journal.publish(last - journal.published)
                prices.wait_for(*numbers(1, last))


def test_a_new_holder_knows_the_last_thousand_events(server: RedisServer, prices: StreamInRedis) -> None:
    journal = Journal(repeat=1000)
    with SSEServer(default=journal) as upstream:
        for last in (1100, 1101):
            with ingest_of(upstream.url, server.url, prices.name, lease=0.5):
                journal.wait_for_answers(last - 1099)
                journal.publish(last - journal.published)
                prices.wait_for(*numbers(1, last))


def test_ids_that_were_repeated_over_several_connections_still_identify(
    server: RedisServer, prices: StreamInRedis
) -> None:
    body = "id: a\ndata: {0}\n\nid: b\ndata: {0}\n\n"
    with SSEServer() as upstream:
        upstream.stream(body.format(1), HANG)
        upstream.stream(body.format(2), HANG)  # numbered anew
        upstream.stream(body.format(2), "id: c\ndata: 3\n\n", HANG)
        for expected in (["1", "1"], ["1", "1", "2", "2"], ["1", "1", "2", "2", "3"]):
            with ingest_of(upstream.url, server.url, prices.name):
                prices.wait_for(*expected)


def test_an_upstream_without_ids_leaves_a_gap_at_each_new_connection(
    server: RedisServer, prices: StreamInRedis, caplog: pytest.LogCaptureFixture
) -> None:
    with SSEServer() as upstream:
        upstream.stream("data: 1\n\n")
        upstream.stream("data: 2\n\n")
        upstream.stream(": nothing\n\n")
        upstream.stream("data: 3\n\n", HANG)
        with ingest_of(upstream.url, server.url, prices.name) as ingest:
            prices.wait_for("1", "gap", "2", "gap", "3")  # not two in a row
            assert ingest.stats.reconnects == 3
        assert len([text for text in messages(caplog) if "events may be missing" in text]) == 3
        upstream.stream("data: 4\n\n", HANG)
        with ingest_of(upstream.url, server.url, prices.name):
            prices.wait_for("1", "gap", "2", "gap", "3", "gap", "4")


def test_the_first_connection_is_no_gap(server: RedisServer, prices: StreamInRedis) -> None:
    with SSEServer() as upstream:
        upstream.stream(CUT)
        upstream.stream("data: 1\n\n", HANG)
        with ingest_of(upstream.url, server.url, prices.name):
            prices.wait_for("gap", "1")  # of the second one, because events may have come between the two


# -- the end of the stream


@pytest.mark.parametrize("how", ["204", "until"])
def test_the_end_of_the_stream_ends_all_ingests(server: RedisServer, prices: StreamInRedis, how: str) -> None:
    gate_options: dict[str, Any] = {"until": "[DONE]"} if how == "until" else {}
    journal = Journal()
    with SSEServer(default=journal) as upstream:
        with ingest_of(upstream.url, server.url, prices.name, lease=0.5, **gate_options) as first:
            journal.wait_for_answers(1)
            journal.publish()
            prices.wait_for("1")
            with ingest_of(upstream.url, server.url, prices.name, lease=0.5, **gate_options) as second:
                wait_until(lambda: second._worker is not None and second._worker._seq == 1)
                if how == "204":
                    upstream.add(status(204))
                else:
                    upstream.stream("data: [DONE]\n\n", HANG)
                upstream.refuse(drop=True)
                upstream.listen()
                for ingest in (first, second):
                    assert ingest._worker is not None
                    assert ingest._worker.finished.wait(PATIENCE)
        assert prices.data() == ["1", "end"]
        assert prices.entries()[-1] == {"seq": "2", "kind": "end", "last_id": "1"}
        # One that starts later asks the upstream again.
        with ingest_of(upstream.url, server.url, prices.name, lease=0.5):
            journal.publish()
            prices.wait_for("1", "end", "2")


def test_run_returns_at_the_end(server: RedisServer, prices: StreamInRedis) -> None:
    with SSEServer() as upstream, SSEClient(policy=QUICK) as client:
        upstream.stream("id: 1\ndata: 1\n\n", CUT)
        RedisIngest(client, upstream.url, redis=server.url, name=prices.name).run()
    assert prices.data() == ["1", "end"]


# -- errors


def test_run_raises_the_error_of_the_upstream_and_leaves_the_lease(
    server: RedisServer, prices: StreamInRedis
) -> None:
    with SSEServer(default=status(404)) as upstream, SSEClient() as client:
        ingest = RedisIngest(client, upstream.url, redis=server.url, name=prices.name)
        with pytest.raises(SSEStatusError, match="404"):
            ingest.run()
        assert not ingest.holding
        assert prices.raw.get(keys_of(prices.name).lease) is None
        with pytest.raises(SSEStatusError, match="404"):  # it may be run again
            ingest.run()


def test_an_ingest_that_cannot_reach_the_upstream_leaves_it_to_others(
    server: RedisServer, prices: StreamInRedis, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal()
    with SSEServer(default=journal) as upstream:
        options: dict[str, Any] = {"lease": 0.5, "policy": QUICK_ONCE, "last_event_id": "0"}

        def moved() -> dict[str, str]:  # the same upstream, but only one of the two can use it
            raise OopsError(TOKEN)

        with ingest_of(upstream.url, server.url, prices.name, headers=moved, **options) as cut_off:
            wait_until(lambda: [text for text in messages(caplog, logging.ERROR) if "standing by again" in text])
            with ingest_of(upstream.url, server.url, prices.name, **options) as other:
                wait_until(lambda: other.holding)
                journal.wait_for_answers(1)
                journal.publish()
                prices.wait_for("1")
            wait_until(lambda: cut_off.stats.takeovers > 1)
    assert [record for record in caplog.records if record.exc_info]


def test_the_upstream_is_tried_again_after_a_refusal(
    server: RedisServer, prices: StreamInRedis, caplog: pytest.LogCaptureFixture
) -> None:
    with SSEServer(status(404), default=Journal()) as upstream:
        with ingest_of(upstream.url, server.url, prices.name, lease=0.1) as ingest:
            wait_until(lambda: ingest.stats.takeovers == 2 and ingest.holding)
    (text,) = messages(caplog, logging.ERROR)
    refusal = f"{prices.name}: {upstream.origin} answered with status 404 Not Found, not 200; check the URL"
    assert text == f"{refusal}; standing by again in 0.1 s"


def test_another_url_under_the_same_name_is_refused(
    server: RedisServer, prices: StreamInRedis, upstream: SSEServer, caplog: pytest.LogCaptureFixture
) -> None:
    with ingest_of(f"{upstream.url}?token={TOKEN}", server.url, prices.name) as ingest:
        wait_until(lambda: ingest.holding)
    with SSEClient() as client:
        with pytest.raises(ValueError, match="is that of another URL"):
            RedisIngest(client, f"{upstream.url}other", redis=server.url, name=prices.name).run()
    with ingest_of(f"{upstream.url}other", server.url, prices.name) as ingest:
        wait_until(lambda: [text for text in messages(caplog, logging.ERROR) if "is that of another URL" in text])
    with ingest_of(f"{upstream.url}?token=another", server.url, prices.name) as ingest:  # the query does not count
        wait_until(lambda: ingest.holding)


def test_an_event_that_is_too_large_for_redis_is_skipped(
    own_server: RedisServer, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server, own_server.client() as raw, SSEServer() as upstream:
        raw.config_set("proto-max-bulk-len", "1mb")
        upstream.stream("id: 1\ndata: 1\n\n", f"id: 2\ndata: {'x' * 1_100_000}\n\n", "id: 3\ndata: 3\n\n", HANG)
        prices = StreamInRedis(raw, stream)
        with ingest_of(upstream.url, own_server.url, stream) as ingest:
            prices.wait_for("1", "skipped", "3")
            assert prices.entries()[1] == {"seq": "2", "kind": "skipped", "last_id": "2"}
            wait_until(lambda: ingest.stats.skipped == 1)
    assert [text for text in messages(caplog) if "an event of 1100000 bytes is skipped" in text]


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "allkeys-lru"])
def test_a_policy_that_may_evict_the_stream_is_a_warning(
    own_server: RedisServer, stream: str, upstream: SSEServer, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    with own_server, own_server.client() as raw:
        raw.config_set("maxmemory-policy", policy)
        with ingest_of(upstream.url, own_server.url, stream) as ingest:
            wait_until(lambda: ingest.holding and upstream.requests)
    assert bool(messages(caplog)) == (policy == "allkeys-lru")


def test_a_user_of_redis_needs_few_rights(
    own_server: RedisServer, stream: str, upstream: SSEServer, journal: Journal
) -> None:
    with own_server, own_server.client() as raw:
        commands = ("eval", "evalsha", "xadd", "xrevrange", "hget", "hset", "hmget", "get", "set", "del", "pexpire")
        rights = ["-@all", *(f"+{command}" for command in commands), "~sse:*"]
        raw.execute_command("ACL", "SETUSER", "ingest", "on", f">{TOKEN}", *rights)
        with ingest_of(upstream.url, f"redis://ingest:{TOKEN}@{HOST}:{own_server.port}", stream):
            journal.wait_for_answers(1)
            journal.publish()
            StreamInRedis(raw, stream).wait_for("1")
        rights = ["-@all", "+xread", "+xrange", "+xrevrange", "~sse:*"]
        raw.execute_command("ACL", "SETUSER", "feed", "on", f">{TOKEN}", *rights)
        with RedisFeed(f"redis://feed:{TOKEN}@{HOST}:{own_server.port}", stream) as feed:
            assert feed.subscribe("0-0/").recv(timeout=PATIENCE).id == "1"
