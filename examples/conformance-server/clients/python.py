"""Checks an endpoint that serves the conformance fixture with the official Python client.

    python python.py URL [PREFIX]

Every check runs on a connection of its own, once for each era: sessions, and stateless requests.
"""

import json
import os
import re
import sys
import uuid

import anyio
import mcp_types as types
from harness import accept, answer, at_once, check, equal, expected, head, main, same, until
from mcp import MCPError

WATCHED = "test://watched-resource"
LEVELS = expected["levels"]
AWKWARD = expected["awkward"]


@check("the era is the one asked for")
async def _(peer):
    wanted = ["2025-06-18", "2025-11-25"] if peer.era == "session" else ["2026-07-28"]
    assert peer.client.protocol_version in wanted, peer.client.protocol_version


@check("capabilities are declared")
async def _(peer):
    declared = peer.client.server_capabilities
    assert declared.completions is not None and declared.logging is not None
    assert declared.tools.list_changed and declared.prompts.list_changed
    assert declared.resources.list_changed and declared.resources.subscribe


@check("lists are complete over all pages")
async def _(peer):
    named = lambda names: [peer.prefix + name for name in names]
    same([tool.name for tool in await peer.list_all("tools")], named(expected["tools"]), peer.prefix)
    same([prompt.name for prompt in await peer.list_all("prompts")], named(expected["prompts"]), peer.prefix)
    same([str(resource.uri) for resource in await peer.list_all("resources")], expected["resources"])
    same([entry.uri_template for entry in await peer.list_all("resource_templates")], expected["templates"])


@check("lists keep what entries say")
async def _(peer):
    tools = {tool.name.removeprefix(peer.prefix): tool for tool in await peer.list_all("tools")}
    equal(tools["echo"].description, "Returns the text it is given")
    hints = tools["echo"].annotations
    equal((hints.read_only_hint, hints.idempotent_hint, hints.open_world_hint), (True, True, False))
    equal(tools["structured_weather"].title, "Weather")
    equal(tools["structured_weather"].output_schema["properties"]["celsius"]["type"], "number")
    wide = tools["json_schema_2020_12_tool"].input_schema
    equal(wide["$defs"]["address"]["$anchor"], "addressDef")
    equal(wide["else"], {"required": ["email"]})
    text = next(entry for entry in await peer.list_all("resources") if entry.name == "static-text")
    equal((text.title, text.size, text.mime_type), ("Static text", 48, "text/plain"))


@check("tools: text")
async def _(peer):
    equal(await peer.text("test_simple_text"), "This is a simple text response for testing.")


@check("tools: image, audio, embedded resource")
async def _(peer):
    image = (await peer.call("test_image_content")).content[0]
    equal((image.type, image.mime_type, head(image.data)), ("image", "image/png", b"\x89PNG"))
    audio = (await peer.call("test_audio_content")).content[0]
    equal((audio.type, audio.mime_type, head(audio.data)), ("audio", "audio/wav", b"RIFF"))
    resource = (await peer.call("test_embedded_resource")).content[0].resource
    equal(str(resource.uri), "test://embedded-resource")
    equal(resource.text, "This is an embedded resource content.")
    mixed = (await peer.call("test_multiple_content_types")).content
    equal([block.type for block in mixed], ["text", "image", "resource"])


@check("tools: structured output")
async def _(peer):
    weather = {"city": "Zürich", "celsius": 21.5, "rain_hours": [3, 4, 17]}
    result = await peer.call("structured_weather", {"city": "Zürich"})
    equal(result.structured_content, weather)
    equal(json.loads(result.content[0].text), weather)


@check("tools: error in the result")
async def _(peer):
    result = await peer.call("test_error_handling")
    assert result.is_error and "intentionally" in result.content[0].text


@check("tools: unicode survives")
async def _(peer):
    equal(await peer.text("echo", {"text": AWKWARD}), AWKWARD)


@check("tools: big integers and odd values survive")
async def _(peer):
    value = [2**53 - 1, 1 - 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 0.1, 1e-7, None, "", [], {}]
    result = await peer.call("echo_json", {"value": value})
    equal(result.structured_content, {"value": value})
    found = [type(item) for item in result.structured_content["value"]]
    equal(found, [type(item) for item in value])


@check("tools: a result of 900 KB")
async def _(peer):
    long = await peer.text("big_text", {"bytes": 900_000})
    assert long == ("abcdefghijklmnopqrstuvwxyz" * 34616)[:900_000], len(long)


@check("tools: a linked resource can be read")
async def _(peer):
    link = (await peer.call("resource_link")).content[0]
    equal(link.type, "resource_link")
    equal((await peer.read(str(link.uri))).text, "This is the content of the static text resource.")


