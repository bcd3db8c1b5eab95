"""The command line: `main` is the command ``sseclient-dual``."""

from .command import main

__all__ = ["main"]
