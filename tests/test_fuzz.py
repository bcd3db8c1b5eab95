"""A quick cut of `make fuzz`, by hypothesis: the parser and the HTTP side against the oracle."""

from __future__ import annotations

import pytest

import fuzz
import fuzz_targets


@pytest.mark.parametrize(("name", "inputs"), [("parser", 400), ("http", 600)])
def test_any_input(name: str, inputs: int) -> None:
    fuzz.by_hypothesis(name, inputs, seed=0)


def test_every_seed() -> None:
    for data in fuzz_targets.parser_seeds():
        fuzz_targets.parser(data)
    with fuzz_targets.HTTP() as http:
        for data in fuzz_targets.http_seeds():
            http(data)
        assert http.inputs == len(fuzz_targets.http_seeds())
        assert http.whole > http.inputs / 3
