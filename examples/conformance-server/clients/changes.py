"""Checks that the official Python client is told of what a server on the official SDK announces.

    python changes.py URL [PREFIX]

The server is servers/changes.py.
"""

import sys

import anyio
from harness import check, equal, main, until


@check("a list that is changed and changed back within one call is announced")
async def _(peer):
    before = [tool.name for tool in await peer.list_all("tools")]
    async with peer.watching(lists=True):
        for _ in range(3):
            peer.changed.clear()
            equal(await peer.text("there_and_back"), "done")
            await until("tools are announced", lambda: "tools" in peer.changed)
            equal([tool.name for tool in await peer.list_all("tools")], before)


@check("a list that is changed is announced and listed")
async def _(peer):
    async with peer.watching(lists=True):
        for _ in range(4):
            peer.changed.clear()
            there = await peer.text("toggle") == "on"
            await until("tools are announced", lambda: "tools" in peer.changed)
            names = [tool.name for tool in await peer.list_all("tools")]
            equal(f"{peer.prefix}extra" in names, there)


sys.exit(anyio.run(main))
