"""Exceptions: the class tree, messages and attributes, pickling and copying."""

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


# --- the class tree -----------------------------------------------------------------------------------------


def test_each_exception_has_its_documented_base() -> None:
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
def test_each_exception_is_in_the_modules_docstring(error: type[SSEError]) -> None:
    assert errors.__doc__ is not None
    assert re.search(rf"\b{error.__name__}\b", errors.__doc__)
    assert inspect.getdoc(error)


@pytest.mark.parametrize("builtin", [OSError, ValueError, RuntimeError, TimeoutError])
def test_no_exception_derives_from_a_builtin_error(builtin: type[Exception]) -> None:
    assert not any(issubclass(error, builtin) for error in TREE)


# --- messages and attributes --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_str_returns_only_the_message(error: SSEError) -> None:
    assert str(error) == "what happened"
    assert error.args == ("what happened",)


def test_a_connection_error_may_be_final() -> None:
    assert SSEConnectionError("x").final is False
    assert SSEConnectionError("x", final=True).final is True
    assert SSEEventTooLargeError("x").final is True
    assert SSEParsingError("x").final is False
    with pytest.raises(TypeError):
        SSEConnectionError("x", True)  # type: ignore[call-arg]


def errors_with_remedy() -> list[SSEConnectionError]:
    return [
        SSEConnectionError("what happened", remedy="what to do"),
        SSEStatusError("what happened", status=404, remedy="what to do"),
        SSEParsingError("what happened", "<html>", remedy="what to do"),
        SSEEventTooLargeError("what happened", remedy="what to do"),
    ]


@pytest.mark.parametrize("error", errors_with_remedy(), ids=repr)
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
def test_an_error_stores_the_response(kind: type[SSEStatusError | SSEContentTypeError]) -> None:
    error = kind("refused", **RESPONSE)
    assert {name: getattr(error, name) for name in RESPONSE} == RESPONSE
    assert error.json() == {"error": "no token"}


@pytest.mark.parametrize("kind", [SSEStatusError, SSEContentTypeError])
def test_only_the_status_of_a_response_is_required(kind: type[SSEStatusError | SSEContentTypeError]) -> None:
    error = kind("refused", status=500)
    assert (error.status, error.reason, error.headers, error.url, error.body) == (500, "", {}, "", b"")
    assert error.final is False
    with pytest.raises(TypeError, match="status"):
        kind("refused")  # type: ignore[call-arg]


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"cut": "sho', b"\xff\xfe\xfd", b'"\xe9"'])
def test_json_of_an_invalid_body_raises_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        SSEStatusError("refused", status=500, body=body).json()


def test_a_parsing_error_stores_the_line() -> None:
    assert SSEParsingError("x", "<html>").line == "<html>"
    assert SSEParsingError("x").line == ""


# --- pickling and copying -----------------------------------------------------------------------------------


def check_copy(copied: BaseException, error: SSEError) -> None:
    assert copied is not error
    assert type(copied) is type(error)
    assert copied.args == error.args
    assert vars(copied) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_exception_can_be_pickled(error: SSEError, protocol: int) -> None:
    check_copy(pickle.loads(pickle.dumps(error, protocol)), error)  # noqa: S301 - pickled right here


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_each_exception_can_be_copied(error: SSEError) -> None:
    check_copy(copy.copy(error), error)
    check_copy(copy.deepcopy(error), error)


class OwnError(SSEStatusError):
    """A subclass defined by a user, with other arguments."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}", status=code)
        self.code = code


def test_a_subclass_can_be_pickled() -> None:
    error = OwnError(418)
    check_copy(pickle.loads(pickle.dumps(error)), error)  # noqa: S301 - pickled right here


def test_header_names_ignore_case_after_pickling() -> None:
    error = SSEStatusError("refused", status=503, headers=HTTPHeaderDict({"Retry-After": "5"}))
    assert pickle.loads(pickle.dumps(error)).headers["retry-after"] == "5"  # noqa: S301 - pickled right here


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes need Python 3.11")
def test_notes_are_pickled() -> None:
    error = SSEStatusError("refused", status=503)
    getattr(error, "add_note")("try later")  # noqa: B009 - unknown to the type checker's version
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["try later"]  # noqa: S301 - pickled right here


def test_changing_a_copy_does_not_change_the_original() -> None:
    error = SSEStatusError("refused", status=503)
    copied = copy.copy(error)
    copied.status = 500
    assert error.status == 503
