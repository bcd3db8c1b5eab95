"""`EventStreamParser`: turns the bytes of an event stream into events; no I/O, clock or thread.

WHATWG HTML 9.2.5 defines the grammar and 9.2.6 the interpretation. The parser first makes complete lines that end in
LF of the bytes, however they were cut and terminated. It decodes these at once, and one loop interprets them.
"""

from __future__ import annotations

import re

from .errors import Remedy, SSEConnectionError, SSEEventTooLargeError, SSEParsingError
from .event import Comment, Ignored, SSEEvent
from .speedups import Metadata, ParserBase, compiled

_new_event = SSEEvent.__new__
_FIELDS = frozenset({"data", "event", "id", "retry"})
MAX_EVENT_SIZE = 64 * 1024 * 1024  # bytes
MAX_RETRY = 2**53 - 1  # ms: the largest integer that JavaScript and all JSON parsers represent exactly
_MANY_DIGITS = len(str(MAX_RETRY))
_split_between = re.compile("\n\ndata: ").split  # several times as fast as str.split for long lines
_CR = ord("\r")
_REPLACED = "\N{REPLACEMENT CHARACTER}"  # replaces an invalid byte; three bytes in UTF-8
_BOM = b"\xef\xbb\xbf"
_is_unknown_field = re.compile(r"(?!retry:)[\w.-]+:", re.ASCII).match  # one that strict parsing ignores
_JSON = re.compile(r"""[ \t]*([{"]|\[[ \t]*([]\[{"]|\Z))""")  # not [DONE], nor a log line such as "[12:30] ..."
_HTML = re.compile(r"[ \t]*<")
_BEGINNING = re.compile(rb"[\w.-]*\Z|(?!retry:)[\w.-]*:|retry: ?[0-9]*\Z")  # of a line that strict parsing accepts
_MANY_LINES = 4096  # of an unfinished block, joined to save memory: as strings, short lines take 20 times as much


