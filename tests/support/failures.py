"""Values for tests of failures: a secret, an origin, a URL, an exception of the caller."""

from __future__ import annotations

import pytest

TOKEN = "hunter2"  # the secret in every test: in the query, password, headers, body and id
ORIGIN = "http://example.test:8080"
URL = f"{ORIGIN}/path?token={TOKEN}"


class OopsError(Exception):
    """An exception of the caller's code."""


def assert_search(pattern: str, text: str) -> None:
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(text)
