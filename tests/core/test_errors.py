"""Proves the tree of exceptions, what each one tells, and that it survives a journey to another process."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import sys
from typing import Any

import pytest
from urllib3 import HTTPHeaderDict

from sseclient_dual import errors
from sseclient_dual.errors import (
    SSEClosedError,
    SSEConnectionError,
    SSEContentTypeError,
    SSEError,
    SSEEventTooLargeError,
    SSEParsingError,
    SSEStatusError,
)

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
TREE = {
    SSEError: Exception,
    SSEConnectionError: SSEError,
    SSEStatusError: SSEConnectionError,
    SSEContentTypeError: SSEConnectionError,
    SSEParsingError: SSEConnectionError,
    SSEEventTooLargeError: SSEConnectionError,
    SSEClosedError: SSEError,
}
RESPONSE: dict[str, Any] = {
    "status": 401,
    "reason": "Unauthorized",
    "headers": {"WWW-Authenticate": "Bearer"},
    "url": "https://example.com/stream",
    "body": b'{"error": "no token"}',
}
EXAMPLES = [
    SSEError("what happened"),
    SSEConnectionError("what happened"),
    SSEConnectionError("what happened", final=True),
    SSEStatusError("what happened", **RESPONSE),
    SSEStatusError("what happened", **RESPONSE, final=True),
    SSEContentTypeError("what happened", status=200, headers=HTTPHeaderDict({"Content-Type": "text/html"})),
    SSEParsingError("what happened", "<html>"),
    SSEEventTooLargeError("what happened"),
    SSEClosedError("what happened"),
]


# --- the tree -----------------------------------------------------------------------------------------------


def test_the_tree_is_that_of_the_design() -> None:
    for error, parent in TREE.items():
        assert issubclass(error, parent)
        public = [base for base in error.__mro__[1:] if not base.__name__.startswith("_")]
        assert public[0] is parent


def test_there_is_no_other_public_exception() -> None:
    found = {
        value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException) and not name.startswith("_")
    }
    assert found == set(TREE)


@pytest.mark.parametrize("error", TREE)
def test_each_is_told_in_the_modules_tree(error: type[SSEError]) -> None:
    assert errors.__doc__ is not None
    assert re.search(rf"\b{error.__name__}\b", errors.__doc__)
    assert inspect.getdoc(error)


@pytest.mark.parametrize("builtin", [OSError, ValueError, RuntimeError, TimeoutError])
def test_none_is_taken_for_a_builtin_one(builtin: type[Exception]) -> None:
    assert not any(issubclass(error, builtin) for error in TREE)


# --- what each one tells ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_the_message_is_all_that_is_printed(error: SSEError) -> None:
    assert str(error) == "what happened"
    assert error.args == ("what happened",)


def test_a_connection_error_may_be_final() -> None:
    assert SSEConnectionError("x").final is False
    assert SSEConnectionError("x", final=True).final is True
    assert SSEEventTooLargeError("x").final is True
    assert SSEParsingError("x").final is False
    with pytest.raises(TypeError):
        SSEConnectionError("x", True)  # type: ignore[call-arg]


def remedied_errors() -> list[SSEConnectionError]:
    return [
        SSEConnectionError("what happened", remedy="what to do"),
        SSEStatusError("what happened", status=404, remedy="what to do"),
        SSEParsingError("what happened", "<html>", remedy="what to do"),
        SSEEventTooLargeError("what happened", remedy="what to do"),
    ]


@pytest.mark.parametrize("error", remedied_errors(), ids=repr)
def test_a_remedy_ends_the_message_and_can_be_reworded(error: SSEConnectionError) -> None:
    for copied in (error, pickle.loads(pickle.dumps(error))):  # noqa: S301
        assert str(copied) == "what happened; what to do"
        assert copied._reworded({}) == str(copied)
        assert copied._reworded({"what to do": "use --option"}) == "what happened; use --option"
        assert copied._reworded({"what to do": ""}) == "what happened"


@pytest.mark.parametrize("remedy", errors.Remedy)
def test_each_remedy_is_part_of_the_message(remedy: errors.Remedy) -> None:
    assert str(SSEConnectionError("what happened", remedy=remedy)) == f"what happened; {remedy.value}"


@pytest.mark.parametrize("kind", [SSEStatusError, SSEContentTypeError])
def test_an_error_of_a_response_keeps_it(kind: type[SSEStatusError | SSEContentTypeError]) -> None:
    error = kind("refused", **RESPONSE)
    assert {name: getattr(error, name) for name in RESPONSE} == RESPONSE
    assert error.json() == {"error": "no token"}


@pytest.mark.parametrize("kind", [SSEStatusError, SSEContentTypeError])
def test_only_the_status_of_a_response_must_be_told(kind: type[SSEStatusError | SSEContentTypeError]) -> None:
    error = kind("refused", status=500)
    assert (error.status, error.reason, error.headers, error.url, error.body) == (500, "", {}, "", b"")
    assert error.final is False
    with pytest.raises(TypeError, match="status"):
        kind("refused")  # type: ignore[call-arg]


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"cut": "sho', b"\xff\xfe\xfd", b'"\xe9"'])
def test_a_body_that_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        SSEStatusError("refused", status=500, body=body).json()


def test_a_parsing_error_keeps_the_line() -> None:
    assert SSEParsingError("x", "<html>").line == "<html>"
    assert SSEParsingError("x").line == ""


# --- to another process and back ----------------------------------------------------------------------------


def check_twin(twin: BaseException, error: SSEError) -> None:
    assert twin is not error
    assert type(twin) is type(error)
    assert twin.args == error.args
    assert vars(twin) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_pickles_with_all_it_tells(error: SSEError, protocol: int) -> None:
    check_twin(pickle.loads(pickle.dumps(error, protocol)), error)  # noqa: S301 - pickled right here


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_each_copies(error: SSEError) -> None:
    check_twin(copy.copy(error), error)
    check_twin(copy.deepcopy(error), error)


class OwnError(SSEStatusError):
    """One that a user derives, with arguments of another kind."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}", status=code)
        self.code = code


def test_a_derived_one_pickles_too() -> None:
    error = OwnError(418)
    check_twin(pickle.loads(pickle.dumps(error)), error)  # noqa: S301 - pickled right here


def test_look_ups_in_headers_still_ignore_case_after_the_journey() -> None:
    error = SSEStatusError("refused", status=503, headers=HTTPHeaderDict({"Retry-After": "5"}))
    assert pickle.loads(pickle.dumps(error)).headers["retry-after"] == "5"  # noqa: S301 - pickled right here


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes came with 3.11")
def test_notes_travel_too() -> None:
    error = SSEStatusError("refused", status=503)
    getattr(error, "add_note")("try later")  # noqa: B009 - unknown to the type checker's version
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["try later"]  # noqa: S301 - pickled right here


def test_a_copy_does_not_share_what_is_changed_later() -> None:
    error = SSEStatusError("refused", status=503)
    twin = copy.copy(error)
    twin.status = 500
    assert error.status == 503