@check("errors keep code, message and data")
async def _(peer):
    data = {"why": ["no", 1], "deep": {"ü": None}}
    for code in (4711, -32050, -1):
        try:
            await peer.call("protocol_error", {"code": code, "message": "nö", "data": data})
        except MCPError as error:
            equal((error.code, error.message, error.data), (code, "nö", data))
        else:
            raise AssertionError("no error")


@check("errors: unknown tools and resources are refused")
async def _(peer):
    try:
        await peer.call("no_such_tool")
    except MCPError as error:
        equal(error.code, -32602)
    else:
        raise AssertionError("no error for the tool")
    uri = "test://no-such-resource"
    try:
        await peer.read(uri)
    except MCPError as error:
        assert error.code in (-32602, -32002), error
        equal(error.data, {"uri": uri})
    else:
        raise AssertionError("no error for the resource")


@check("metadata passes both ways")
async def _(peer):
    own = {"trace": [1, "ü", {"deep": True}]}
    result = await peer.call("report_meta", meta={"example.com/own": own})
    equal(json.loads(result.content[0].text)["example.com/own"], own)
    equal(result.meta["example.com/answer"], {"kept": [1, 2, 3]})


@check("the server sees what the client can do")
async def _(peer):
    seen = (await peer.call("report_client")).structured_content["capabilities"]
    assert "sampling" in seen and "roots" in seen and "elicitation" in seen, seen


@check("progress: in order, under one token, and before the result")
async def _(peer):
    steps = []

    async def keep(done, total, message):
        steps.append((done, total, message))

    result = await peer.text("progress_steps", {"steps": 40, "label": "ü"}, progress_callback=keep)
    equal(result, "ü done")
    # The client runs each callback as a task of its own: the last ones may still wait their turn.
    await anyio.sleep(0.1)
    equal(steps, [(float(step), 40.0, f"ü {step}") for step in range(1, 41)])
    equal((len(peer.tokens), len(set(peer.tokens))), (40, 1))


@check("cancellation reaches the server")
async def _(peer):
    key = str(uuid.uuid4())

    async def wait_for(wanted):
        for _ in range(250):
            if await peer.text("cancellation_record", {"key": key}) == wanted:
                return
            await anyio.sleep(0.02)
        raise AssertionError(f"the call never was {wanted}")

    async with anyio.create_task_group() as group:
        group.start_soon(peer.call, "slow_cancellable", {"key": key, "milliseconds": 30_000})
        await wait_for("running")
        group.cancel_scope.cancel()
    await wait_for("cancelled")


@check("sampling")
async def _(peer):
    peer.sampled = answer("Blau, 青")
    equal(await peer.text("test_sampling", {"prompt": "Which?"}), "LLM response: Blau, 青")
    equal((peer.asked[0]["messages"][0]["content"]["text"], peer.asked[0]["maxTokens"]), ("Which?", 100))


@check("sampling: every parameter arrives")
async def _(peer):
    peer.sampled = answer("one")
    equal(json.loads(await peer.text("sampling_all_parameters"))["model"], "m")
    (params,) = peer.asked
    equal(params["systemPrompt"], "Answer in one word")
    equal([message["role"] for message in params["messages"]], ["user", "assistant", "user"])
    equal(params["metadata"], {"vendor": {"trace": "kept"}})
    equal(params["modelPreferences"]["hints"], [{"name": "small"}])
    equal((params["temperature"], params["maxTokens"], params["stopSequences"]), (0.5, 77, ["END"]))


@check("elicitation: form")
async def _(peer):
    peer.elicited = accept(username="Jürgen", email="j@example.com")
    reply = await peer.text("test_elicitation", {"message": "Wer?"})
    action, content = re.fullmatch(r"User response: action=(\w+), content=(.*)", reply).groups()
    equal((action, json.loads(content)), ("accept", {"username": "Jürgen", "email": "j@example.com"}))
    equal(peer.asked[0]["message"], "Wer?")
    equal(peer.asked[0]["requestedSchema"]["required"], ["username", "email"])


@check("elicitation: declined")
async def _(peer):
    peer.elicited = types.ElicitResult(action="decline")
    assert "action=decline" in await peer.text("test_elicitation", {"message": "Wer?"})


@check("elicitation: forms keep defaults and enumerations")
async def _(peer):
    peer.elicited = types.ElicitResult(action="cancel")
    await peer.call("test_elicitation_sep1034_defaults")
    await peer.call("test_elicitation_sep1330_enums")
    defaults, enums = (params["requestedSchema"]["properties"] for params in peer.asked)
    found = [defaults[name]["default"] for name in ("name", "age", "score", "status", "verified")]
    equal(found, ["John Doe", 30, 95.5, "active", True])
    equal(enums["legacyEnum"]["enumNames"], ["Option One", "Option Two", "Option Three"])
    equal(enums["titledSingle"]["oneOf"][1]["title"], "Second Option")
    equal(enums["titledMulti"]["items"]["anyOf"][2]["const"], "value3")


