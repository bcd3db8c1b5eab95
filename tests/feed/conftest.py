"""Fixtures for the tests of feeds."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def untraced() -> Iterator[None]:
    """Disable coverage tracing, because its locks must not be interrupted."""
    previous = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(previous)


@pytest.fixture
def restore_gc() -> Iterator[None]:
    """Restore the settings of the garbage collector after the test."""
    yield
    gc.enable()
