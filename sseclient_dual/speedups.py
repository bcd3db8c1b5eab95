"""The optional compiled core: base classes for the classes that it makes faster, and the decorator `compiled`.

It comes with the distribution ``sseclient-dual-speedups``. The Python code that it replaces is the reference. This
code is used without that distribution, on PyPy and free-threaded builds, and if ``SSECLIENT_DUAL_SPEEDUPS=0`` is set.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

__version__ = "0.2.0"  # of both distributions: they must match

Metadata: TypeAlias = "tuple[str | None, str | None, int | None, str, str]"
"""Metadata of an event: type, id and retry (None if absent), last event ID, origin."""

ClassT = TypeVar("ClassT", bound=type)


def _load() -> Any:  # noqa: ANN401 - a module without types
    """Return the compiled core, or None to use the Python code."""
    is_free_threaded = "t" in getattr(sys, "abiflags", "")
    if os.environ.get("SSECLIENT_DUAL_SPEEDUPS") == "0" or sys.implementation.name != "cpython" or is_free_threaded:
        return None
    try:
        core = importlib.import_module("sseclient_dual_speedups")
    except ModuleNotFoundError:
        return None
    except ImportError as error:
        why = f"it cannot be imported ({error})"
    else:
        if core.version == __version__:
            return core
        why = f"it has version {core.version}, and sseclient-dual has {__version__}"
    warnings.warn(
        f"sseclient-dual-speedups is not used, because {why}: reinstall sseclient-dual[speedups], or set "
        "SSECLIENT_DUAL_SPEEDUPS=0",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


_core = _load()
speedups_active: bool = _core is not None
"""True if the compiled core is in use."""


def compiled(cls: ClassT) -> ClassT:
    """Remove the methods and properties of a class that its base in the compiled core has, too."""
    if _core is not None:
        for name in vars(getattr(_core, cls.__name__)):
            if name in vars(cls) and (not name.startswith("__") or name in {"__anext__", "__next__"}):
                delattr(cls, name)
    return cls


# The bases contain the attributes that the compiled core uses. A base without slots leaves them to the class.
if TYPE_CHECKING or _core is None:

    class EventBase:
        """Base of `SSEEvent`."""

        __slots__ = ("_data", "_meta")
        _data: str
        _meta: Metadata  # one tuple, which all events with only a data field share

    class ParserBase:
        """Base of `EventStreamParser`."""

        __slots__ = ()

    class ChunksBase:
        """Base of `Chunks`."""

        __slots__ = ()

    class HandoffBase:
        """Base of `Handoff`."""

        __slots__ = ()

    class ConnectionBase:
        """Base of `SSEConnection`."""

        __slots__ = ("_handoff", "_last", "_started")

else:
    EventBase = _core.SSEEvent
    ParserBase = _core.EventStreamParser
    ChunksBase = _core.Chunks
    HandoffBase = _core.Handoff
    ConnectionBase = _core.SSEConnection
    Coroutine.register(_core.NextEvent)
