"""An ingest when Redis loses entries, or is away."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from sseclient_dual.redis.entries import keys_of
from support.delays import delaying_proxy
from support.ingests import StreamInRedis, ingest_of, messages, numbers
from support.processes import HOST
from support.redis_proxy import CuttingProxy
from support.redis_servers import RedisServer
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sseclient_dual.redis import RedisIngest
    from sseclient_dual.testing import SSEServer
    from support.journals import Journal


# -- what Redis loses


@pytest.fixture
def ingest(
    server: RedisServer, prices: StreamInRedis, upstream: SSEServer, journal: Journal
) -> Iterator[RedisIngest]:
    """Return an ingest that is connected to the upstream."""
    with ingest_of(upstream.url, server.url, prices.name, lease=0.5) as ingest:
        journal.wait_for_answers(1)
        yield ingest


def test_entries_that_redis_has_lost_are_read_again(
    ingest: RedisIngest,
    prices: StreamInRedis,
    journal: Journal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal.publish(3)
    prices.wait_for("1", "2", "3")
    before = prices.dump()
    journal.publish(4)
    prices.wait_for(*numbers(1, 7))
    prices.restore(before)
    prices.wait_for(*numbers(1, 7))  # although no event arrives
    assert ingest.stats.rewinds == 1
    assert ingest.stats.gaps == 0
    assert [text for text in messages(caplog) if "has lost its newest entries" in text]


def test_redis_may_lose_entries_again_and_again(ingest: RedisIngest, prices: StreamInRedis, journal: Journal) -> None:
    journal.publish()
    prices.wait_for("1")
    before = prices.dump()
    for last in range(2, 5):
        journal.publish()
        wait_until(lambda: prices.data() == numbers(1, last))
        prices.restore(before)
    wait_until(lambda: prices.data() == numbers(1, 4))
    assert ingest.stats.takeovers == 4  # sometimes with the fence of the turn before: FENCED, not REWIND


def test_if_all_entries_are_lost_a_gap_is_told(ingest: RedisIngest, prices: StreamInRedis, journal: Journal) -> None:
    before = prices.dump()
    journal.publish()
    prices.wait_for("1")
    prices.restore(before)
    journal.publish()
    prices.wait_for("gap", "2")


def test_after_a_flush_one_gap_is_told(ingest: RedisIngest, prices: StreamInRedis, journal: Journal) -> None:
    journal.publish(3)
    prices.wait_for("1", "2", "3")
    prices.delete()
    journal.publish()
    prices.wait_for("gap", "4")
    assert prices.entries()[0] == {"seq": "1", "kind": "gap", "last_id": "3"}
    wait_until(lambda: ingest.stats.gaps == 1)


def test_a_standby_tells_the_gap_of_a_flush_too(
    ingest: RedisIngest, server: RedisServer, prices: StreamInRedis, upstream: SSEServer, journal: Journal
) -> None:
    journal.publish(2)
    prices.wait_for("1", "2")
    with ingest_of(upstream.url, server.url, prices.name, lease=0.5) as second:
        wait_until(lambda: second._worker is not None and second._worker._seq == 2)
        prices.delete()
        ingest.close()
        wait_until(lambda: second.holding)
        journal.publish()
        wait_until(lambda: prices.data()[-1:] == ["3"])
        assert prices.data() in (["gap", "3"], ["gap", "gap", "3"])


def test_a_lost_state_is_no_gap(ingest: RedisIngest, prices: StreamInRedis, journal: Journal) -> None:
    journal.publish(3)
    prices.wait_for("1", "2", "3")
    prices.raw.delete(keys_of(prices.name).state)
    journal.publish()
    prices.wait_for("1", "2", "3", "4")
    assert ingest.stats.gaps == 0


# -- Redis is away


def test_while_redis_is_away_nothing_is_lost_and_the_upstream_waits(
    own_server: RedisServer, stream: str, upstream: SSEServer, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with own_server:
        with ingest_of(upstream.url, own_server.url, stream, lease=0.5, queue_size=10) as ingest:
            journal.wait_for_answers(1)
            journal.publish()
            with own_server.client() as raw:
                StreamInRedis(raw, stream).wait_for("1")
            own_server.kill()
            journal.publish(500)
            wait_until(lambda: [text for text in messages(caplog) if "trying again until it answers" in text])
            own_server.start()
            with own_server.client() as raw:
                StreamInRedis(raw, stream).wait_for(*numbers(1, 501))
            assert ingest.stats.gaps == 0
    assert [text for text in messages(caplog, logging.INFO) if "answers again" in text]


def test_an_ingest_starts_before_redis(own_server: RedisServer, stream: str, upstream: SSEServer) -> None:
    with ingest_of(upstream.url, own_server.url, stream) as ingest:
        time.sleep(0.05)
        assert not ingest.holding
        with own_server:
            wait_until(lambda: ingest.holding)
            ingest.close()
            assert ingest._worker is not None
            assert ingest._worker.finished.wait(PATIENCE)


def test_out_of_memory_the_ingest_pauses(
    own_server: RedisServer, stream: str, upstream: SSEServer, journal: Journal
) -> None:
    with own_server, own_server.client() as raw:
        prices = StreamInRedis(raw, stream)
        with ingest_of(upstream.url, own_server.url, stream, lease=0.5) as ingest:
            journal.wait_for_answers(1)
            journal.publish()
            prices.wait_for("1")
            raw.config_set("maxmemory", 1)
            journal.publish(5)
            with ingest_of(upstream.url, own_server.url, stream, lease=0.5) as other:
                time.sleep(0.7)
                assert ingest.holding
                assert not other.holding
                assert prices.data() == ["1"]
                raw.config_set("maxmemory", 0)
                prices.wait_for(*numbers(1, 6))


def test_a_replica_that_lacks_the_newest_entries_takes_over(
    own_server: RedisServer, tmp_path: Path, stream: str, upstream: SSEServer, journal: Journal
) -> None:
    with ExitStack() as stack:
        replica = stack.enter_context(RedisServer(tmp_path / "replica"))
        stack.enter_context(own_server)
        proxy = stack.enter_context(CuttingProxy(own_server.port, 0, 0))
        old, new = (stack.enter_context(server.client()) for server in (own_server, replica))
        old.config_set("repl-diskless-sync-delay", 0)
        new.replicaof(HOST, own_server.port)
        wait_until(lambda: new.info("replication")["master_link_status"] == "up")
        ingest = stack.enter_context(ingest_of(upstream.url, proxy.url, stream, lease=0.5))
        journal.wait_for_answers(1)
        journal.publish(3)
        StreamInRedis(new, stream).wait_for("1", "2", "3")
        new.replicaof("NO", "ONE")
        journal.publish(4)
        StreamInRedis(old, stream).wait_for(*numbers(1, 7))
        proxy.redirect(replica.port)
        StreamInRedis(new, stream).wait_for(*numbers(1, 7))
        assert ingest.stats.gaps == 0


def test_the_lease_is_renewed_while_a_new_holder_reads_the_stream(
    server: RedisServer, prices: StreamInRedis, upstream: SSEServer, journal: Journal
) -> None:
    """Otherwise ingests that take longer for it than the lease lasts would depose each other for ever."""
    journal.publish(1100)
    with ingest_of(upstream.url, server.url, prices.name, last_event_id="0") as first:
        wait_until(lambda: first.stats.events == 1100)
    with ExitStack() as stack:
        ingests = []
        for _ in range(2):
            port = stack.enter_context(delaying_proxy(server.port, 0.03))
            ingests.append(
                stack.enter_context(ingest_of(upstream.url, f"redis://{HOST}:{port}", prices.name, lease=0.5))
            )
        journal.publish()
        prices.wait_for(*numbers(1, 1101))
        assert sum(ingest.stats.takeovers for ingest in ingests) < 4
