"""An action at each instruction or line of the hand-off's code, one run for each."""

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
    reason="3.12.1 crashes when one thread traces instructions, and another lines, of the same code",
)


class Interruption:
    """Does something once, at the nth step that this thread makes in the hand-off's code, before that step.

    A step is an instruction, which is finer than a signal handler or finalizer can strike, or a line. Not counted
    among the lines are the ways out of `with` blocks, since the interpreter looks for signals at calls and jumps
    only, and there is none between the block and the release of its lock.
    """

    def __init__(self, at: int, act: Callable[[], object], unit: str, sources: tuple[str, ...] = SOURCES) -> None:
        self.where = "nowhere"
        self.happened = False
        self._left = at
        self._act = act
        self._unit = unit
        self._blocks = {source: blocks(source) for source in sources}
        self._lines: dict[FrameType, int] = {}

    def __enter__(self) -> Self:
        self._previous = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # or else 3.12 does not look whether frames want it
        sys.settrace(self._trace)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._previous)
        self._lines.clear()

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in self._blocks:
            return None
        frame.f_trace_opcodes = self._unit == "opcode"
        if event == self._unit and not (event == "line" and self._leaves_block(frame)):
            if not self._left and not self.happened:
                self.happened = True
                self.where = f"{frame.f_code.co_name}, line {frame.f_lineno}"
                self._act()
            self._left -= 1
        return self._trace

    def _leaves_block(self, frame: FrameType) -> bool:
        before = self._lines.get(frame, 0)
        self._lines[frame] = frame.f_lineno
        return before in self._blocks[frame.f_code.co_filename].get(frame.f_lineno, ())


@lru_cache
def blocks(source: str) -> dict[int, range]:
    """Return the lines of each `with` block in a file by the line of its `with`."""
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
        return "turned away" if "another consumer" in str(error) else error
    except Exception as error:  # noqa: BLE001 - shown by the assertion
        return error


def is_foreseen(outcome: object) -> bool:
    """Tell whether a call that a close interrupted may end like this; waiting for ever it may not."""
    return outcome is None or isinstance(outcome, (int, str))


torn: list[KeyboardInterrupt] = []  # the last one: interactive sessions keep its traceback, with its frames, too


def interrupt() -> NoReturn:
    torn[:] = [KeyboardInterrupt()]
    raise torn[0]