@check("elicitation: page")
async def _(peer):
    peer.elicited = types.ElicitResult(action="accept")
    url = "https://example.com/ask?a=1&b=2"
    assert "action=accept" in await peer.text("elicitation_url", {"url": url})
    equal((peer.asked[0]["mode"], peer.asked[0]["url"]), ("url", url))


@check("roots")
async def _(peer):
    peer.rooted = types.ListRootsResult(roots=[types.Root(uri="file:///a", name="Ä"), types.Root(uri="file:///b")])
    roots = json.loads(await peer.text("list_roots"))
    equal(roots, [{"uri": "file:///a", "name": "Ä"}, {"uri": "file:///b"}])


@check("resources: text, binary, template, escaped URI")
async def _(peer):
    text = await peer.read("test://static-text")
    equal((str(text.uri), text.mime_type), ("test://static-text", "text/plain"))
    equal(text.text, "This is the content of the static text resource.")
    binary = await peer.read("test://static-binary")
    equal((binary.mime_type, head(binary.blob)), ("image/png", b"\x89PNG"))
    data = await peer.read("test://template/4%202/data")
    equal((str(data.uri), json.loads(data.text)["id"]), ("test://template/4%202/data", "4%202"))
    equal((await peer.read("test://unicode/gr%C3%BC%C3%9Fe")).text, "Grüße, 世界! 🦀")


@check("resources: an update reaches the subscriber, and none afterwards")
async def _(peer):
    async with peer.watching(resources=(WATCHED,)):
        version = await peer.text("update_watched_resource")
        await until("the update arrives", lambda: peer.updated == [WATCHED])
        equal((await peer.read(WATCHED)).text, f"Watched resource, {version}")
    await peer.call("update_watched_resource")
    await anyio.sleep(0.3)
    equal(peer.updated, [WATCHED])


@check("list changes are announced and listed")
async def _(peer):
    kinds = {
        "tools": ("test_trigger_tool_change", lambda entry: entry.name.endswith("extra_tool")),
        "prompts": ("test_trigger_prompt_change", lambda entry: entry.name.endswith("extra_prompt")),
        "resources": ("trigger_resource_change", lambda entry: str(entry.uri) == "test://extra-resource"),
    }
    async with peer.watching(lists=True):
        for kind, (trigger, is_extra) in kinds.items():
            for _ in range(2):  # there and back, from whatever an earlier run left behind
                peer.changed.clear()
                there = await peer.text(trigger) == "on"
                await until(f"{kind} are announced", lambda: kind in peer.changed)
                equal(any(map(is_extra, await peer.list_all(kind))), there)


@check("prompts: text, arguments, resource, image")
async def _(peer):
    async def get(name, arguments=None):
        return (await peer.client.get_prompt(peer.prefix + name, arguments)).messages[0].content

    equal((await get("test_simple_prompt")).text, "This is a simple prompt for testing.")
    filled = await get("test_prompt_with_arguments", {"arg1": "ä", "arg2": AWKWARD})
    equal(filled.text, f"Prompt with arguments: arg1='ä', arg2='{AWKWARD}'")
    embedded = await get("test_prompt_with_embedded_resource", {"resourceUri": "test://x"})
    equal(str(embedded.resource.uri), "test://x")
    image = await get("test_prompt_with_image")
    equal((image.type, head(image.data)), ("image", b"\x89PNG"))


@check("prompts: one that asks first")
async def _(peer):
    peer.elicited = accept(context="tests")
    result = await peer.client.get_prompt(f"{peer.prefix}test_input_required_result_prompt")
    equal(result.messages[0].content.text, "Use this context: tests")


@check("completion of prompts and templates")
async def _(peer):
    async def complete(ref, value, context=None):
        return (await peer.client.complete(ref, {"name": "arg2", "value": value}, context)).completion

    prompt = types.PromptReference(name=f"{peer.prefix}test_prompt_with_arguments")
    found = await complete(prompt, "par")
    equal((found.values, found.total, found.has_more), (["paris", "park-city", "parma"], 3, False))
    equal((await complete(prompt, "ber", {"arg1": "x"})).values, ["x-berlin"])
    template = types.ResourceTemplateReference(uri="test://template/{id}/data")
    equal((await complete(template, "po")).values, ["porto"])


