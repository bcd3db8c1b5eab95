"""Events on standard output, as text or as JSON. Each event is written at once."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sseclient_dual import SSEEvent

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 except newline and tab, DEL, C1
_LINE_ENDS: Final = re.compile(r"[\x7f-\x9f\u2028\u2029]")  # allowed in JSON, but line ends to some readers
_TYPE_COLOR: Final = "36"  # cyan
_ID_COLOR: Final = "33"  # yellow


class EventPrinter:
    """Prints events, and counts them.

    :param as_json: print JSON rather than text.
    :param silent: only count, because the bytes of the events are printed as they arrive.
    :param timestamps: print the time with each event.
    :param color: whether to color types and ids in text; None: on a terminal, unless the environment forbids it.
    """

    def __init__(self, *, as_json: bool, silent: bool, timestamps: bool, color: bool | None) -> None:
        self.count = 0
        self._as_json = as_json
        self._silent = silent
        self._timestamps = timestamps
        self._on_terminal = sys.stdout.isatty()
        self._color = _is_color_wanted(on_terminal=self._on_terminal) if color is None else color
        self._start = time.monotonic()

    def print(self, event: SSEEvent) -> None:
        """Print one event at once; to a terminal without control characters of the server."""
        if not self._silent:
            print(self._json(event) if self._as_json else self._text(event), flush=True)
        self.count += 1

    def summary(self, reconnects: int, last_event_id: str) -> str:
        """Return the line that ``--stats`` prints."""
        seconds = max(time.monotonic() - self._start, 0.001)
        return (
            f"events {self.count} in {seconds:.1f} s ({self.count / seconds:.1f}/s), "
            f"reconnects {reconnects}, "
            f"last id {last_event_id or 'none'}"
        )

    def _text(self, event: SSEEvent) -> str:
        """Return an event for people: type and id, if any, then the data; several lines of data indented."""
        lines = self._shown(event.data).split("\n")
        head = [] if event.type == "message" and (event.id or len(lines) == 1) else [(event.type, _TYPE_COLOR)]
        head += [(f"#{event.id}", _ID_COLOR)] if event.id else []
        text = " ".join(self._colored(self._shown(part), color) for part, color in head)
        if len(lines) > 1:
            text = "\n    ".join([f"{text}:", *lines])
        elif text:
            text = f"{text}: {lines[0]}"
        else:
            text = lines[0]
        return f"{timestamp()} {text}" if self._timestamps else text

    def _json(self, event: SSEEvent) -> str:
        """Return an event as JSON that every program reads as one line."""
        fields: dict[str, object] = {**event, "last_event_id": event.last_event_id}
        if self._timestamps:
            fields["time"] = timestamp()
        return self._shown(escaped(json.dumps(fields, ensure_ascii=False), _LINE_ENDS))

    def _shown(self, text: str) -> str:
        return escaped(text) if self._on_terminal else text

    def _colored(self, text: str, color: str) -> str:
        return f"\x1b[{color}m{text}\x1b[m" if self._color else text


def _is_color_wanted(*, on_terminal: bool) -> bool:
    """Return True on a terminal with colors, unless ``NO_COLOR`` (https://no-color.org) is set."""
    return on_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def timestamp() -> str:
    """Return the present time as in RFC 3339, with milliseconds and the local offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def escaped(text: str, characters: re.Pattern[str] = _CONTROLS) -> str:
    """Return `text` with `characters` in JSON's notation; control characters could take over a terminal."""
    return characters.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
