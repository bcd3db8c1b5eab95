"""One upstream stream for many processes and machines, over Redis or Valkey; needs the extra ``redis``."""

from .connections import Client, Server
from .entries import Kind, StreamEntry

__all__ = ["Client", "Kind", "Server", "StreamEntry"]
