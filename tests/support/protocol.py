"""A model of the protocol: ingests that pause, retry and die, and a Redis that loses data, in any order.

The scripts run on a real server. The ingests are models of `Worker` and `Holding`: they decide by the answers alone.
The upstream numbers its events and replays those after an id. After each step, the stream must continue where it was:
each event follows the one before, or a gap.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from sseclient_dual.event import SSEEvent
from sseclient_dual.redis.connections import Server
from sseclient_dual.redis.entries import Kind, encode_event, encode_mark, keys_of
from sseclient_dual.redis.scripts import Answer, Scripts, Status
from support.ingests import UNTIL_CLOSED, StreamInRedis

if TYPE_CHECKING:
    from support.redis_servers import RedisServer

Call: TypeAlias = Callable[[], Answer]

INGESTS = st.integers(0, 1)
FEW = st.integers(1, 3)


class Ingest:
    """What one ingest knows."""

    def __init__(self) -> None:
        self.known = 0, ""  # number of the last entry, and last event ID after it
        self.stand_by()

    def stand_by(self) -> None:
        self.nonce = os.urandom(4).hex()
        self.fence = ""
        self.batch: list[list[bytes]] = []  # not acknowledged
        self.batch_id = ""

    def acquired(self, answer: Answer, published: int) -> None:
        self.fence = answer.fence
        if answer.seq:
            self.known = answer.seq, answer.last_id
        elif self.known[0]:  # the stream is lost
            self.known = 0, self.known[1]
            self.batch = [encode_mark(Kind.GAP, self.known[1])]
            self.batch_id = self.known[1]
        else:
            self.known = 0, f"{published}"  # from now on

    def take(self, count: int, published: int) -> None:
        """Read the next events from the upstream, unless there are some that are not acknowledged."""
        if not self.batch:
            first = int(self.known[1] or published) + 1
            numbers = range(first, min(first + count, published + 1))
            self.batch = [encode_event(SSEEvent(f"{number}", id=f"{number}")) for number in numbers]
            self.batch_id = f"{numbers[-1]}" if numbers else self.known[1]

    def appended(self, answer: Answer) -> None:
        if answer.status in {Status.ADDED, Status.ALREADY}:
            self.known = answer.seq, self.batch_id
            self.batch = []
        else:
            self.stand_by()


class Protocol(RuleBasedStateMachine):
    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.client = Server(self.server.url).client()
        self.stream = StreamInRedis(self.server.client(), f"protocol-{os.urandom(8).hex()}")
        self.keys = keys_of(self.stream.name)
        self.scripts = Scripts(self.client, self.keys, lease=UNTIL_CLOSED, maxlen=10_000)
        self.ingests = [Ingest() for _ in range(2)]
        self.published = 1
        self.late: list[Call] = []
        self.past: list[dict[str, Any]] = []

    def teardown(self) -> None:
        self.stream.delete()
        self.stream.raw.close()
        self.client.close()

    # -- what ingests and their upstream do

    @rule(number=INGESTS, is_lost=st.booleans())
    def acquire(self, number: int, *, is_lost: bool) -> None:
        ingest = self.ingests[number]
        if ingest.fence:
            return
        answer = self.scripts.acquire(ingest.nonce, "upstream", "")
        if is_lost:
            return
        if answer.status is Status.ACQUIRED:
            assert answer.fence not in {other.fence for other in self.ingests}
            ingest.acquired(answer, self.published)
        elif answer.seq:
            ingest.known = answer.seq, answer.last_id

    @rule(number=INGESTS, count=FEW, how=st.sampled_from(["answered", "answered", "answer lost", "late"]))
    def append(self, number: int, count: int, how: str) -> None:
        self.acquire(number, is_lost=False)
        ingest = self.ingests[number]
        if not ingest.fence:
            return
        self.published += count
        ingest.take(count, self.published)
        fence, wanted, batch, last_id = ingest.fence, ingest.known[0], ingest.batch, ingest.batch_id

        def call() -> Answer:
            holder = self.stream.state.get("fence")
            answer = self.scripts.append(fence, wanted, batch, last_id)
            assert (answer.status is Status.FENCED) == (holder != fence)
            return answer

        if how == "late":
            self.late.append(call)
            return
        answer = call()
        if how == "answered":
            ingest.appended(answer)

    @precondition(lambda self: self.late)
    @rule()
    def a_late_call_arrives(self) -> None:
        self.late.pop(0)()

    @rule(number=INGESTS, how=st.sampled_from(["killed", "released", "expired"]))
    def the_turn_of_an_ingest_ends(self, number: int, how: str) -> None:
        ingest = self.ingests[number]
        if how == "killed":
            self.ingests[number] = Ingest()
        elif how == "released" and ingest.fence:
            self.scripts.release(ingest.fence)
            ingest.stand_by()
        self.stream.expire()

    # -- what happens to Redis

    @precondition(lambda self: len(self.past) > 1)
    @rule(steps=st.integers(1, 4))
    def the_newest_data_is_lost(self, steps: int) -> None:
        self.stream.restore(self.past[max(0, len(self.past) - 1 - steps)])

    @rule(lost=st.sampled_from([["state"], ["events"], ["events", "state"]]))
    def keys_are_lost(self, lost: list[str]) -> None:
        self.stream.raw.delete(*(getattr(self.keys, part) for part in lost))

    @rule(number=INGESTS)
    def half_an_append_is_lost(self, number: int) -> None:
        """Leave one entry of an append of two, as a damaged append-only file does."""
        ingest = self.ingests[number]
        before = self.stream.dump()
        if ingest.fence and not ingest.batch:
            self.published += 2
            ingest.take(2, self.published)
            if len(ingest.batch) < 2 or self.scripts.append(
                ingest.fence, ingest.known[0], ingest.batch, ingest.batch_id
            ).status is not Status.ADDED:  # fmt: skip
                self.stream.restore(before)
                ingest.stand_by()
                return
            newest = self.stream.raw.xrevrange(self.keys.events, count=1)[0][0]
            self.stream.raw.xdel(self.keys.events, newest)
            events = {self.keys.events: self.stream.dump()[self.keys.events]}
            self.stream.restore(before | events)

    # -- what must hold

    @invariant()
    def the_stream_continues(self) -> None:
        entries = self.stream.entries()
        for before, after in pairwise(entries):
            if "kind" not in after:
                last_id = before.get("id", before.get("last_id"))
                assert int(after["id"]) == int(last_id or 0) + 1, [entry.get("id", "gap") for entry in entries]
        state = self.stream.state
        if entries and state and int(state["seq"]) >= int(entries[-1]["seq"]):
            last = entries[-1]
            assert (state["seq"], state["last_id"]) == (last["seq"], last.get("id", last.get("last_id")))
        self.past.append(self.stream.dump())

    @rule()
    def a_new_ingest_completes_the_stream(self) -> None:
        self.stream.expire()
        ingest = Ingest()
        ingest.acquired(self.scripts.acquire(ingest.nonce, "upstream", ""), self.published)
        begins = ingest.known == (0, f"{self.published}")
        ingest.take(1000, self.published)
        ingest.appended(self.scripts.append(ingest.fence, ingest.known[0], ingest.batch, ingest.batch_id))
        self.scripts.release(ingest.fence)
        assert begins or self.stream.state["last_id"] == f"{self.published}"


def run_model(server: RedisServer, **options: Any) -> None:
    """Run the model with settings of hypothesis."""
    machine = type("ProtocolOnServer", (Protocol,), {"server": server})
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine, settings=settings(deadline=None, stateful_step_count=30, suppress_health_check=checks, **options)
    )
