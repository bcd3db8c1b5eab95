"""A quick cut of `make fuzz`, by hypothesis: the parser and the HTTP side against the oracle."""

from __future__ import annotations

import pytest

from fuzz import driver, targets


@pytest.mark.parametrize(("name", "inputs"), [("parser", 400), ("http", 600)])
def test_any_input(name: str, inputs: int) -> None:
    driver.by_hypothesis(name, inputs, seed=0)


def test_every_seed() -> None:
    for data in targets.parser_seeds():
        targets.parser(data)
    with targets.HTTP() as http:
        for data in targets.http_seeds():
            http(data)
        assert http.inputs == len(targets.http_seeds())
        assert http.whole > http.inputs / 3
