"""What a connection hands to its consumer: events, and the other signals of an event stream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, TypeAlias, overload

About: TypeAlias = "tuple[str | None, str | None, int | None, str, str]"
"""What tells of an event: its type, id and retry, if it carried them; the stream's last event ID, and the origin."""

_LONGEST_REPR = 80  # characters of data that a repr shows
_NEWLINE = re.compile(r"\r\n|\r|\n")


class SSEEvent(Mapping[str, "str | int | None"]):
    """One event of a stream (WHATWG HTML 9.2.6), immutable: a mapping of four keys, and attributes.

    :param data: the data buffer: the event's data lines joined with line feeds.
    :param event: the type the server sent, None if it sent none.
    :param id: the id *this* event carried, None if it carried none; ``""`` resets the last event ID.
    :param retry: the reconnection time in milliseconds that this event carried, None if it carried none.
    :param last_event_id: the stream's last event ID as of this event, whichever event set it.
    :param origin: the origin (scheme, host and port) of the URL the event came from, after redirects.

    The keys are ``data``, ``event``, ``id`` and ``retry``, always all four; equality and hash use them alone.
    ``dict(event)`` is what `json.dumps` takes.
    """

    # Plain slots behind read-only properties: immutable to users, and cheap to build. What tells of the event, and
    # not what it says, is one tuple, which all events share that have no fields but data.
    __slots__ = ("_about", "_data")
    __match_args__ = ("data", "event", "id", "retry")

    def __init__(
        self,
        data: str,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - the standard's name for it
        retry: int | None = None,
        *,
        last_event_id: str = "",
        origin: str = "",
    ) -> None:
        self._data = data
        self._about: About = (event, id, retry, last_event_id, origin)

    @property
    def data(self) -> str:
        """The data: the event's data lines joined with line feeds."""
        return self._data

    @property
    def event(self) -> str | None:
        """The type the server sent, None if it sent none or an empty one; see `type`."""
        return self._about[0]

    @property
    def id(self) -> str | None:
        """The id that this very event carried, None if it carried none."""
        return self._about[1]

    @property
    def retry(self) -> int | None:
        """The reconnection time in milliseconds that this very event carried, None if it carried none."""
        return self._about[2]

    @property
    def type(self) -> str:
        """The event's type, ``"message"`` where the server named none (WHATWG HTML 9.2.6)."""
        return self._about[0] or "message"

    @property
    def last_event_id(self) -> str:
        """The last event ID of the stream as of this event, ``""`` if there is none (WHATWG HTML 9.2.6)."""
        return self._about[3]

    @property
    def origin(self) -> str:
        """Scheme, host and port of the URL the event came from, after redirects."""
        return self._about[4]

    def json(self) -> Any:  # noqa: ANN401 - JSON is any of several types
        """Return the data, read as JSON.

        :raises ValueError: the data is not JSON.
        """
        return json.loads(self._data)

    def encode(self) -> bytes:
        """Return the event as the bytes of an event stream, its blank line included (WHATWG HTML 9.2.5).

        Any newline in the data, be it CR, LF or CRLF, starts a further data line.

        :raises ValueError: the type or the id holds a CR, LF or (an id) NUL, or ``retry`` is negative: no
            event stream can say that.
        """
        event_type, event_id, retry, *_ = self._about
        lines = []
        if event_type is not None:
            lines.append("event: " + _single_line("event", event_type))
        if event_id is not None:
            lines.append("id: " + _single_line("id", event_id))
        if retry is not None:
            if retry < 0:
                msg = f"retry must not be negative: {retry}"
                raise ValueError(msg)
            lines.append(f"retry: {retry}")
        lines += [f"data: {line}" for line in _NEWLINE.split(self._data)]
        return ("\n".join(lines) + "\n\n").encode()

    @overload
    def __getitem__(self, key: Literal["data"], /) -> str: ...
    @overload
    def __getitem__(self, key: Literal["event", "id"], /) -> str | None: ...
    @overload
    def __getitem__(self, key: Literal["retry"], /) -> int | None: ...
    @overload
    def __getitem__(self, key: str, /) -> str | int | None: ...
    def __getitem__(self, key: str, /) -> str | int | None:
        if key == "data":
            return self._data
        if key == "event":
            return self._about[0]
        if key == "id":
            return self._about[1]
        if key == "retry":
            return self._about[2]
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__match_args__)

    def __len__(self) -> int:
        return len(self.__match_args__)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SSEEvent):
            return self._data == other._data and self._about[:3] == other._about[:3]
        if isinstance(other, Mapping):
            return dict(self) == dict(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self._data, *self._about[:3]))

    def __repr__(self) -> str:
        data = self._data
        if len(data) > _LONGEST_REPR:
            data = data[:_LONGEST_REPR] + "…"
        fields = [f"data={data!r}"]
        fields += [f"{key}={self[key]!r}" for key in ("event", "id", "retry") if self[key] is not None]
        return f"{type(self).__name__}({', '.join(fields)})"


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment line of the stream, often a heartbeat (WHATWG HTML 9.2.6)."""

    text: str
    """What follows the colon, to the end of the line."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The response head of a connection, the first or a later one, was accepted."""

    status: int
    """The HTTP status code: 200."""
    headers: Mapping[str, str]
    """The response's headers; look-ups ignore case."""
    url: str
    """The URL the stream comes from, after redirects."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A connection, or an attempt at one, is over, and another attempt follows."""

    error: Exception | None
    """Why, an `SSEConnectionError`; None after a clean end of the response and after ``restart()``."""
    retry_in: float
    """Milliseconds until the next attempt."""


class ReadyState(IntEnum):
    """What the network side of a connection is doing, in the browser's numbers (WHATWG HTML 9.2.2)."""

    CONNECTING = 0
    OPEN = 1
    CLOSED = 2


def weight(signal: SSEEvent | Comment | Opened | Interrupted) -> int:
    """Return how many characters that came from the peer a signal holds, for what bounds a queue of them.

    The last event ID counts for each event: it may be another one each time, also where no event carries its own.
    """
    if isinstance(signal, SSEEvent):
        return len(signal.data) + len(signal.event or "") + max(len(signal.id or ""), len(signal.last_event_id))
    if isinstance(signal, Comment):
        return len(signal.text)
    if isinstance(signal, Opened):
        return _weight_of_headers(signal.headers)
    # An error keeps the line it is about, or the beginning of a body and its headers.
    error = signal.error
    own = len(getattr(error, "line", "")) + len(getattr(error, "body", b""))
    return own + _weight_of_headers(getattr(error, "headers", {}))


def _weight_of_headers(headers: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in headers.items())


def _single_line(name: str, value: str) -> str:
    if "\r" in value or "\n" in value or (name == "id" and "\0" in value):
        msg = f"{name} holds a character that an event stream cannot carry there: {value!r}"
        raise ValueError(msg)
    return value
