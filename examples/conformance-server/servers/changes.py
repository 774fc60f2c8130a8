"""A server on the official Python SDK that changes its lists within a call.

    python changes.py [PORT]

`there_and_back` adds a tool and removes it again and announces both; `toggle` adds it, or removes it, and announces that.
Serves on standard input and output, or over HTTP where a port is given.
"""

import sys

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("changes")
there = False


def extra() -> str:
    """Comes and goes."""
    return "extra"


async def announce(context: Context) -> None:
    # Sessions are told on their stream, clients without one on their subscription.
    if context.protocol_version >= "2026-07-28":
        await context.notify_tools_changed()
    else:
        await context.session.send_tool_list_changed()


@server.tool()
async def there_and_back(context: Context) -> str:
    server.add_tool(extra, name="extra")
    await announce(context)
    server.remove_tool("extra")
    await announce(context)
    return "done"


@server.tool()
async def toggle(context: Context) -> str:
    global there
    there = not there
    if there:
        server.add_tool(extra, name="extra")
    else:
        server.remove_tool("extra")
    await announce(context)
    return "on" if there else "off"


if sys.argv[1:]:
    server.run("streamable-http", port=int(sys.argv[1]))
else:
    server.run("stdio")
