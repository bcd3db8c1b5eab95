"""Bodies of streams that several test files serve."""

from __future__ import annotations

ONE = "id: 1\ndata: one\n\n"
TWO = "id: 2\ndata: two\n\n"
