"""Model Context Protocol servers with one tool, one for each transport over HTTP."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer


def adder() -> MCPServer:
    """Return a server whose tool adds two numbers."""
    server = MCPServer("adder")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    return server


app = adder().sse_app()
streamable = adder().streamable_http_app()  # answers requests with event streams
streamable_json = adder().streamable_http_app(json_response=True)
