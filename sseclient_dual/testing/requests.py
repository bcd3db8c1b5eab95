"""The requests that the server receives, as tests see them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit

FrameKind: TypeAlias = Literal["GOAWAY", "PING", "RST_STREAM", "WINDOW_UPDATE"]


class Headers(Mapping[str, str]):
    """Header fields by case-insensitive name. The values of a repeated field are joined by ``", "``."""

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._values: dict[str, str] = {}
        for name, value in fields:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self._values[key] = f"{self._values[key]}, {text}" if key in self._values else text

    def __getitem__(self, name: str, /) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as the server received it, complete with its body."""

    method: str
    """The method, such as ``"GET"``."""
    target: str
    """The target as sent: usually path and query."""
    version: str
    """The version, such as ``"HTTP/1.1"`` or ``"HTTP/2"``."""
    headers: Headers
    """The header fields by case-insensitive name, decoded as Latin-1. Over HTTP/2, ``host`` is the ``:authority``."""
    raw_headers: list[tuple[bytes, bytes]] = field(repr=False)
    """The header fields as sent, in order, without the whitespace around values; with the pseudo-fields of HTTP/2."""
    body: bytes
    """The body, without chunked framing."""
    client_address: tuple[str, int]
    """Host and port of the peer."""
    connection: int
    """Serial number of the TCP connection, from 1. Equal numbers mean that the connection was reused."""
    stream: int = 0
    """Number of the stream of HTTP/2; 0 over HTTP/1.1."""

    @property
    def path(self) -> str:
        """The path of the target, still percent-encoded."""
        return self.target.partition("?")[0] if self.target.startswith("/") else urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query of the target, decoded. Of parameters with the same name, the last one counts."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def last_event_id(self) -> str | None:
        """The ``Last-Event-ID``, decoded as UTF-8; None if it was not sent."""
        value = self.headers.get("last-event-id")
        return None if value is None else value.encode("latin-1").decode()

    def json(self) -> Any:  # noqa: ANN401 - JSON is any of several types
        """Return the body, parsed as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class ReceivedFrame:
    """A frame of HTTP/2 that controls a stream or a connection."""

    kind: FrameKind
    """``"GOAWAY"``, ``"PING"``, ``"RST_STREAM"`` or ``"WINDOW_UPDATE"``."""
    connection: int
    """Serial number of the TCP connection, from 1."""
    stream: int
    """Number of the stream; 0 if the frame concerns the connection."""
    value: int
    """The error code (GOAWAY, RST_STREAM), the increment (WINDOW_UPDATE), or 0."""


def keeps_alive(version: str, headers: Mapping[str, str]) -> bool:
    """Return whether a message allows its connection to be reused (RFC 9112, 9.3)."""
    options = headers.get("connection", "").lower()
    return "close" not in options and (version != "HTTP/1.0" or "keep-alive" in options)
