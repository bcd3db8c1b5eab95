"""Events and other signals: mapping, attributes, equality, patterns, encoding and weight."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sseclient_dual.errors import SSEConnectionError, SSEParsingError, SSEStatusError
from sseclient_dual.event import Comment, Interrupted, Opened, ReadyState, SSEEvent, weight
from sseclient_dual.parser import MAX_RETRY, EventStreamParser

if TYPE_CHECKING:
    from typing_extensions import assert_type

KEYS = ("data", "event", "id", "retry")
ATTRIBUTES = (*KEYS, "type", "last_event_id", "origin")
PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)
FULL = SSEEvent("a\nb", "update", "7", 500, last_event_id="7", origin="https://example.com")
BARE = SSEEvent("tick")
ERROR = SSEConnectionError("reset")
SIGNALS = [Comment("ping"), Opened(200, {"Server": "x"}, "https://example.com/"), Interrupted(ERROR, 3000)]

characters = st.characters(exclude_categories=["Cs"])  # UTF-8 cannot encode lone surrogates
lines = st.text(characters.filter(lambda character: character not in "\r\n"))
events = st.builds(
    SSEEvent,
    data=st.lists(st.text(characters) | st.sampled_from(["\r", "\n", "\r\n", " ", ":"])).map("".join),
    event=st.none() | lines.filter(bool),
    id=st.none() | lines.filter(lambda value: "\0" not in value),
    retry=st.none() | st.integers(0, MAX_RETRY),
)


def parse(body: bytes) -> list[SSEEvent]:
    """Parse a body that contains only complete events."""
    parser = EventStreamParser(strict=True, comments=True)
    items = parser.feed(body)
    assert parser.error is None
    parsed = [item for item in items if isinstance(item, SSEEvent)]
    assert len(parsed) == len(items)
    return parsed


# --- a mapping ----------------------------------------------------------------------------------------------


def test_an_event_is_a_mapping_of_exactly_four_keys() -> None:
    assert isinstance(FULL, Mapping)
    assert not isinstance(FULL, MutableMapping)
    assert tuple(FULL) == tuple(FULL.keys()) == KEYS
    assert len(FULL) == len(BARE) == 4
    assert list(FULL.values()) == ["a\nb", "update", "7", 500]
    assert list(FULL.items()) == [("data", "a\nb"), ("event", "update"), ("id", "7"), ("retry", 500)]
    assert dict(BARE) == {"data": "tick", "event": None, "id": None, "retry": None}


@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_an_attribute_too(key: str) -> None:
    for event in (FULL, BARE):
        assert event[key] == event.get(key) == getattr(event, key)
        assert key in event


@pytest.mark.parametrize("key", ["type", "last_event_id", "origin", "json", "_data", "", None, 0, ("data",)])
def test_there_is_no_other_key(key: Any) -> None:
    with pytest.raises(KeyError, match=re.escape(repr(key))):
        FULL[key]
    assert key not in FULL
    assert FULL.get(key) is None
    assert FULL.get(key, 5) == 5


def test_an_event_can_be_unpacked() -> None:
    def take(**fields: object) -> dict[str, object]:
        return fields

    assert take(**FULL) == dict(FULL)
    assert SSEEvent(**FULL) == FULL  # type: ignore[arg-type]


def test_an_event_as_a_dict_can_be_dumped_as_json() -> None:
    assert json.loads(json.dumps(dict(FULL))) == FULL


# --- attributes ---------------------------------------------------------------------------------------------


def test_only_the_data_is_required() -> None:
    assert (BARE.data, BARE.event, BARE.id, BARE.retry) == ("tick", None, None, None)
    assert (BARE.type, BARE.last_event_id, BARE.origin) == ("message", "", "")
    with pytest.raises(TypeError):
        SSEEvent()  # type: ignore[call-arg]


def test_arguments_that_are_not_keys_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        SSEEvent("tick", None, None, None, "7")  # type: ignore[call-arg]
    assert (FULL.last_event_id, FULL.origin) == ("7", "https://example.com")


@pytest.mark.parametrize(("event", "type_"), [(None, "message"), ("", "message"), ("message", "message"), ("x", "x")])
def test_the_default_type_is_message(event: str | None, type_: str) -> None:
    assert SSEEvent("tick", event).type == type_


def test_data_as_json() -> None:
    assert SSEEvent('{"a": [1, null]}').json() == {"a": [1, None]}
    assert SSEEvent('[1,\n"\\u2603"]').json() == [1, "☃"]


@pytest.mark.parametrize("data", ["", "[DONE]", "{", "{'a': 1}"])
def test_json_of_invalid_data_raises_value_error(data: str) -> None:
    with pytest.raises(ValueError):
        SSEEvent(data).json()


# --- immutable ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_no_attribute_can_be_changed(name: str) -> None:
    event = copy.copy(FULL)
    with pytest.raises(AttributeError):
        setattr(event, name, "x")
    with pytest.raises(AttributeError):
        delattr(event, name)
    assert getattr(event, name) == getattr(FULL, name)


def test_no_attribute_can_be_added() -> None:
    with pytest.raises(AttributeError):
        BARE.extra = 1  # type: ignore[attr-defined]
    assert not hasattr(BARE, "__dict__")


def test_no_item_can_be_changed() -> None:
    event: Any = BARE
    with pytest.raises(TypeError):
        event["data"] = "x"
    with pytest.raises(TypeError):
        del event["data"]


# --- a value ------------------------------------------------------------------------------------------------


def test_events_are_equal_if_their_four_keys_are() -> None:
    other = SSEEvent("a\nb", "update", "7", 500, last_event_id="other", origin="http://other.example")
    assert other == FULL
    assert hash(other) == hash(FULL)
    assert len({other, FULL, BARE}) == 2


@pytest.mark.parametrize("change", [{"data": "x"}, {"event": "x"}, {"id": "x"}, {"retry": 501}])
@pytest.mark.parametrize("absent", [False, True])
def test_events_differ_if_one_key_does(change: dict[str, Any], absent: bool) -> None:
    if absent and "data" not in change:
        change = dict.fromkeys(change)
    other = SSEEvent(**{**dict(FULL), **change})
    assert other != FULL
    assert not other == FULL  # noqa: SIM201 - tests the other operator
    assert hash(other) != hash(FULL)


def test_an_empty_id_is_not_none() -> None:
    assert SSEEvent("tick", id="") != SSEEvent("tick")


def test_an_event_equals_a_mapping_with_the_same_items() -> None:
    assert dict(FULL) == FULL
    assert FULL == dict(FULL)  # noqa: SIM300 - tests the other order of operands
    assert MappingProxyType(dict(FULL)) == FULL
    assert BARE != {"data": "tick"}
    assert {**dict(BARE), "extra": 1} != BARE


@pytest.mark.parametrize("other", [None, "tick", ("tick", None, None, None), 5, [BARE]])
def test_an_event_equals_nothing_else(other: object) -> None:
    assert other != BARE
    assert BARE.__eq__(other) is NotImplemented


@pytest.mark.parametrize("event", [FULL, BARE], ids=["full", "bare"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_events_can_be_pickled(event: SSEEvent, protocol: int) -> None:
    check_copy(pickle.loads(pickle.dumps(event, protocol)), event)  # noqa: S301 - pickled right here


@pytest.mark.parametrize("event", [FULL, BARE], ids=["full", "bare"])
def test_events_can_be_copied(event: SSEEvent) -> None:
    check_copy(copy.copy(event), event)
    check_copy(copy.deepcopy(event), event)


def check_copy(copied: object, event: SSEEvent) -> None:
    assert type(copied) is SSEEvent
    assert [getattr(copied, name) for name in ATTRIBUTES] == [getattr(event, name) for name in ATTRIBUTES]


# --- patterns -----------------------------------------------------------------------------------------------


def test_an_event_matches_a_mapping_pattern() -> None:
    match FULL:
        case {"event": "other"}:
            pytest.fail("matched another type")
        case {"event": "update", "data": data, **rest}:
            assert data == "a\nb"
            assert rest == {"id": "7", "retry": 500}
        case _:
            pytest.fail("not matched")


def test_an_event_matches_a_class_pattern_by_position() -> None:
    match FULL:
        case SSEEvent(data, "update", event_id, retry):
            assert (data, event_id, retry) == ("a\nb", "7", 500)
        case _:
            pytest.fail("not matched")


def test_an_event_matches_a_class_pattern_by_name() -> None:
    match BARE:
        case SSEEvent(type="update"):
            pytest.fail("matched another type")
        case SSEEvent(type="message", id=None, data=data):
            assert data == "tick"
        case _:
            pytest.fail("not matched")


@pytest.mark.parametrize("signal", [*SIGNALS, FULL], ids=lambda signal: type(signal).__name__)
def test_patterns_distinguish_signals(signal: object) -> None:
    match signal:
        case SSEEvent(data):
            assert data == "a\nb"
        case Comment(text):
            assert text == "ping"
        case Opened(status, headers, url):
            assert (status, headers, url) == (200, {"Server": "x"}, "https://example.com/")
        case Interrupted(error, retry_in):
            assert (error, retry_in) == (ERROR, 3000)
        case _:
            pytest.fail("not matched")


# --- repr ---------------------------------------------------------------------------------------------------


def test_a_repr_shows_the_fields_that_are_set() -> None:
    assert repr(BARE) == "SSEEvent(data='tick')"
    assert repr(FULL) == r"SSEEvent(data='a\nb', event='update', id='7', retry=500)"
    assert repr(SSEEvent("", "", "", 0)) == "SSEEvent(data='', event='', id='', retry=0)"


def test_a_repr_truncates_long_data() -> None:
    assert repr(SSEEvent("x" * 80)) == f"SSEEvent(data={'x' * 80!r})"
    assert repr(SSEEvent("x" * 81)) == f"SSEEvent(data={'x' * 80 + '…'!r})"
    assert len(repr(SSEEvent("x" * 10_000_000))) < 120


def test_a_repr_names_a_subclass() -> None:
    class Special(SSEEvent):
        pass

    assert repr(Special("tick")) == "Special(data='tick')"
    assert Special("tick") == BARE


# --- encoding -----------------------------------------------------------------------------------------------


def test_an_event_is_encoded_as_its_fields_and_a_blank_line() -> None:
    assert BARE.encode() == b"data: tick\n\n"
    assert FULL.encode() == b"event: update\nid: 7\nretry: 500\ndata: a\ndata: b\n\n"
    assert SSEEvent("").encode() == b"data: \n\n"
    assert SSEEvent("☃", id="").encode() == "id: \ndata: ☃\n\n".encode()


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
def test_any_newline_in_the_data_starts_another_data_line(newline: str) -> None:
    event = SSEEvent(f"a{newline}b{newline}{newline}c{newline}")
    assert event.encode() == b"data: a\ndata: b\ndata: \ndata: c\ndata: \n\n"


@pytest.mark.parametrize("separator", "\v\f\x1c\x1d\x1e\x85\u2028\u2029\0")
def test_other_separators_in_the_data_start_no_line(separator: str) -> None:
    assert SSEEvent(f"a{separator}b").encode() == f"data: a{separator}b\n\n".encode()


@given(events)
@example(SSEEvent(" leading", " type", " id"))
@example(SSEEvent("\ufeffdata", "\ufefftype", "\ufeffid"))
@example(SSEEvent(": comment?\rid: 5\r\n\r\n", "event: x", "data: y", 0))
@example(SSEEvent("\r\r\n\n\r", id="", retry=MAX_RETRY))
def test_an_encoded_event_parses_to_the_same_event(event: SSEEvent) -> None:
    normal = re.sub("\r\n|\r", "\n", event.data)
    (parsed,) = parse(event.encode())
    assert parsed == SSEEvent(normal, event.event, event.id, event.retry)
    assert parsed.last_event_id == (event.id or "")
    assert parse(parsed.encode()) == [parsed]


@given(st.lists(events))
def test_encoded_events_can_be_concatenated(several: list[SSEEvent]) -> None:
    parsed = parse(b"".join(event.encode() for event in several))
    assert [(event.event, event.id, event.retry) for event in parsed] == [
        (event.event, event.id, event.retry) for event in several
    ]


def test_an_empty_type_is_parsed_as_none() -> None:
    assert parse(SSEEvent("tick", "").encode()) == [BARE]


@pytest.mark.parametrize("name", ["event", "id"])
@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
def test_event_and_id_cannot_contain_a_newline(name: str, newline: str) -> None:
    for value in (f"a{newline}b", newline, f"a{newline}", f"{newline}data: b"):
        with pytest.raises(ValueError, match=rf"^{name} contains a character that an event stream cannot carry"):
            SSEEvent("tick", **{name: value}).encode()  # type: ignore[arg-type]


def test_an_id_cannot_contain_a_nul_but_a_type_can() -> None:
    with pytest.raises(ValueError, match=r"^id contains a character"):
        SSEEvent("tick", id="a\0b").encode()
    event = SSEEvent("ti\0ck", "a\0b")
    assert parse(event.encode()) == [event]


def test_a_negative_retry_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match=r"^retry must not be negative: -1$"):
        SSEEvent("tick", retry=-1).encode()


@pytest.mark.parametrize("name", ["data", "event", "id"])
def test_a_lone_surrogate_cannot_be_encoded(name: str) -> None:
    with pytest.raises(ValueError):
        SSEEvent(**{"data": "tick", name: "\ud800"}).encode()  # type: ignore[arg-type]


# --- the other signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: type(signal).__name__)
def test_signals_are_frozen(signal: Any) -> None:
    for field in dataclasses.fields(signal):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(signal, field.name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(signal, field.name)
    with pytest.raises((AttributeError, TypeError)):  # depends on the Python version
        signal.extra = 1


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: type(signal).__name__)
def test_signals_are_values(signal: Any) -> None:
    assert signal == copy.copy(signal) == dataclasses.replace(signal)
    assert signal != dataclasses.replace(signal, **{dataclasses.fields(signal)[0].name: None})
    assert all(signal != other for other in [*SIGNALS, FULL] if other is not signal)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_signals_can_be_pickled(protocol: int) -> None:
    comment, opened, interrupted = pickle.loads(pickle.dumps(SIGNALS, protocol))  # noqa: S301 - pickled right here
    assert [comment, opened] == SIGNALS[:2]
    assert str(interrupted.error) == "reset"
    assert interrupted.retry_in == 3000


def test_a_clean_end_has_no_error() -> None:
    assert Interrupted(None, 0) == Interrupted(error=None, retry_in=0)
    assert repr(Interrupted(None, 0)) == "Interrupted(error=None, retry_in=0)"


def test_comments_are_hashable() -> None:
    assert {Comment("a"), Comment("a"), Comment("b")} == {Comment("a"), Comment("b")}


def test_ready_states_have_the_browsers_numbers() -> None:
    assert [(state.name, state.value) for state in ReadyState] == [("CONNECTING", 0), ("OPEN", 1), ("CLOSED", 2)]
    assert ReadyState(2) is ReadyState.CLOSED
    assert sorted(ReadyState) == [0, 1, 2]


# --- weight in the queue ------------------------------------------------------------------------------------


def test_the_weight_of_a_signal_counts_the_characters_that_the_peer_sent() -> None:
    assert weight(BARE) == len("tick")
    assert weight(FULL) == len("a\nb") + len("update") + len("7")
    sticky = SSEEvent("tick", last_event_id="sticky", origin="https://example.com")
    assert weight(sticky) == len("tick") + len("sticky")
    assert weight(SSEEvent("tick", id="7", last_event_id="7")) == len("tick") + len("7")
    assert weight(Comment("ping")) == len("ping")
    assert weight(Interrupted(ERROR, 0)) == weight(Interrupted(None, 0)) == 0
    assert weight(Interrupted(SSEParsingError("bad", "poison"), 0)) == len("poison")
    headers = {"Retry-After": "10"}
    assert weight(Opened(200, headers, "https://example.com")) == len("Retry-After") + len("10")
    refusal = SSEStatusError("busy", status=503, headers=headers, body=b"busy")
    assert weight(Interrupted(refusal, 0)) == len("Retry-After") + len("10") + len("busy")


if TYPE_CHECKING:

    def check_types(event: SSEEvent, key: str) -> None:
        assert_type(event["data"], str)
        assert_type(event["event"], str | None)
        assert_type(event["id"], str | None)
        assert_type(event["retry"], int | None)
        assert_type(event[key], str | int | None)
        assert_type(event.type, str)
