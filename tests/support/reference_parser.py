"""A reference parser for tests: WHATWG HTML 9.2.5 and 9.2.6, one character at a time.

It takes the whole body, decodes UTF-8 itself (WHATWG Encoding 8.1.1) and follows the standard sentence by
sentence; comments quote the sentences. It is deliberately slow and shares no technique with the package's
parser: no regular expressions, no splitting, no codecs of Python, no `int()`. Like the package, it adds to the
standard: strict parsing, comments, the id and retry of each event, and a size limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
DIGITS = "0123456789"
NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."  # in strict parsing
BOMS_CUT_SHORT = (b"", b"\xef", b"\xef\xbb")


@dataclass
class RefEvent:
    """A dispatched event: its buffers, and the id and retry of its own block."""

    data: str
    event: str | None
    id: str | None
    retry: int | None
    last_event_id: str


@dataclass
class RefComment:
    """The text of a comment line after the colon."""

    text: str


@dataclass
class RefError:
    """The error that ends a reading: its kind, the line (as far as it was received) and the offset of the line.

    A parsing error also has the problem that its message names.
    """

    kind: Literal["parsing", "size"]
    line: str
    offset: int
    problem: str = ""


@dataclass
class Reading:
    """The result of reading a whole body."""

    items: list[RefEvent | RefComment] = field(default_factory=list)
    last_event_id: str = ""
    retry: int | None = None
    error: RefError | None = None

    @property
    def events(self) -> list[RefEvent]:
        """The events only."""
        return [item for item in self.items if isinstance(item, RefEvent)]

    @property
    def comments(self) -> list[str]:
        """The texts of the comments only."""
        return [item.text for item in self.items if isinstance(item, RefComment)]


@dataclass
class _Character:
    text: str
    offset: int  # of its first byte
    size: int  # in bytes


def utf8_decode(body: bytes) -> list[_Character]:
    """Decode as in WHATWG Encoding 8.1.1; keep a byte order mark."""
    characters: list[_Character] = []
    code_point = needed = seen = start = 0
    lower, upper = 0x80, 0xBF
    position = 0
    while position < len(body):
        byte = body[position]
        if needed == 0:
            start = position
            position += 1
            if byte <= 0x7F:
                characters.append(_Character(chr(byte), start, 1))
            elif 0xC2 <= byte <= 0xDF:
                needed, code_point = 1, byte & 0x1F
            elif 0xE0 <= byte <= 0xEF:
                if byte == 0xE0:
                    lower = 0xA0
                if byte == 0xED:
                    upper = 0x9F
                needed, code_point = 2, byte & 0xF
            elif 0xF0 <= byte <= 0xF4:
                if byte == 0xF0:
                    lower = 0x90
                if byte == 0xF4:
                    upper = 0x8F
                needed, code_point = 3, byte & 0x7
            else:
                characters.append(_Character(REPLACEMENT, start, 1))
        elif not lower <= byte <= upper:
            # "Restore byte to ioQueue": the bytes so far are one error, and this byte begins a new sequence.
            characters.append(_Character(REPLACEMENT, start, position - start))
            code_point = needed = seen = 0
            lower, upper = 0x80, 0xBF
        else:
            lower, upper = 0x80, 0xBF
            code_point = (code_point << 6) | (byte & 0x3F)
            seen += 1
            position += 1
            if seen == needed:
                characters.append(_Character(chr(code_point), start, position - start))
                code_point = needed = seen = 0
    if needed:
        characters.append(_Character(REPLACEMENT, start, len(body) - start))
    return characters


@dataclass
class _Line:
    text: str
    offset: int  # of its first byte
    size: int  # in bytes, without the line end
    ended: bool


def _lines(body: bytes) -> list[_Line]:
    """Split a body into lines; the last line has no line end, and may be empty."""
    characters = utf8_decode(body)
    # "If the leading character is a U+FEFF BYTE ORDER MARK, it must be dropped": only one.
    if characters and characters[0].text == "\N{ZERO WIDTH NO-BREAK SPACE}":
        del characters[0]
    lines = []
    offset = characters[0].offset if characters else len(body)
    line = _Line("", offset, 0, ended=False)
    index = 0
    while index < len(characters):
        character = characters[index]
        index += 1
        if character.text in ("\r", "\n"):
            line.ended = True
            lines.append(line)
            after = character.offset + 1
            if character.text == "\r" and index < len(characters) and characters[index].text == "\n":
                index += 1
                after += 1
            line = _Line("", after, 0, ended=False)
            continue
        line.text += character.text
        line.size += character.size
    lines.append(line)
    return lines


def _split_field(line: str) -> tuple[str, str, bool]:
    name = value = ""
    index = 0
    while index < len(line) and line[index] != ":":
        name += line[index]
        index += 1
    if index == len(line):
        # "Otherwise ... process the field using ... the whole line as the field name, and the empty string as
        # the field value."
        return name, "", False
    index += 1
    # "If value starts with a U+0020 SPACE character, remove it from value."
    if index < len(line) and line[index] == " ":
        index += 1
    while index < len(line):
        value += line[index]
        index += 1
    return name, value, True


def _number(value: str) -> int | None:
    """Return the value of ASCII digits; return None for any other text, including an empty one."""
    number = 0
    for character in value:
        if character not in DIGITS:
            return None
        number = number * 10 + DIGITS.index(character)
    return number if value else None


def _is_name(name: str) -> bool:
    return all(character in NAME_CHARACTERS for character in name)


def _without_blanks(text: str) -> str:
    """Return the text after the spaces and tabs at its beginning."""
    index = 0
    while index < len(text) and text[index] in (" ", "\t"):
        index += 1
    return text[index:]


def _problem(line: str) -> str | None:
    """Return why strict parsing rejects a line that is neither empty nor a comment, or None if it is valid."""
    name, value, colon = _split_field(line)
    if name == "retry":
        return "invalid retry" if _number(value) is None else None
    if name in ("data", "event", "id") or (colon and _is_name(name)):
        return None
    text = _without_blanks(line)
    first = text[0] if text else ""
    if first == "<":
        return "looks like HTML"
    if first in ("{", '"'):
        return "looks like JSON"
    if first == "[":
        rest = _without_blanks(text[1:])
        if not rest or rest[0] in ("{", "[", "]", '"'):
            return "looks like JSON"
    return "invalid field name" if colon else "no colon"


def _problem_at_end(line: str) -> str | None:
    """Return why no valid line begins with a line that the end of the body has cut, or None if one does."""
    name, value, colon = _split_field(line)
    if not colon and _is_name(name):
        return None
    if colon and (not name or (name == "retry" and not value)):
        return None
    return _problem(line)


def _utf8_size(text: str) -> int:
    size = 0
    for character in text:
        size += 1 + (character > "\x7f") + (character > "\u07ff") + (character > "\uffff")
    return size


def read(body: bytes, *, strict: bool, last_event_id: str = "", limit: int | None = None) -> Reading:
    """Read one response's whole body, which ends cleanly.

    :param strict: stop at the first malformed line.
    :param last_event_id: the last event ID of the previous response.
    :param limit: the maximum size of an event's data in UTF-8 bytes; the maximum for a line is a data line of
        that size.
    """
    reading = Reading(last_event_id=last_event_id)
    id_buffer = last_event_id
    data_buffer = ""
    type_buffer = ""
    own_id: str | None = None
    own_retry: int | None = None
    data_bytes = 0
    for line in _lines(body):
        if limit is not None and line.size > len("data: ") + limit:
            reading.error = RefError("size", line.text, line.offset)
            return reading
        if not line.ended:
            # "Once the end of the file is reached, any pending data must be discarded."
            problem = _problem_at_end(line.text) if strict and body not in BOMS_CUT_SHORT else None
            if problem is not None:
                reading.error = RefError("parsing", line.text, line.offset, problem)
            return reading
        if not line.text:
            # "Dispatch the event": "Set the last event ID string of the event source to the value of the last
            # event ID buffer."
            reading.last_event_id = id_buffer
            # "If the data buffer is an empty string, set the data buffer and the event type buffer to the
            # empty string and return."
            if data_buffer:
                # "If the data buffer's last character is a U+000A LINE FEED (LF) character, then remove the
                # last character from the data buffer."
                reading.items.append(RefEvent(data_buffer[:-1], type_buffer or None, own_id, own_retry, id_buffer))
            data_buffer = type_buffer = ""
            own_id = own_retry = None
            data_bytes = 0
            continue
        if line.text[0] == ":":
            reading.items.append(RefComment(line.text[1:]))
            continue
        problem = _problem(line.text) if strict else None
        if problem is not None:
            reading.error = RefError("parsing", line.text, line.offset, problem)
            return reading
        name, value, _ = _split_field(line.text)
        if name == "event":
            type_buffer = value
        elif name == "data":
            data_bytes += _utf8_size(value) + (1 if data_buffer else 0)
            if limit is not None and data_bytes > limit:
                reading.error = RefError("size", line.text, line.offset)
                return reading
            data_buffer += value + "\n"
        elif name == "id":
            if "\0" not in value:
                id_buffer = own_id = value
        elif name == "retry":
            number = _number(value)
            if number is not None:
                reading.retry = own_retry = number
    raise AssertionError("the last line has no line end")
