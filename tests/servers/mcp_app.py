"""A Model Context Protocol server with one tool, over the SSE transport."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer

server = MCPServer("adder")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


app = server.sse_app()
