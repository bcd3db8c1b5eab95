"""Model Context Protocol servers with two tools, one for each transport over HTTP."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer


def adder() -> MCPServer:
    """Return a server whose tools add two numbers, and repeat a text."""
    server = MCPServer("adder")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    def repeat(text: str, times: int) -> str:
        """Repeat a text."""
        return text * times

    return server


app = adder().sse_app()
streamable = adder().streamable_http_app()  # answers requests with event streams
streamable_json = adder().streamable_http_app(json_response=True)