@check("several rounds of questions")
async def _(peer):
    first = accept(name="Ada"), accept(color="blue")
    peer.elicited = lambda params: first[0] if params.message.startswith("Step 1") else first[1]
    equal(await peer.text("test_input_required_result_multi_round"), "Ada likes blue")


@check("three questions at once")
async def _(peer):
    peer.elicited, peer.sampled = accept(name="Ada"), answer("Hi")
    peer.rooted = types.ListRootsResult(roots=[types.Root(uri="file:///r")])
    reply = await peer.text("test_input_required_result_multiple_inputs")
    equal(reply, 'Hi Ada, roots: [{"uri":"file:///r"}]')


@check("ping", "session")
async def _(peer):
    await peer.client.send_ping()


@check("logging: eight levels in order, then only those asked for", "session")
async def _(peer):
    # rmcp sends log messages on the session's own stream, so they may come after the result.
    for level, count in (("debug", 8), ("error", 4), ("emergency", 1)):
        await peer.client.set_logging_level(level)
        peer.logs.clear()
        await peer.call("log_all_levels", {"label": level})
        await until(f"{count} messages", lambda: len(peer.logs) >= count)
        await anyio.sleep(0.1)
        equal([log.level for log in peer.logs], LEVELS[-count:])
        equal((peer.logs[0].data, peer.logs[0].logger), ({"label": level, "number": 8 - count}, "fixture"))


@check("logging: eight levels in order, and none unasked", "stateless")
async def _(peer):
    await peer.call("log_all_levels", {"label": "unasked"})
    await anyio.sleep(0.1)
    equal(peer.logs, [])
    for level, count in (("debug", 8), ("error", 4)):
        peer.logs.clear()
        meta = {"io.modelcontextprotocol/logLevel": level}
        await peer.call("log_all_levels", {"label": level}, meta=meta)
        await until(f"{count} messages", lambda: len(peer.logs) >= count)
        equal([log.level for log in peer.logs], LEVELS[-count:])


@check("a tool whose arguments are mirrored in headers", "stateless")
async def _(peer):
    await peer.list_all("tools")
    reply = await peer.text("mirrored_arguments", {"region": "Köln", "limit": 42, "query": "q"})
    equal(reply, "region=Köln limit=42 query=q")


@check("two clients apart: progress", peers=2)
async def _(*peers):
    async def work(peer, index):
        messages = []

        async def keep(_done, _total, message):
            messages.append(message)

        arguments = {"steps": 100, "label": f"c{index}"}
        await peer.call("progress_steps", arguments, progress_callback=keep)
        await anyio.sleep(0.1)
        equal(messages, [f"c{index} {step}" for step in range(1, 101)])

    await at_once(work, *peers)


@check("two clients apart: sampling", peers=2)
async def _(*peers):
    async def work(peer, index):
        async def late():
            await anyio.sleep(0.05 * index)
            return answer(f"from {index}")

        peer.sampled = late
        for _ in range(5):
            equal(await peer.text("test_sampling", {"prompt": "?"}), f"LLM response: from {index}")

    await at_once(work, *peers)


@check("two clients apart: elicitation", peers=2)
async def _(*peers):
    async def work(peer, index):
        peer.elicited = accept(username=f"user {index}", email="e@example.com")
        for _ in range(5):
            assert f"user {index}" in await peer.text("test_elicitation", {"message": "?"})

    await at_once(work, *peers)


@check("two clients apart: subscriptions", peers=2)
async def _(one, two):
    async with one.watching(resources=(WATCHED,)):
        # Where each client has a server of its own, no other client can change what is watched.
        await (one if os.environ.get("OWN_SERVER") else two).call("update_watched_resource")
        await until("the subscriber hears of it", lambda: one.updated == [WATCHED])
        await anyio.sleep(0.2)
        equal(two.updated, [])


@check("two clients apart: log level", "session", peers=2)
async def _(one, two):
    await one.client.set_logging_level("error")
    await two.client.set_logging_level("debug")
    await at_once(lambda peer, index: peer.call("log_all_levels", {"label": str(index)}), one, two)
    await until("all messages", lambda: len(one.logs) >= 4 and len(two.logs) >= 8)
    await anyio.sleep(0.1)
    equal([(log.data["label"], log.level) for log in one.logs], [("0", level) for level in LEVELS[4:]])
    equal([(log.data["label"], log.level) for log in two.logs], [("1", level) for level in LEVELS])


@check("two clients apart: session state", "session", peers=2)
async def _(one, two):
    counts = [await peer.text("session_counter") for peer in (one, one, two, one)]
    equal(counts, ["1", "2", "1", "3"])


if __name__ == "__main__":
    sys.exit(anyio.run(main))
