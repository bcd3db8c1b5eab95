"""Events and the other signals of a stream: the objects that a connection returns to its consumer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Generic, Literal, SupportsIndex, TypeAlias, TypeVar, overload

from .speedups import EventBase, compiled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

T = TypeVar("T")

_LONGEST_REPR = 80  # characters of data that a repr shows
_NEWLINE = re.compile(r"\r\n|\r|\n")


@compiled
class SSEEvent(EventBase, Mapping[str, "str | int | None"]):
    """One event of a stream (WHATWG HTML 9.2.6), immutable: a mapping of four keys, and attributes.

    :param data: the data buffer: the event's data lines joined with line feeds.
    :param event: the event's type field, None if it has none.
    :param id: the event's own id field, None if it has none; ``""`` resets the last event ID.
    :param retry: the event's retry field in milliseconds, None if it has none.
    :param last_event_id: the stream's last event ID after this event, even if an earlier event set it.
    :param origin: the origin (scheme, host and port) of the response's URL, after redirects.

    The keys ``data``, ``event``, ``id`` and ``retry`` are always present; equality and hash use only these. To
    serialise an event with `json.dumps`, pass ``dict(event)``.
    """

    # The base has the slots, the properties are read-only: immutable for users, and cheap to build.
    __slots__ = ()
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
        self._meta = (event, id, retry, last_event_id, origin)

    @property
    def data(self) -> str:
        """The event's data lines, joined with line feeds."""
        return self._data

    @property
    def event(self) -> str | None:
        """The event's type field, None if it is missing or empty; see `type`."""
        return self._meta[0]

    @property
    def id(self) -> str | None:
        """The event's own id field, None if it has none."""
        return self._meta[1]

    @property
    def retry(self) -> int | None:
        """The event's own retry field, a reconnection time in milliseconds, None if it has none."""
        return self._meta[2]

    @property
    def type(self) -> str:
        """The event's type, ``"message"`` if the server sent none (WHATWG HTML 9.2.6)."""
        return self._meta[0] or "message"

    @property
    def last_event_id(self) -> str:
        """The stream's last event ID after this event, ``""`` if there is none (WHATWG HTML 9.2.6)."""
        return self._meta[3]

    @property
    def origin(self) -> str:
        """Scheme, host and port of the response's URL, after redirects."""
        return self._meta[4]

    def json(self) -> Any:  # noqa: ANN401 - JSON is any of several types
        """Return the data, parsed as JSON.

        :raises ValueError: the data is not JSON.
        """
        return json.loads(self._data)

    def encode(self) -> bytes:
        """Return the event as bytes of an event stream, with its blank line (WHATWG HTML 9.2.5).

        Each newline in the data (CR, LF or CRLF) starts a further data line.

        :raises ValueError: the type or the id contains CR, LF or (an id) NUL, or ``retry`` is negative: an event
            stream cannot express that.
        """
        event_type, event_id, retry, *_ = self._meta
        lines = []
        if event_type is not None:
            lines.append("event: " + _single_line("event", event_type))
        if event_id is not None:
            lines.append("id: " + _single_line("id", event_id))
        if retry is not None:
            if retry < 0:
                raise ValueError(f"retry must not be negative: {retry}")
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
            return self._meta[0]
        if key == "id":
            return self._meta[1]
        if key == "retry":
            return self._meta[2]
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__match_args__)

    def __len__(self) -> int:
        return len(self.__match_args__)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SSEEvent):
            return self._data == other._data and self._meta[:3] == other._meta[:3]
        if isinstance(other, Mapping):
            return dict(self) == dict(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self._data, *self._meta[:3]))

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        # Protocols 0 and 1 would copy no slots.
        return super().__reduce_ex__(max(int(protocol), 2))

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
    """The text after the colon."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A line that was ignored: an unknown field or, with ``strict=False``, a malformed line (WHATWG HTML 9.2.6)."""

    line: str
    """The line, without its line end."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A response head was accepted, of the first connection or of a later one."""

    status: int
    """The HTTP status code: 200."""
    headers: Mapping[str, str]
    """The response's headers; look-ups ignore case."""
    url: str
    """The URL of the response, after redirects."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A connection or an attempt has ended, and another attempt follows."""

    error: Exception | None
    """The reason, an `SSEConnectionError`; None after a clean end of the response and after ``restart()``."""
    retry_in: float
    """Milliseconds until the next attempt."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of a feed are missing here: they cannot be resumed; see `Subscription.signals`."""

    after: str
    """The last event ID before the gap; ``""`` if there is none."""
    last_event_id: str
    """The last event ID at which the subscription continues; ``""`` if it is not known."""


Signal: TypeAlias = SSEEvent | Comment | Ignored | Opened | Interrupted


class Signals(Generic[T]):
    """An iterator of all signals of a stream in order, with a sync and an async API.

    :param receive: returns the next signal, or raises at the end.
    :param areceive: the async form of `receive`.
    :param check: called at the beginning of an iteration; may raise an error.
    """

    def __init__(
        self, receive: Callable[[], T], areceive: Callable[[], Awaitable[T]], check: Callable[[], object]
    ) -> None:
        self._receive = receive
        self._areceive = areceive
        self._check = check

    def __iter__(self) -> Iterator[T]:
        self._check()
        return self

    def __next__(self) -> T:
        return self._receive()

    def __aiter__(self) -> AsyncIterator[T]:
        self._check()
        return self

    async def __anext__(self) -> T:
        return await self._areceive()


class ReadyState(IntEnum):
    """The state of a connection's network side, with the browser's numbers (WHATWG HTML 9.2.2)."""

    CONNECTING = 0
    OPEN = 1
    CLOSED = 2


def weight(signal: Signal) -> int:
    """Return how many characters of the peer a signal holds, to limit the size of a queue.

    The last event ID counts for each event: it may differ each time, even if no event has an id of its own.
    """
    if isinstance(signal, SSEEvent):
        return len(signal.data) + len(signal.event or "") + max(len(signal.id or ""), len(signal.last_event_id))
    if isinstance(signal, Comment):
        return len(signal.text)
    if isinstance(signal, Ignored):
        return len(signal.line)
    if isinstance(signal, Opened):
        return _weight_of_headers(signal.headers)
    # An error holds the malformed line, or the headers and the beginning of the body of a response.
    error = signal.error
    own = len(getattr(error, "line", "")) + len(getattr(error, "body", b""))
    return own + _weight_of_headers(getattr(error, "headers", {}))


def _weight_of_headers(headers: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in headers.items())


def _single_line(name: str, value: str) -> str:
    if "\r" in value or "\n" in value or (name == "id" and "\0" in value):
        raise ValueError(f"{name} contains a character that an event stream cannot carry there: {value!r}")
    return value
