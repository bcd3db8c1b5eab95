"""The threads of the package: one that reads all open streams of the process, and workers for calls that block.

A `Routine` is a generator that yields its waits: `Wait` for a socket, a timeout or a wake-up, `BLOCKING` for a thread
that may block. The hub resumes it when its wait is over. So code that waits reads from top to bottom, and thousands
of waits need one thread.

Rules for the generators: between waits they must be quick, because all streams wait meanwhile; on the hub's thread
they must not call code of the user; and a wake-up is a hint, so they check their conditions again.
"""

from .hub import Hub, current
from .routine import BLOCKING, Routine, Wait, Waits

__all__ = ["BLOCKING", "Hub", "Routine", "Wait", "Waits", "current"]
