"""`Closing`: what `close()` returns; and `Closable`: the blocks of both APIs that call it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from typing_extensions import Self

    from .waiting import Latch


class Closing:
    """A close in progress; awaiting it waits until it is complete."""

    def __init__(self, *parts: Latch | Closing) -> None:
        self._parts = parts

    def __await__(self) -> Generator[Any, None, None]:
        for part in self._parts:
            yield from part.__await__()


class Closable(ABC):
    """A context manager in both APIs: leaving the block closes the object."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> Closing:
        """Close without blocking; await the returned object to wait for the end."""

    async def aclose(self) -> None:
        """Close, and wait until all resources are released; allows `contextlib.aclosing`."""
        await self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
