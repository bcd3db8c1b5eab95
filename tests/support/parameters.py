"""Ids of parametrised tests."""

from __future__ import annotations

import re


def without_address(value: object) -> str:
    """Return `value` as a test id that is the same in every process: without memory addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
