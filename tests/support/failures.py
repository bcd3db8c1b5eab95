"""What tests of failures share: a secret, an origin, a URL, an exception of the caller."""

from __future__ import annotations

import pytest

TOKEN = "hunter2"  # stands for every secret: in the query, as a password, in headers, in a body, as an id
ORIGIN = "http://example.test:8080"
URL = f"{ORIGIN}/path?token={TOKEN}"


class OopsError(Exception):
    """What the caller's code raises."""


def assert_search(pattern: str, text: str) -> None:
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(text)
