"""Names of parametrised tests."""

from __future__ import annotations

import re


def without_address(value: object) -> str:
    """Return `value` as text, the same in every process: how parameters are called."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
