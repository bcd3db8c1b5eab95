"""Whether a result meets a target."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """One target, the measured value, and whether it meets the target."""

    target: str
    measured: str
    met: bool
