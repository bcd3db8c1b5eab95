"""`EventStreamParser`: the bytes of an event stream to events; no I/O, clock or thread.

WHATWG HTML 9.2.5 gives the grammar and 9.2.6 the interpretation. The bytes are brought to whole lines that end in
LF, however they were cut and ended; these are decoded and cut into blocks at once, and one loop interprets them.
"""

from __future__ import annotations

import re

from .errors import SSEConnectionError, SSEEventTooLargeError, SSEParsingError
from .event import About, Comment, SSEEvent

_new_event = SSEEvent.__new__
_FIELDS = frozenset({"data", "event", "id", "retry"})
MAX_EVENT_SIZE = 64 * 1024 * 1024  # bytes
MAX_RETRY = 2**53 - 1  # ms: the largest integer that every JSON reader and JavaScript hold exactly
_MANY_DIGITS = len(str(MAX_RETRY))
_split_between = re.compile("\n\ndata: ").split  # for long lines several times as fast as that of str
_CR = ord("\r")
_REPLACED = "\N{REPLACEMENT CHARACTER}"  # what a bad byte becomes: three bytes, as UTF-8
_BOM = b"\xef\xbb\xbf"
_MANY_LINES = 4096  # of an unfinished block; as strings of their own short ones take 20 times the memory


