"""The replies of a script, and how their bodies are encoded."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import responses
from typing import Any, Literal, TypeAlias, get_args

from sseclient_dual.checks import check_integer, warn

from .requests import Headers, keeps_alive
from .steps import Action, Fields, Step, Wire, actions, check, encoded_fields, is_unfinished

Framing: TypeAlias = Literal["chunked", "close", "sized", "none"]
Encoding: TypeAlias = Literal["gzip", "deflate"]


@dataclass(frozen=True)
class Reply:
    """The response to a request, made by `stream`, `status`, `redirect` or `raw`. It may be sent many times.

    :param steps: the script of the body.
    :param head: the status line and the headers, without a computed Content-Length and the empty line; empty
        if the steps are the whole reply.
    :param length: the Content-Length that the head announces.
    :param persists: whether another request may follow on the connection after a clean end.
    :param framing: see `stream`.
    :param encoding: see `stream`.
    :param head_with_body: see `stream`.
    :param interim: see `stream`.
    """

    steps: tuple[Step, ...]
    head: bytes = b""
    length: str | None = None
    persists: bool = False
    framing: Framing = "none"
    encoding: Encoding | None = None
    head_with_body: bool = False
    interim: tuple[int, ...] = ()


def stream(
    *steps: Step,
    status: int = 200,
    reason: str | None = None,
    headers: Fields = (),
    content_type: str | None = "text/event-stream",
    framing: Framing = "chunked",
    encoding: Encoding | None = None,
    head_with_body: bool = False,
    interim: Iterable[int] = (),
) -> Reply:
    """Return a reply whose body is a script; it ends cleanly unless its last step is an ending.

    A header in `headers` replaces a default header of the same name. No other headers are sent.

    A last event without its blank line is a warning: no client delivers it. To send one on purpose, add `CUT` or
    a callable that returns it.

    :param steps: see `Step`.
    :param status: the status code.
    :param reason: the reason phrase; None for the standard one.
    :param headers: further headers, as a mapping or as pairs; text is sent as Latin-1.
    :param content_type: the media type; None to omit the header.
    :param framing: ``"chunked"``: each piece of data is an HTTP chunk. ``"close"``: the body ends with the
        connection, announced by ``Connection: close``. ``"none"``: the same without an announcement. ``"sized"``:
        a Content-Length, either from `headers` or computed from all data in the steps (data after an ending
        included, so that a body can be cut short). To compute it, the server evaluates all steps first, so they
        must be finite. Over HTTP/2, which frames each piece of data itself, only ``"sized"`` makes a difference.
    :param encoding: ``"gzip"`` or ``"deflate"``: compress, and flush after each piece of data.
    :param head_with_body: delay the head and send it with the first data, as some servers do.
    :param interim: status codes of informational responses to send before, such as 103.
    :raises TypeError: a step has the wrong type.
    :raises ValueError: unknown `framing` or `encoding`.
    """
    check(steps)
    if framing not in get_args(Framing) or encoding not in (None, *get_args(Encoding)):
        raise ValueError(f"unknown framing or encoding: {framing!r}, {encoding!r}")
    fields = list(encoded_fields(headers))
    given = Headers(fields)
    is_whole = status == HTTPStatus.OK and "content-length" not in given
    if is_whole and "event-stream" in (content_type or "") and is_unfinished(steps):
        warn(
            "the last event has no blank line at its end, so that no client delivers it: add \\n\\n, or CUT if it is "
            "unfinished on purpose"
        )
    defaults = {
        "Content-Type": content_type,
        "Content-Encoding": encoding,
        "Transfer-Encoding": "chunked" if framing == "chunked" else None,
        "Connection": "close" if framing == "close" else None,
    }
    start = f"HTTP/1.1 {status} {responses.get(status, '') if reason is None else reason}"
    ours = [f"{name}: {value}" for name, value in defaults.items() if value is not None and name not in given]
    lines = [*(line.encode("latin-1") for line in [start, *ours]), *(b"%b: %b" % pair for pair in fields)]
    has_no_body = status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
    return Reply(
        steps,
        head=b"".join(line + b"\r\n" for line in lines),
        length=given.get("content-length", "0" if has_no_body else None),
        persists=framing in {"chunked", "sized"} and keeps_alive("HTTP/1.1", given),
        framing=framing,
        encoding=encoding,
        head_with_body=head_with_body,
        interim=tuple(interim),
    )


def status(
    code: int,
    body: str | bytes | Mapping[str, Any] = b"",
    headers: Fields = (),
    content_type: str | None = None,
    reason: str | None = None,
    retry_after: int | None = None,
) -> Reply:
    """Return a complete reply with a Content-Length (none for 204 and 304).

    :param code: the status code.
    :param body: text (UTF-8), bytes, or a mapping that is sent as JSON.
    :param headers: further headers, as a mapping or as pairs.
    :param content_type: the media type. None: ``application/json`` for a mapping, else no header.
    :param reason: the reason phrase; None for the standard one.
    :param retry_after: seconds, sent as ``Retry-After``.
    """
    fields: list[tuple[str | bytes, str | bytes]] = list(encoded_fields(headers))
    if retry_after is not None:
        check_integer("retry_after", retry_after, least=0)
        fields.append(("Retry-After", f"{retry_after}"))
    if isinstance(body, Mapping):
        body, content_type = json.dumps(body), content_type or "application/json"
    return stream(
        body,
        status=code,
        reason=reason,
        headers=fields,
        content_type=content_type,
        framing="sized",
        head_with_body=True,
    )


def redirect(location: str | bytes | None, code: int = 302, headers: Fields = ()) -> Reply:
    """Return a redirect to `location`; None omits the header, ``""`` sends it empty."""
    target = [] if location is None else [("Location", location)]
    return status(code, headers=[*target, *encoded_fields(headers)])


def raw(*steps: Step) -> Reply:
    """Return a reply that consists of the steps alone; they include the status line.

    The connection is closed after the last step, unless that is `HANG`.

    :raises TypeError: a step has the wrong type.
    """
    check(steps)
    return Reply(steps)


class Body:
    """Encodes the data steps of a body: compressed, then framed.

    :param chunked: frame them as chunks of HTTP/1.1.
    """

    def __init__(self, encoding: Encoding | None, *, chunked: bool) -> None:
        self.length = 0  # bytes so far
        self._is_chunked = chunked
        self._compressor = None
        if encoding is not None:
            self._compressor = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)

    def piece(self, data: bytes) -> bytes:
        """Return the bytes to send for `data`, so that the peer can decode all of it at once."""
        if self._compressor is not None and data:
            data = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return self._frame(data)

    def unframed(self, data: bytes) -> bytes:
        """Return `data`, which counts as a part of the body."""
        self.length += len(data)
        return data

    def rest(self) -> bytes:
        """Return the bytes that end the compressed data."""
        return self._frame(self._compressor.flush()) if self._compressor is not None else b""

    def _frame(self, data: bytes) -> bytes:
        self.length += len(data)
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked and data else data


def prepared(reply: Reply) -> tuple[Reply, Iterable[Action]]:
    """Return the reply with its computed Content-Length, if it needs one, and the actions of its steps."""
    if reply.framing != "sized" or reply.length is not None:
        return reply, actions(reply.steps)
    evaluated = list(actions(reply.steps))
    length = str(_body_length(reply, evaluated))
    return replace(reply, head=reply.head + f"Content-Length: {length}\r\n".encode(), length=length), evaluated


def _body_length(reply: Reply, steps: Iterable[Action]) -> int:
    """Return the length of the body that all data in `steps` makes."""
    body = Body(reply.encoding, chunked=False)
    for step in steps:
        if isinstance(step, bytes):
            body.piece(step)
        elif isinstance(step, Wire):
            body.unframed(step.data)
    body.rest()
    return body.length
