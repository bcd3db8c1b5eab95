"""Checks of arguments: each error names the argument."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

import pytest

from sseclient_dual.checks import check_bools, check_integer, check_number


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.5, 10**18, 1e300, Fraction(1, 3)])
def test_a_number_is_accepted(value: float) -> None:
    check_number("timeout", value, least=0)


@pytest.mark.parametrize("value", [None, "1", b"1", True, False, 1j, Decimal(1), [1], object])
def test_a_value_that_is_not_a_number_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match=f"^timeout must be a number, not {re.escape(repr(value))}$"):
        check_number("timeout", value, least=0)


@pytest.mark.parametrize("value", [-1, -1e-9, float("inf"), float("-inf"), float("nan"), Fraction(-1, 3)])
def test_a_number_out_of_range_is_a_value_error(value: float) -> None:
    with pytest.raises(ValueError, match=f"^timeout must be at least 0 and finite, not {re.escape(repr(value))}$"):
        check_number("timeout", value, least=0)


def test_a_number_too_large_for_a_float_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^timeout must be at least 0 and finite, not 10*$"):
        check_number("timeout", 10**400, least=0)


@pytest.mark.parametrize("value", [1, 2, 10**30])
def test_an_integer_is_accepted(value: int) -> None:
    check_integer("queue_size", value, least=1)


@pytest.mark.parametrize("value", [None, "1", True, 1.0, Fraction(1), [1]])
def test_a_value_that_is_not_an_integer_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match=f"^queue_size must be an integer, not {re.escape(repr(value))}$"):
        check_integer("queue_size", value, least=1)


@pytest.mark.parametrize("value", [0, -1, -(10**30)])
def test_an_integer_out_of_range_is_a_value_error(value: int) -> None:
    with pytest.raises(ValueError, match=f"^queue_size must be at least 1, not {value}$"):
        check_integer("queue_size", value, least=1)


def test_bools_are_accepted() -> None:
    check_bools(strict=True, redirect=False)
    check_bools()


@pytest.mark.parametrize("value", [None, 0, 1, "yes"])
def test_a_value_that_is_not_a_bool_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match=f"^redirect must be a bool, not {re.escape(repr(value))}$"):
        check_bools(strict=True, redirect=value)
