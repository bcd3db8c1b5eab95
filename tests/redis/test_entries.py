"""The entries of the stream: each event survives encoding, and entries of other writers do no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseclient_dual import SSEEvent
from sseclient_dual.redis.entries import Kind, decode, encode_event, encode_mark, keys_of

IDS = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def pairs(fields: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


@given(TEXTS, st.none() | IDS.filter(bool), st.none() | IDS, IDS)
def test_an_event_survives(data: str, event: str | None, own_id: str | None, before: str) -> None:
    sent = SSEEvent(data, event, own_id, last_event_id=before if own_id is None else own_id)
    entry = decode(b"5-1", {b"seq": b"12", **pairs(encode_event(sent))})
    assert (entry.position, entry.seq, entry.kind) == ("5-1", 12, Kind.EVENT)
    assert entry.event == sent
    assert entry.last_event_id == sent.last_event_id == entry.event.last_event_id


@given(st.sampled_from([Kind.GAP, Kind.END, Kind.SKIPPED]), IDS)
def test_a_mark_survives(kind: Kind, last_event_id: str) -> None:
    entry = decode(b"5-1", {b"seq": b"12", **pairs(encode_mark(kind, last_event_id))})
    assert (entry.seq, entry.kind, entry.last_event_id, entry.event) == (12, kind, last_event_id, None)


def test_only_fields_with_a_value_take_memory() -> None:
    assert encode_event(SSEEvent("x")) == [b"data", b"x"]
    assert encode_mark(Kind.GAP, "") == [b"kind", b"gap"]


@given(st.dictionaries(st.sampled_from([b"seq", b"kind", b"data", b"id"]) | st.binary(), st.binary()))
def test_the_entries_of_other_writers_can_be_decoded(fields: dict[bytes, bytes]) -> None:
    entry = decode(b"5-1", fields)
    assert (entry.event is None) == (entry.kind is not Kind.EVENT)
    assert entry.seq >= 0


def test_an_unknown_kind_is_no_event() -> None:
    assert decode(b"5-1", {b"kind": b"new", b"seq": b"3"}).kind is Kind.SKIPPED
    assert decode(b"5-1", {b"seq": b"\xb2", b"data": b"\xff"}).seq == 0
    assert decode(b"5-1", {b"seq": b"9" * 5000, b"data": b"x"}).seq == 0


def test_the_keys_of_a_stream() -> None:
    assert keys_of("prices") == ("sse:{prices}:events", "sse:{prices}:state", "sse:{prices}:lease")


@pytest.mark.parametrize("name", ["", "a\nb", "{a", "a}"])
def test_a_name_that_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must"):
        keys_of(name)
