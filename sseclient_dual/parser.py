"""`EventStreamParser`: the bytes of an event stream to events; no I/O, clock or thread.

WHATWG HTML 9.2.5 gives the grammar and 9.2.6 the interpretation. The bytes are brought to whole lines that end in
LF, however they were cut and ended; these are decoded and split at once, and one loop interprets them.
"""

from __future__ import annotations

from .errors import SSEConnectionError, SSEEventTooLargeError, SSEParsingError
from .event import Comment, SSEEvent

_new_event = SSEEvent.__new__
MAX_EVENT_SIZE = 64 * 1024 * 1024  # bytes
MAX_RETRY = 2**53 - 1  # ms: the largest integer that every JSON reader and JavaScript hold exactly
_BOM = b"\xef\xbb\xbf"
_LONGEST_EXCERPT = 80  # characters of a bad line that the message shows


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
        self.last_event_id = last_event_id
        """The last event ID, as of the last blank line (WHATWG HTML 9.2.6)."""
        self.retry: int | None = None
        """Milliseconds that the stream last set as its reconnection time, or None; 2^53 - 1 at the most."""
        self.origin = ""
        """What the events carry as their `SSEEvent.origin`."""
        self._strict = strict
        self._comments = comments
        self._max_event_size = max_event_size
        self._longest_line = len("data: ") + max_event_size
        self.reset()

    def reset(self) -> None:
        """Get ready for a new response: keep the last event ID, drop the unfinished block, expect a BOM again."""
        self.error: SSEConnectionError | None = None
        """What the next `feed` is going to raise, if anything."""
        self._head: bytes | None = b""  # the first bytes of the response, until it is known whether they are a BOM
        self._after_cr = False  # whether the last line ended in CR, so that an LF belongs to its end
        self._tail = bytearray()  # the unfinished line
        # The buffers of the unfinished block.
        self._data: list[str] = []
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
        if self.error is not None:
            raise self.error
        if not isinstance(data, bytes):
            if not isinstance(data, (bytearray, memoryview)):
                msg = f"data must be bytes, not {type(data).__name__}"
                raise TypeError(msg)
            data = bytes(data)
        if self._head is not None:
            data = self._without_bom(data)
        items: list[SSEEvent | Comment] = []
        lines = self._whole_lines(data)
        if lines is not None:
            # Not even if all of it were bad bytes, each replaced by three, could an event be too large.
            if self._data_size + 3 * len(lines) <= self._max_event_size:
                self._interpret(lines.decode("utf-8", "replace").split("\n"), items)
            else:
                self._interpret_bounded(lines, items)
        if len(self._tail) > self._longest_line and self.error is None:
            self._fail_as_too_large()
        return items

    def _without_bom(self, data: bytes) -> bytes:
        """Return what there is to parse, once it is known whether the response begins with a BOM."""
        head = (self._head or b"") + data
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _whole_lines(self, data: bytes) -> bytes | None:
        """Return the lines that `data` completes, joined with LF, or None; keep the beginning of the next."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = data.rfind(b"\n")
        if end < 0:
            self._tail += data
            return None
        lines = data[:end]
        if self._tail:
            self._tail += lines
            lines = bytes(self._tail)
            self._tail.clear()
        self._tail += data[end + 1 :]
        return lines

    def _interpret(self, lines: list[str], items: list[SSEEvent | Comment]) -> None:
        """Interpret whole lines (WHATWG HTML 9.2.6), and append to `items` what they complete.

        This is the hot loop: the state is kept in locals meanwhile, what most lines are is looked for first, and
        events are built slot by slot, without a call of their constructor.
        """
        data, size, counted = self._data, self._data_size, len(self._data)
        event_type, event_id, retry = self._event, self._id, self._retry
        last_event_id, origin = self.last_event_id, self.origin
        for line in lines:
            if line[:6] == "data: ":
                data.append(line[6:])
            elif not line:
                # "dispatch the event": the id takes effect even if there is no data.
                if event_id is not None:
                    last_event_id = event_id
                if data:
                    event = _new_event(SSEEvent)
                    event._data = data[0] if len(data) == 1 else "\n".join(data)  # noqa: SLF001
                    event._event = event_type  # noqa: SLF001
                    event._id = event_id  # noqa: SLF001
                    event._retry = retry  # noqa: SLF001
                    event._last_event_id = last_event_id  # noqa: SLF001
                    event._origin = origin  # noqa: SLF001
                    items.append(event)
                    data.clear()
                    size = counted = 0
                event_type = event_id = retry = None
            else:
                name, colon, value = line.partition(":")
                if value[:1] == " ":
                    value = value[1:]
                if name == "data":
                    data.append(value)
                elif name == "event":
                    event_type = value or None
                elif name == "id":
                    if "\0" not in value:
                        event_id = value
                elif not name and colon:
                    if self._comments:
                        items.append(Comment(line[1:]))
                elif name == "retry" and value.isascii() and value.isdigit():
                    self.retry = retry = _milliseconds(value)
                elif self._strict and (name == "retry" or not colon):
                    self._fail_at(line)
                    break
        self._event, self._id, self._retry = event_type, event_id, retry
        self.last_event_id = last_event_id
        self._data_size = size + sum(len(line.encode()) + 1 for line in data[counted:]) if data else 0

    def _interpret_bounded(self, lines: bytes, items: list[SSEEvent | Comment]) -> None:
        """Interpret lines that may make an event too large: one by one, and look each time."""
        for line in lines.split(b"\n"):
            if len(line) > self._longest_line:
                self._fail_as_too_large()
                return
            self._interpret([line.decode("utf-8", "replace")], items)
            if self.error is not None:
                return
            if self._data_size - 1 > self._max_event_size:
                self._fail_as_too_large()
                return

    def _fail_at(self, line: str) -> None:
        excerpt = line if len(line) <= _LONGEST_EXCERPT else line[:_LONGEST_EXCERPT] + "…"
        self.error = SSEParsingError(
            f"a line of the stream is not in the event-stream format: {excerpt!r}. Check that the URL serves "
            "text/event-stream, or pass strict=False to ignore such lines",
            line,
        )

    def _fail_as_too_large(self) -> None:
        self._tail.clear()
        self._data.clear()
        self.error = SSEEventTooLargeError(
            f"an event of the stream is larger than max_event_size ({self._max_event_size} bytes); "
            "pass a larger one if that is to be expected"
        )


def _milliseconds(digits: str) -> int:
    """Read a number of any length, which `int` would refuse, as `MAX_RETRY` at the most."""
    digits = digits.lstrip("0")
    return min(int(digits or "0"), MAX_RETRY) if len(digits) <= len(str(MAX_RETRY)) else MAX_RETRY
