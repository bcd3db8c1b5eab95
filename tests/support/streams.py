"""Heads and bodies of streams that several test files serve."""

from __future__ import annotations

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
ONE = "id: 1\ndata: one\n\n"
TWO = "id: 2\ndata: two\n\n"
