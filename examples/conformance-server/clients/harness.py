"""What runs the checks of the Python client, and what the checks have in common."""

from __future__ import annotations

import base64
import json
import logging
import sys
import warnings
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import mcp_types as types
from mcp import Client
from mcp.shared.exceptions import MCPDeprecationWarning

# The checks are about what clients still use.
warnings.simplefilter("ignore", MCPDeprecationWarning)
# The client warns of tools that are not on the first page of the list, and of a session ended
# with status 202.
logging.disable(logging.WARNING)

# What the fixture offers, and values that are easily damaged.
expected = json.loads(Path(__file__).with_name("expected.json").read_text("utf-8"))
# Discovery falls back to a session where it must; the first check notices.
ERAS = {"session": "legacy", "stateless": "auto"}


class Peer:
    """One client, and what reached it."""

    def __init__(self, url: str, era: str, prefix: str) -> None:
        self.url, self.era, self.prefix = url, era, prefix
        self.logs: list[types.LoggingMessageNotificationParams] = []
        self.updated: list[str] = []
        self.changed: list[str] = []
        self.tokens: list[object] = []
        self.asked: list[dict] = []
        self.sampled = self.elicited = self.rooted = None
        self.client: Client

    @asynccontextmanager
    async def connected(self):
        async with Client(
            self.url,
            mode=ERAS[self.era],
            sampling_callback=self._sampling,
            elicitation_callback=self._elicitation,
            list_roots_callback=self._roots,
            logging_callback=self._log,
            message_handler=self._notice,
            read_timeout_seconds=30,
        ) as self.client:
            yield self

    async def _sampling(self, _context, params):
        self.asked.append(params.model_dump(by_alias=True, exclude_none=True))
        return await self.sampled() if callable(self.sampled) else self.sampled

    async def _elicitation(self, _context, params):
        self.asked.append(params.model_dump(by_alias=True, exclude_none=True))
        return self.elicited(params) if callable(self.elicited) else self.elicited

    async def _roots(self, _context):
        return self.rooted

    async def _log(self, params):
        self.logs.append(params)

    async def _notice(self, message):
        match message:
            case types.ResourceUpdatedNotification():
                self.updated.append(str(message.params.uri))
            case types.ToolListChangedNotification():
                self.changed.append("tools")
            case types.PromptListChangedNotification():
                self.changed.append("prompts")
            case types.ResourceListChangedNotification():
                self.changed.append("resources")
            case types.ProgressNotification():
                self.tokens.append(message.params.progress_token)

    async def call(self, name: str, arguments: dict | None = None, **options):
        return await self.client.call_tool(self.prefix + name, arguments or {}, **options)

    async def text(self, name: str, arguments: dict | None = None, **options) -> str:
        result = await self.call(name, arguments, **options)
        assert not result.is_error, result.content
        assert isinstance(result.content[0], types.TextContent)
        return result.content[0].text

    async def list_all(self, kind: str) -> list:
        entries, cursor = [], None
        while True:
            page = await getattr(self.client, f"list_{kind}")(cursor=cursor)
            entries += getattr(page, kind)
            cursor = page.next_cursor
            if cursor is None:
                return entries

    async def read(self, uri: str):
        return (await self.client.read_resource(uri)).contents[0]

    @asynccontextmanager
    async def watching(self, *, resources: tuple[str, ...] = (), lists: bool = False):
        """Asks for change notifications while it is open."""
        if self.era == "session":
            for uri in resources:
                await self.client.subscribe_resource(uri)
            yield
            for uri in resources:
                await self.client.unsubscribe_resource(uri)
            return
        async with self.client.listen(
            tools_list_changed=lists,
            prompts_list_changed=lists,
            resources_list_changed=lists,
            resource_subscriptions=resources,
        ):
            # rmcp acknowledges a subscription just before its handler takes note of it.
            await anyio.sleep(0.1)
            yield


async def until(what: str, condition) -> None:
    for _ in range(250):
        if condition():
            return
        await anyio.sleep(0.02)
    raise AssertionError(f"never happened: {what}")


def equal(found, wanted) -> None:
    assert found == wanted, f"{found!r} is not {wanted!r}"


def head(data: str) -> bytes:
    return base64.b64decode(data)[:4]


def same(found: list[str], wanted: list[str], prefix: str = "") -> None:
    for name in wanted:
        assert found.count(name) == 1, f"{name} is not there once"
    equal([name for name in found if prefix and name.startswith(prefix) and name not in wanted], [])


def answer(text: str) -> types.CreateMessageResult:
    content = types.TextContent(type="text", text=text)
    return types.CreateMessageResult(role="assistant", model="m", content=content)


def accept(**content) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content=content)


CHECKS: list = []


def check(name: str, *eras: str, peers: int = 1):
    def add(function):
        CHECKS.append((name, eras or tuple(ERAS), peers, function))
        return function

    return add


async def at_once(work, *peers) -> None:
    async with anyio.create_task_group() as group:
        for index, peer in enumerate(peers):
            group.start_soon(work, peer, index)


def cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:600]


async def attempt(function, peers) -> str | None:
    """Runs one check; returns why it failed."""
    try:
        with anyio.fail_after(30):
            if len(peers) == 1:
                async with peers[0].connected() as one:
                    await function(one)
            else:
                async with peers[0].connected() as one, peers[1].connected() as two:
                    await function(one, two)
    except Exception as error:
        return cause(error)
    return None


async def main() -> int:
    if len(sys.argv) not in (2, 3):
        print("usage: python.py URL [PREFIX]", file=sys.stderr)
        return 2
    url, prefix = sys.argv[1], "".join(sys.argv[2:])
    passed = failed = 0
    for era in ERAS:
        for name, eras, count, function in CHECKS:
            if era not in eras:
                continue
            why = await attempt(function, [Peer(url, era, prefix) for _ in range(count)])
            passed, failed = passed + (why is None), failed + (why is not None)
            print(f"pass  {era}: {name}" if why is None else f"FAIL  {era}: {name}: {why}")
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 else 1
