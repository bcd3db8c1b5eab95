"""Interruptions of the hand-off's code at each instruction, line or call, with one run for each."""

from __future__ import annotations

import ast
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from sseclient_dual import handoff, waiting
from sseclient_dual.handoff import Finished

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from typing_extensions import Self


SOURCES = (handoff.__file__, waiting.__file__)
traces_instructions = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12) and sys.gettrace() is not None,
    reason="Python 3.12.1 crashes when two threads trace the same code, one by instruction and one by line",
)


class Interruption:
    """Calls `act` once, at step number `at` (from 0) of this thread in `sources`.

    The units of steps are:

    - ``"opcode"``: before each instruction. Real signal handlers and finalizers run at fewer points.
    - ``"line"``: before each line. The exits of `with` blocks do not count: Python checks for signals only at
      calls and jumps, and there are none between the end of a block and the release of its lock.
    - ``"call"``: at the start of each function, and after each call of a C function, as part of the call. The
      interpreter checks for signals at these points, and at jumps back in loops.
    """

    def __init__(self, at: int, act: Callable[[], object], unit: str, sources: tuple[str, ...] = SOURCES) -> None:
        self.where = "not interrupted"
        self.happened = False
        self._left = at
        self._act = act
        self._unit = unit
        self._blocks = {source: blocks(source) for source in sources}
        self._lines: dict[FrameType, int] = {}

    def __enter__(self) -> Self:
        self._previous = sys.gettrace()
        if self._unit == "call":
            sys.settrace(None)  # coverage would lose track of the calls that end with an interruption
            sys.setprofile(self._profile)
            return self
        sys._getframe().f_trace_opcodes = True  # otherwise Python 3.12 ignores this setting of other frames
        sys.settrace(self._trace)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        sys.settrace(self._previous)
        self._lines.clear()

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in self._blocks:
            return None
        frame.f_trace_opcodes = self._unit == "opcode"
        if event == self._unit and not (event == "line" and self._leaves_block(frame)):
            self._step(frame)
        return self._trace

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code.co_filename in self._blocks and event in {"call", "c_return"}:
            self._step(frame)

    def _step(self, frame: FrameType) -> None:
        self._left -= 1
        if self._left < 0 and not self.happened:
            self.happened = True
            self.where = f"{frame.f_code.co_name}, line {frame.f_lineno}"
            self._act()

    def _leaves_block(self, frame: FrameType) -> bool:
        before = self._lines.get(frame, 0)
        self._lines[frame] = frame.f_lineno
        return before in self._blocks[frame.f_code.co_filename].get(frame.f_lineno, ())


@lru_cache
def blocks(source: str) -> dict[int, range]:
    """Return a map from the line of each `with` statement in a file to the lines of its block."""
    tree = ast.parse(Path(source).read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
    return {node.lineno: range(node.lineno + 1, (node.end_lineno or 0) + 1) for node in nodes}


def outcome_of(call: Callable[[], object]) -> object:
    try:
        return call()
    except Finished:
        return "finished"
    except TimeoutError:
        return "timed out"
    except RuntimeError as error:
        return "rejected" if "another consumer" in str(error) else error
    except Exception as error:  # noqa: BLE001 - shown by the assertion
        return error


def is_expected(outcome: object) -> bool:
    """Return True if a call may end with this outcome when a close interrupts it."""
    return outcome is None or isinstance(outcome, (int, str))


kept_error: list[KeyboardInterrupt] = []  # keeps its traceback and frames alive, as an interactive session does


def interrupt() -> NoReturn:
    kept_error[:] = [KeyboardInterrupt()]
    raise kept_error[0]
