"""Fixtures of the scripted server's tests."""

from __future__ import annotations

import pytest

from support.dialling import Contexts


@pytest.fixture(scope="module")
def contexts() -> Contexts:
    return Contexts()
