"""The keys of a stream, and its entries, which consumer groups in any language can read; no I/O.

An entry of ``sse:{name}:events`` has these fields, in UTF-8; a field that is missing has no value:

============  ========================================================================================================
``seq``       The number of the entry: one more than that of the entry before. Any other number means that entries are
              missing, or that Redis has lost its newest ones, which then come again.
``kind``      Missing for an event. ``gap``: events may be missing before this entry. ``end``: the upstream has ended
              the stream. ``skipped``: an event that Redis did not accept, because it is too large.
``data``      The data of an event, its lines joined by line feeds.
``event``     The type of an event; missing for ``message``.
``id``        The id that the event came with; ``""`` if it has reset the last event ID.
``last_id``   The last event ID after an entry that has no ``id``; missing for ``""``.
============  ========================================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from sseclient_dual.checks import check_name
from sseclient_dual.event import SSEEvent

if TYPE_CHECKING:
    from collections.abc import Mapping


class Keys(NamedTuple):
    """The keys of one stream, which a cluster keeps in one place because of the braces."""

    events: str
    state: str
    lease: str


def keys_of(name: object) -> Keys:
    """Return the keys of the stream with this name.

    :raises TypeError: the name is not a str.
    :raises ValueError: the name is empty, or contains a brace or a character that is not printable.
    """
    name = check_name(name)
    if "{" in name or "}" in name:
        raise ValueError(f"the name of a stream must not contain braces, which have a meaning in Redis: {name!r}")
    return Keys(*(f"sse:{{{name}}}:{part}" for part in ("events", "state", "lease")))


class Kind(Enum):
    """What an entry is; the value is that of the field ``kind``."""

    EVENT = ""
    GAP = "gap"
    END = "end"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class StreamEntry:
    """One entry of the stream.

    :param position: its id in Redis, ``<milliseconds>-<number>``.
    :param seq: its number; 0 if it has none, which then is not an entry of ours.
    :param kind: what it is.
    :param last_event_id: the upstream's last event ID after it.
    :param event: the event; None for the other kinds.
    """

    position: str
    seq: int
    kind: Kind
    last_event_id: str
    event: SSEEvent | None = None


def encode_event(event: SSEEvent) -> list[bytes]:
    """Return the fields of an event without ``seq``: names and values in turn."""
    fields = ["data", event.data]
    if event.event is not None:
        fields += ["event", event.event]
    if event.id is not None:
        fields += ["id", event.id]
    elif event.last_event_id:
        fields += ["last_id", event.last_event_id]
    return [field.encode() for field in fields]


def encode_mark(kind: Kind, last_event_id: str) -> list[bytes]:
    """Return the fields of an entry that is no event, without ``seq``.

    :param last_event_id: the upstream's last event ID at this entry.
    """
    fields = ["kind", kind.value]
    if last_event_id:
        fields += ["last_id", last_event_id]
    return [field.encode() for field in fields]


def decode(position: bytes, fields: Mapping[bytes, bytes]) -> StreamEntry:
    """Return an entry, as redis-py returns it without decoding; other writers may have added it."""
    texts = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}
    seq = texts.get("seq", "")
    kind = _KINDS.get(texts.get("kind", ""), Kind.SKIPPED)
    own_id = texts.get("id")
    last_event_id = own_id if own_id is not None else texts.get("last_id", "")
    event = None
    if kind is Kind.EVENT:
        event = SSEEvent(texts.get("data", ""), texts.get("event"), own_id, last_event_id=last_event_id)
    return StreamEntry(position.decode(), int(seq) if _is_seq(seq) else 0, kind, last_event_id, event)


_KINDS = {kind.value: kind for kind in Kind}
_is_seq = re.compile("[0-9]{1,18}").fullmatch  # `int` refuses very long numbers