@compiled
class EventStreamParser(ParserBase):
    """A sans-I/O parser of event streams, for programs with a transport of their own.

    Pass each piece of a body to `feed`, and call `finish` at the end of the body.

    :param strict: raise `SSEParsingError` for malformed lines: a line without a colon other than ``data``, ``event``
        and ``id``; a field name with characters other than ASCII letters, digits, ``_``, ``-`` and ``.``; a
        ``retry`` that is not ASCII digits. Browsers, and ``strict=False``, ignore such lines.
    :param comments: also return comments, in order with the events.
    :param max_event_size: the maximum size of an event's data in bytes of UTF-8, 64 MiB by default. No line may be
        longer than a data line of that size.
    :param last_event_id: the initial last event ID.
    """

    def __init__(
        self,
        strict: bool = True,  # noqa: FBT001, FBT002 - the promised signature
        comments: bool = False,  # noqa: FBT001, FBT002
        max_event_size: int = MAX_EVENT_SIZE,
        last_event_id: str = "",
    ) -> None:
        # The metadata of an event with only a data field; also the storage of the last event ID and the origin.
        self._plain: Metadata = (None, None, None, last_event_id, "")
        self.retry: int | None = None
        """The stream's last ``retry`` field in milliseconds, at most 2^53 - 1; None if there was none."""
        self.comments = comments
        """Whether comments are returned, too; may be changed between calls of `feed`."""
        self.comments_seen = 0
        """The number of comments so far, returned or not."""
        self.ignored = False
        """Whether ignored lines are returned, too, as `Ignored`; only for `SSEConnection.signals`."""
        self.ignored_seen = 0
        """The number of lines so far that were ignored: unknown fields, and malformed lines unless `strict`."""
        self._event_type = SSEEvent  # for the compiled core
        self._strict = strict
        self._max_event_size = max_event_size
        self._longest_line = len("data: ") + max_event_size
        # This many bytes cannot exceed the limit, even if each is invalid and replaced by three bytes.
        self._surely_small = max_event_size // 3
        self.reset()

    @property
    def last_event_id(self) -> str:
        """The last event ID after the last blank line (WHATWG HTML 9.2.6)."""
        return self._plain[3]

    @property
    def origin(self) -> str:
        """The `SSEEvent.origin` of the events; may be set."""
        return self._plain[4]

    @origin.setter
    def origin(self, origin: str) -> None:
        self._plain = (None, None, None, self.last_event_id, origin)

    def reset(self) -> None:
        """Prepare for a new response: keep the last event ID, drop the unfinished block, expect a BOM again."""
        self.error: SSEConnectionError | None = None
        """The error that the next `feed` or `finish` raises, or None."""
        self.ids_seen = False
        """True once this response had an id."""
        self._idle = False  # True between blocks with nothing buffered: the fast path applies
        self._head: bytes | None = b""  # the first bytes of the response, until a BOM is ruled out or removed
        self._after_cr = False  # True if the last line ended in CR, so that a following LF belongs to its end
        self._tail = bytearray()  # the unfinished line
        self._open = False  # True if there is an unfinished block; the attributes below are its buffers
        self._data: list[str] = []
        self._joined = 0  # how many of these strings are many lines joined
        self._data_size = 0  # bytes, line ends included
        self._event: str | None = None
        self._id: str | None = None
        self._retry: int | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> list[SSEEvent | Comment]:
        """Parse the next bytes of the response; return the events (and comments) that they complete.

        A blank line completes an event (WHATWG HTML 9.2.6). An error loses no event: the events before the
        malformed line are returned, and the next call raises the error, as does each later call until `reset`.

        :raises SSEParsingError: the previous call found a malformed line (strict only).
        :raises SSEEventTooLargeError: the previous call found an event larger than `max_event_size`.
        :raises TypeError: `data` is not bytes.
        """
        if (
            self._idle
            and type(data) is bytes
            and data[-1:] == b"\n"
            and _CR not in data
            and len(data) <= self._surely_small
        ):
            # Fast path for servers that flush each event, as most do: these bytes are one or more complete blocks.
            text = data.decode("utf-8", "replace")
            if text[:6] == "data: " and text.find("\n") == len(text) - 2:
                event = _new_event(SSEEvent)
                event._data = text[6:-2]
                event._meta = self._plain
                return [event]
            return self._interpret_text(text)
        return self._feed(data)

    def _feed(self, data: bytes | bytearray | memoryview) -> list[SSEEvent | Comment]:
        """Parse any bytes, or raise the error of the previous call."""
        if self.error is not None:
            raise self.error
        if not isinstance(data, bytes):
            if not isinstance(data, (bytearray, memoryview)):
                raise TypeError(f"data must be bytes, not {type(data).__name__}")
            data = bytes(data)
        if self._head is not None:
            data = self._without_bom(data)
        items = self._take(data)
        self._idle = not (self._open or self._tail or self._after_cr) and self.error is self._head is None
        return items

    def finish(self) -> None:
        """End the response: discard its unfinished block (WHATWG HTML 9.2.6), and prepare for the next response.

        Call it where the body ends cleanly, and `reset` where the connection broke. Strict parsing also checks a
        last line without a line end, such as the whole of a JSON body. A line that may be the beginning of a valid
        one is not an error: ``dat`` and ``retry: 3``, but also ``Forbidden``.

        :raises SSEParsingError: the previous call of `feed` found a malformed line, or the last line is the beginning
            of no valid line (strict only). Each later call raises the error again, until `reset`.
        :raises SSEEventTooLargeError: the previous call of `feed` found an event larger than `max_event_size`.
        """
        if self.error is None and self._strict and not _BEGINNING.match(self._tail):
            line = self._tail.decode("utf-8", "replace")
            self._fail_at(line, _problem_of(line))
        if self.error is not None:
            raise self.error
        self.reset()

    def _without_bom(self, data: bytes) -> bytes:
        """Return `data` without a BOM at the beginning of the response; b"" until that is decided."""
        head = (self._head or b"") + data
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _take(self, data: bytes) -> list[SSEEvent | Comment]:
        """Parse bytes that may be cut anywhere, with any line ends."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if _CR in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        items: list[SSEEvent | Comment] = []
        end = data.rfind(b"\n") + 1
        if end and self._tail:
            self._tail += data[:end]
            items = self._take_lines(self._tail)
        elif end:
            items = self._take_lines(data[:end])
        if end < len(data):
            self._tail += data[end:]
            if len(self._tail) > self._longest_line and self.error is None:
                self._fail_as_too_large()
        return items

    def _take_lines(self, lines: bytes | bytearray) -> list[SSEEvent | Comment]:
        """Parse complete lines; clear the tail (which may be `lines`) early, to save memory with large events."""
        room = self._max_event_size - self._data_size
        if 3 * len(lines) <= room:
            return self._interpret(lines)
        if len(lines) <= room:
            text = lines.decode("utf-8", "replace")
            if _REPLACED not in text:  # a replacement makes the text longer
                self._tail.clear()
                return self._interpret_text(text)
            del text
        pieces = lines.splitlines(keepends=True)
        self._tail.clear()
        return self._interpret_bounded(pieces)

    def _interpret(self, lines: bytes | bytearray) -> list[SSEEvent | Comment]:
        """Interpret complete lines; clear the tail (which may be `lines`)."""
        text = lines.decode("utf-8", "replace")
        self._tail.clear()
        return self._interpret_text(text)

    def _interpret_text(self, text: str) -> list[SSEEvent | Comment]:
        """Interpret complete lines (WHATWG HTML 9.2.6), and return the events that they complete.

        This is the hot loop: it keeps its state in local variables, checks for the most frequent lines first, and
        builds events slot by slot, without calling the constructor.
        """
        items: list[SSEEvent | Comment] = []
        plain = self._plain
        if text[:6] == "data: " and text[-2:] == "\n\n" and not self._open:
            # Fast path: if all events consist of one data line, these are their values.
            values = _split_between(text[6:-2])
            if 2 * len(values) == text.count("\n"):
                for value in values:
                    event = _new_event(SSEEvent)
                    event._data = value
                    event._meta = plain
                    items.append(event)
                return items
        lines = text.split("\n")
        del lines[-1]  # the empty string after the last LF
        if self._open:
            data, event_type, event_id, retry = self._data, self._event, self._id, self._retry
        else:
            data, event_type, event_id, retry = [], None, None, None
        origin = plain[4]
        counted = len(data)
        for line in lines:
            if not line:
                # "Dispatch the event": an id takes effect even without data.
                meta = plain
                if event_id is not None:
                    plain = self._plain = (None, None, None, event_id, origin)
                    meta = (event_type, event_id, retry, event_id, origin)
                    event_type = event_id = retry = None
                elif event_type is not None or retry is not None:
                    meta = (event_type, None, retry, plain[3], origin)
                    event_type = retry = None
                if data:
                    event = _new_event(SSEEvent)
                    event._data = data[0] if len(data) == 1 else "\n".join(data)
                    event._meta = meta
                    items.append(event)
                    data.clear()
                    counted = 0
                continue
            name, _, value = line.partition(": ")
            if name == "data":
                data.append(value)
                continue
            if name not in _FIELDS:  # the first colon has no space after it
                name, _, value = line.partition(":")
            if name == "id":
                if "\0" not in value:
                    event_id = value
                    self.ids_seen = True
                else:
                    self._ignore(line, items)
            elif name == "event":
                event_type = value or None
            elif name == "data":
                data.append(value)
            elif not name:
                self.comments_seen += 1
                if self.comments:
                    items.append(Comment(line[1:]))
            elif name == "retry" and value.isascii() and value.isdigit():
                self.retry = retry = int(value) if len(value) < _MANY_DIGITS else _milliseconds(value)
            elif self._strict and (problem := _problem_of(line)):
                self._fail_at(line, problem)
                return items
            else:
                self._ignore(line, items)
        if lines[-1]:
            if not counted:
                self._data_size = self._joined = 0
            self._data_size += sum(map(_bytes_of, data[counted:]))
            if len(data) - self._joined >= _MANY_LINES:
                data[self._joined :] = ["\n".join(data[self._joined :])]
                self._joined += 1
            self._data, self._event, self._id, self._retry = data, event_type, event_id, retry
            self._open, self._idle = True, False
        elif self._open:
            self._open = False
            self._data_size = 0
        return items

    def _interpret_bounded(self, lines: list[bytes] | list[bytearray]) -> list[SSEEvent | Comment]:
        """Interpret lines one by one, and check the size limit after each."""
        items: list[SSEEvent | Comment] = []
        lines.reverse()
        while lines and self.error is None:
            if len(lines[-1]) > self._longest_line + 1:
                self._fail_as_too_large()
                break
            items += self._interpret_text(lines.pop().decode("utf-8", "replace"))
            if self._data_size - 1 > self._max_event_size:
                self._fail_as_too_large()
        return items

    def _ignore(self, line: str, items: list[SSEEvent | Comment]) -> None:
        self.ignored_seen += 1
        if self.ignored:
            items.append(Ignored(line))  # type: ignore[arg-type] # for users, `feed` returns no others

    def _where(self) -> str:
        return f"{self.origin}: " if self.origin else ""

    def _fail_at(self, line: str, problem: str) -> None:
        self._idle = False
        message = f"{self._where()}a line of the stream is not in the event-stream format ({problem})"
        self.error = SSEParsingError(message, line, remedy=Remedy.IGNORE_LINES)

    def _fail_as_too_large(self) -> None:
        self._idle = False
        self._tail.clear()
        self._data.clear()
        self.error = SSEEventTooLargeError(
            f"{self._where()}an event of the stream is larger than {self._max_event_size} bytes",
            remedy=Remedy.ALLOW_LARGER_EVENTS,
        )


def _problem_of(line: str) -> str:
    """Return why strict parsing rejects a line that is not a data, event, id or valid retry field; "" if it does not.

    The text is for error messages: it quotes nothing of the line, which may contain a secret.
    """
    if _is_unknown_field(line):
        return ""
    if line.partition(":")[0] == "retry":
        return "invalid retry"
    if _JSON.match(line):
        return "looks like JSON"
    if _HTML.match(line):
        return "looks like HTML"
    return "invalid field name" if ":" in line else "no colon"


def _bytes_of(line: str) -> int:
    """Return the length of a line in bytes of UTF-8, with its LF."""
    return (len(line) if line.isascii() else len(line.encode())) + 1


def _milliseconds(digits: str) -> int:
    """Return the value of any number of digits, at most `MAX_RETRY`; `int` refuses very long numbers."""
    digits = digits.lstrip("0")
    return min(int(digits or "0"), MAX_RETRY) if len(digits) <= _MANY_DIGITS else MAX_RETRY
