"""Checks an endpoint that serves the official server-everything, unmodified, with the official Python client.

    python everything.py URL [PREFIX]
"""

import re
import sys

import anyio
import mcp_types as types
from harness import accept, answer, at_once, check, equal, head, main, same, until
from mcp import MCPError

TOOLS = [
    "echo", "get-annotated-message", "get-resource-links", "get-structured-content", "get-sum", "get-tiny-image",
    "toggle-simulated-logging", "toggle-subscriber-updates", "trigger-long-running-operation",
    # Only for clients that can be asked.
    "get-roots-list", "trigger-elicitation-request", "trigger-sampling-request",
]  # fmt: skip
PROMPTS = ["simple-prompt", "args-prompt", "completable-prompt", "resource-prompt"]
TEXT = "demo://resource/dynamic/text/1"


async def named(peer, wanted: str) -> None:
    """Waits for a tool that the server offers only once it knows its client."""
    for _ in range(250):
        if any(tool.name == peer.prefix + wanted for tool in await peer.list_all("tools")):
            return
        await anyio.sleep(0.02)
    raise AssertionError(f"{wanted} is never offered")


def roots(*names: str) -> types.ListRootsResult:
    own = [types.Root(uri=f"file:///own/{name}", name=name) for name in names]
    return types.ListRootsResult(roots=own)


@check("lists are complete", "session")
async def _(peer):
    peer.rooted = roots()
    await named(peer, "trigger-sampling-request")
    found = [tool.name.removeprefix(peer.prefix) for tool in await peer.list_all("tools")]
    equal([name for name in TOOLS if found.count(name) != 1], [])
    same([prompt.name for prompt in await peer.list_all("prompts")], [peer.prefix + name for name in PROMPTS], peer.prefix)
    templates = [entry.uri_template for entry in await peer.list_all("resource_templates")]
    assert "demo://resource/dynamic/text/{resourceId}" in templates, templates


@check("tools", "session")
async def _(peer):
    equal(await peer.text("echo", {"message": "Grüße 青 👋"}), "Echo: Grüße 青 👋")
    assert "42" in await peer.text("get-sum", {"a": 2, "b": 40})
    result = await peer.call("get-structured-content", {"location": "Chicago"})
    equal(result.structured_content, {"temperature": 36, "conditions": "Light rain / drizzle", "humidity": 82})
    image = (await peer.call("get-tiny-image")).content[1]
    equal((image.type, image.mime_type, head(image.data)), ("image", "image/png", b"\x89PNG"))
    wrong = await peer.call("get-sum", {"a": "two", "b": 40})
    assert wrong.is_error


@check("linked resources", "session")
async def _(peer):
    links = [block for block in (await peer.call("get-resource-links", {"count": 4})).content if block.type == "resource_link"]
    equal(len(links), 4)
    for link in links:
        equal(str((await peer.read(str(link.uri))).uri), str(link.uri))


@check("prompts and completion", "session")
async def _(peer):
    prompt = await peer.client.get_prompt(peer.prefix + "args-prompt", {"city": "Zürich", "state": "ZH"})
    equal(prompt.messages[0].content.text, "What's weather in Zürich, ZH?")
    ref = types.PromptReference(type="ref/prompt", name=peer.prefix + "completable-prompt")
    completed = await peer.client.complete(
        ref, {"name": "name", "value": "A"}, context_arguments={"department": "Engineering"}
    )
    equal(completed.completion.values, ["Alice"])


@check("progress", "session")
async def _(peer):
    steps = []

    async def keep(done, total, _message):
        steps.append((done, total))

    await peer.call("trigger-long-running-operation", {"duration": 0.5, "steps": 5}, progress_callback=keep)
    await anyio.sleep(0.1)
    equal(steps, [(float(step), 5.0) for step in range(1, 6)])


@check("roots, asked for outside any call", "session")
async def _(peer):
    peer.rooted = roots("grün")
    await named(peer, "get-roots-list")
    assert re.search(r"URI: file:///own/gr", await peer.text("get-roots-list"))


@check("sampling", "session")
async def _(peer):
    peer.rooted, peer.sampled = roots(), answer("Blau")
    await named(peer, "trigger-sampling-request")
    assert '"text": "Blau"' in await peer.text("trigger-sampling-request", {"prompt": "Which?", "maxTokens": 7})
    equal(peer.asked[0]["maxTokens"], 7)


@check("elicitation", "session")
async def _(peer):
    peer.rooted, peer.elicited = roots(), accept(name="Jürgen", integer=7)
    await named(peer, "trigger-elicitation-request")
    said = (await peer.call("trigger-elicitation-request")).content[1].text
    assert "- Name: Jürgen" in said, said


@check("logging and its level", "session")
async def _(peer):
    await peer.client.set_logging_level("debug")
    await peer.call("toggle-simulated-logging")
    await until("a message", lambda: any("message" in str(log.data).lower() for log in peer.logs))
    await peer.call("toggle-simulated-logging")


@check("subscriptions", "session")
async def _(peer):
    async with peer.watching(resources=(TEXT,)):
        await peer.call("toggle-subscriber-updates")
        await until("the update", lambda: TEXT in peer.updated)
        await peer.call("toggle-subscriber-updates")


@check("errors keep their code", "session")
async def _(peer):
    try:
        await peer.client.get_prompt(peer.prefix + "args-prompt", {})
    except MCPError as error:
        equal(error.code, -32602)
    else:
        raise AssertionError("no error")


@check("two clients apart: sampling", "session", peers=2)
async def _(*peers):
    async def work(peer, index):
        peer.rooted, peer.sampled = roots(), answer(f"from {index}")
        await named(peer, "trigger-sampling-request")
        for _ in range(5):
            said = await peer.text("trigger-sampling-request", {"prompt": "?", "maxTokens": 9})
            assert f"from {index}" in said, said

    await at_once(work, *peers)


if __name__ == "__main__":
    sys.exit(anyio.run(main))
