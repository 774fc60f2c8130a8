"""Drives the browser tools with the official Python client.

    python python.py URL TOKEN SHOP
"""

import asyncio
import base64
import re
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main(url: str, token: str, shop: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        async with Client(streamable_http_client(url, http_client=http), read_timeout_seconds=60) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert {"browser_create_session", "browser_navigate", "browser_interact", "browser_screenshot",
                    "browser_close_session"} <= names, names
            made = await client.call_tool("browser_create_session", {"mode": "headless", "viewport": {"width": 640, "height": 480}})
            session = {"session_id": made.structured_content["session_id"]}
            page = await client.call_tool("browser_navigate", {**session, "url": shop})
            field = re.search(r'textbox "Name" \[ref=(\w+)\]', page.content[0].text).group(1)
            await client.call_tool("browser_interact", {**session, "action": "type", "selector": field, "value": "Ada"})
            sent = await client.call_tool("browser_interact", {**session, "action": "click", "selector": "text=Order"})
            assert "Thank you, Ada" in sent.content[0].text, sent
            shot = await client.call_tool("browser_screenshot", {**session, "full_page": True})
            assert base64.b64decode(shot.content[0].data).startswith(b"\x89PNG")
            refused = await client.call_tool("browser_navigate", {**session, "url": "http://169.254.169.254/"})
            assert refused.is_error and "not among" in refused.content[0].text, refused
            closed = await client.call_tool("browser_close_session", session)
            assert closed.content[0].text == "closed", closed
    print("python ok")


asyncio.run(main(*sys.argv[1:]))
