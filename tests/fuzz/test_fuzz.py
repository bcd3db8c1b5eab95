"""A short version of `make fuzz` with hypothesis: the parser and the HTTP layer against a reference parser."""

from __future__ import annotations

import hypothesis  # noqa: F401 - not during a test: trio's plugin for it warns about objects hidden by `gc.freeze`
import pytest

from fuzz import driver, targets


@pytest.mark.parametrize(("name", "inputs"), [("parser", 400), ("http", 600)])
def test_random_inputs(name: str, inputs: int) -> None:
    driver.fuzz_with_hypothesis(name, inputs, seed=0)


def test_all_seeds() -> None:
    for data in targets.parser_seeds():
        targets.parser(data)
    with targets.HTTP() as http:
        for data in targets.http_seeds():
            http(data)
        assert http.inputs == len(targets.http_seeds())
        assert http.valid > http.inputs / 3