class EventStreamParser:
    """A sans-I/O parser of event streams, for those who bring a transport of their own.

    :param strict: raise `SSEParsingError` at a line with no colon that is not one of the four field names, and at
        a ``retry`` that is not ASCII digits; a browser, and ``strict=False``, ignores such lines.
    :param comments: also return comments, in order among the events.
    :param max_event_size: bytes of data, as UTF-8, that one event may have, 64 MiB by default. No line may be
        longer than a data line of that size.
    :param last_event_id: the last event ID to begin with.
    """

    def __init__(
        self,
        strict: bool = True,  # noqa: FBT001, FBT002 - the promised signature
        comments: bool = False,  # noqa: FBT001, FBT002
        max_event_size: int = MAX_EVENT_SIZE,
        last_event_id: str = "",
    ) -> None:
        # What tells of an event that has no fields but data; the last event ID and the origin live here.
        self._plain: About = (None, None, None, last_event_id, "")
        self.retry: int | None = None
        """Milliseconds that the stream last set as its reconnection time, or None; 2^53 - 1 at the most."""
        self.comments = comments
        """Whether comments are returned, too; may be changed between two calls of `feed`."""
        self.comments_seen = 0
        """How many comments there were, returned or not."""
        self._strict = strict
        self._max_event_size = max_event_size
        self._longest_line = len("data: ") + max_event_size
        # So many bytes make no event that is too large, not even if each is a bad one, replaced by three.
        self._surely_small = max_event_size // 3
        self.reset()

    @property
    def last_event_id(self) -> str:
        """The last event ID, as of the last blank line (WHATWG HTML 9.2.6)."""
        return self._plain[3]

    @property
    def origin(self) -> str:
        """What the events carry as their `SSEEvent.origin`; may be set."""
        return self._plain[4]

    @origin.setter
    def origin(self, origin: str) -> None:
        self._plain = (None, None, None, self.last_event_id, origin)

    def reset(self) -> None:
        """Get ready for a new response: keep the last event ID, drop the unfinished block, expect a BOM again."""
        self.error: SSEConnectionError | None = None
        """What the next `feed` is going to raise, if anything."""
        self.ids_seen = False
        """Whether an id has come in this response."""
        self._idle = False  # whether all that follows is as it is between two blocks, where anything may come
        self._head: bytes | None = b""  # the first bytes of the response, until it is known whether they are a BOM
        self._after_cr = False  # whether the last line ended in CR, so that an LF belongs to its end
        self._tail = bytearray()  # the unfinished line
        self._open = False  # whether there is an unfinished block, and these are its buffers
        self._data: list[str] = []
        self._joined = 0  # how many of these are many lines in one
        self._data_size = 0  # bytes, with one for each line end
        self._event: str | None = None
        self._id: str | None = None
        self._retry: int | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> list[SSEEvent | Comment]:
        """Take the next bytes of the response; return the events (and comments) that they complete.

        An event is complete at its blank line (WHATWG HTML 9.2.6). An error swallows nothing: what came before
        the bad line is returned, and the next call raises, as does each one after it until `reset`.

        :raises SSEParsingError: the previous call met a line that no event stream has (strict only).
        :raises SSEEventTooLargeError: the previous call met an event larger than `max_event_size`.
        :raises TypeError: `data` is not bytes.
        """
        if (
            self._idle
            and type(data) is bytes
            and data[-1:] == b"\n"
            and _CR not in data
            and len(data) <= self._surely_small
        ):
            # The short way for servers that flush each event, as most do: this is a block, or several.
            text = data.decode("utf-8", "replace")
            if text[:6] == "data: " and text.find("\n") == len(text) - 2:
                event = _new_event(SSEEvent)
                event._data = text[6:-2]  # noqa: SLF001
                event._about = self._plain  # noqa: SLF001
                return [event]
            return self._interpret(text)
        if self.error is not None:
            raise self.error
        if not isinstance(data, bytes):
            if not isinstance(data, (bytearray, memoryview)):
                msg = f"data must be bytes, not {type(data).__name__}"
                raise TypeError(msg)
            data = bytes(data)
        if self._head is not None:
            data = self._without_bom(data)
        items = self._take(data)
        self._idle = not (self._open or self._tail or self._after_cr) and self.error is self._head is None
        return items

    def _without_bom(self, data: bytes) -> bytes:
        """Return what there is to parse, once it is known whether the response begins with a BOM."""
        head = (self._head or b"") + data
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _take(self, data: bytes) -> list[SSEEvent | Comment]:
        """Take lines that may be cut anywhere and end in anything."""
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
        """Take whole lines; forget the tail, which they may be, before a large event needs its memory again."""
        room = self._max_event_size - self._data_size
        if len(lines) <= room:
            text = lines.decode("utf-8", "replace")
            if 3 * len(lines) <= room or _REPLACED not in text:  # else there may be more of it than there was
                if self._tail:
                    self._tail.clear()
                return self._interpret(text)
            del text
        pieces = lines.splitlines(keepends=True)
        self._tail.clear()
        return self._interpret_bounded(pieces)

    def _interpret(self, text: str) -> list[SSEEvent | Comment]:
        """Interpret whole lines (WHATWG HTML 9.2.6), and return what they complete.

        This is the hot loop: the state is kept in locals meanwhile, what most lines are is looked for first, and
        events are built slot by slot, without a call of their constructor.
        """
        items: list[SSEEvent | Comment] = []
        plain = self._plain
        if text[:6] == "data: " and text[-2:] == "\n\n" and not self._open:
            # Often all events are of one line, which is data. Then this is what the lines say; there are no others.
            values = _split_between(text[6:-2])
            if 2 * len(values) == text.count("\n"):
                for value in values:
                    event = _new_event(SSEEvent)
                    event._data = value  # noqa: SLF001
                    event._about = plain  # noqa: SLF001
                    items.append(event)
                return items
        lines = text.split("\n")
        del lines[-1]  # what follows the last LF: nothing
        if self._open:
            data, event_type, event_id, retry = self._data, self._event, self._id, self._retry
        else:
            data, event_type, event_id, retry = [], None, None, None
        origin = plain[4]
        counted = len(data)
        for line in lines:
            if not line:
                # "dispatch the event": the id takes effect even if there is no data.
                about = plain
                if event_id is not None:
                    plain = self._plain = (None, None, None, event_id, origin)
                    about = (event_type, event_id, retry, event_id, origin)
                    event_type = event_id = retry = None
                elif event_type is not None or retry is not None:
                    about = (event_type, None, retry, plain[3], origin)
                    event_type = retry = None
                if data:
                    event = _new_event(SSEEvent)
                    event._data = data[0] if len(data) == 1 else "\n".join(data)  # noqa: SLF001
                    event._about = about  # noqa: SLF001
                    items.append(event)
                    data.clear()
                    counted = 0
                continue
            name, colon, value = line.partition(": ")
            if name == "data":
                data.append(value)
                continue
            if name not in _FIELDS:  # so that colon was not the line's first one, or had no space behind it
                name, colon, value = line.partition(":")
            if name == "id":
                if "\0" not in value:
                    event_id = value
                    self.ids_seen = True
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
            elif self._strict and (name == "retry" or not colon):
                self._fail_at(line)
                return items
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
        """Interpret lines that may make an event too large: one by one, and look each time."""
        items: list[SSEEvent | Comment] = []
        lines.reverse()
        while lines and self.error is None:
            if len(lines[-1]) > self._longest_line + 1:
                self._fail_as_too_large()
                break
            items += self._interpret(lines.pop().decode("utf-8", "replace"))
            if self._data_size - 1 > self._max_event_size:
                self._fail_as_too_large()
        return items

    def _where(self) -> str:
        return f"{self.origin}: " if self.origin else ""

    def _fail_at(self, line: str) -> None:
        self._idle = False
        self.error = SSEParsingError(
            f"{self._where()}a line of the stream is not in the event-stream format (it is in this error's attribute "
            "line); check that the URL serves text/event-stream, or pass strict=False to ignore such lines",
            line,
        )

    def _fail_as_too_large(self) -> None:
        self._idle = False
        self._tail.clear()
        self._data.clear()
        self.error = SSEEventTooLargeError(
            f"{self._where()}an event of the stream is larger than max_event_size ({self._max_event_size} bytes); "
            "pass a larger one if that is to be expected"
        )


def _bytes_of(line: str) -> int:
    """Return how long a line is as UTF-8, its LF included."""
    return (len(line) if line.isascii() else len(line.encode())) + 1


def _milliseconds(digits: str) -> int:
    """Read a number of any length, which `int` would refuse, as `MAX_RETRY` at the most."""
    digits = digits.lstrip("0")
    return min(int(digits or "0"), MAX_RETRY) if len(digits) <= _MANY_DIGITS else MAX_RETRY
