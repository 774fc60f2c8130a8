// The checks of both TypeScript clients, against an endpoint that serves the conformance fixture.
//
// A driver hands in `connect(url, era)`, which hides what differs between the two packages and
// returns a peer:
//
//   client        the client of the package, where both have the same methods
//   call(name, arguments, { meta, ...options })
//   listAll(kind)                  every page of tools, prompts, resources or resourceTemplates
//   watch(filter)                  asks for change notifications; returns a function that ends it
//   rawProgress(handler)           hands every progress notification to `handler` instead
//   setLevel(level)
//   seen          { logs, updated, changed, errors }: what arrived unasked, in order
//   asked         { sampling, elicitation, roots }: the questions that arrived, in order
//   answers       { sampling, elicitation, roots }: functions that answer them; tests replace them
//
// Tool names are without the prefix; `call` adds it.

import assert from 'node:assert/strict';

import { bytes, expected, same, sleep, text, until } from './harness.mjs';

const WATCHED = 'test://watched-resource';
const LEVELS = expected.levels;
const AWKWARD = expected.awkward;

/** What every era can do. Each takes (peer, prefix). */
const common = {
    async 'capabilities are declared'({ client }) {
        const { tools, prompts, resources, completions, logging } = client.getServerCapabilities();
        assert.ok(completions && logging, 'completions and logging');
        assert.ok(tools?.listChanged && prompts?.listChanged && resources?.listChanged, 'listChanged');
        assert.ok(resources.subscribe, 'subscribe');
    },
    async 'lists are complete over all pages'({ listAll }, prefix) {
        const [tools, prompts] = [await listAll('tools'), await listAll('prompts')];
        same(tools.map(tool => tool.name), expected.tools.map(name => prefix + name), prefix);
        same(prompts.map(prompt => prompt.name), expected.prompts.map(name => prefix + name), prefix);
        same((await listAll('resources')).map(resource => resource.uri), expected.resources);
        same((await listAll('resourceTemplates')).map(template => template.uriTemplate), expected.templates);
    },
    async 'lists keep what entries say'({ listAll }, prefix) {
        const tools = Object.fromEntries((await listAll('tools')).map(tool => [tool.name, tool]));
        const echo = tools[`${prefix}echo`];
        assert.equal(echo.description, 'Returns the text it is given');
        assert.deepEqual(echo.annotations, { readOnlyHint: true, idempotentHint: true, openWorldHint: false });
        assert.equal(tools[`${prefix}structured_weather`].title, 'Weather');
        assert.equal(tools[`${prefix}structured_weather`].outputSchema.properties.celsius.type, 'number');
        const wide = tools[`${prefix}json_schema_2020_12_tool`].inputSchema;
        assert.equal(wide.$defs.address.$anchor, 'addressDef');
        assert.deepEqual(wide.else, { required: ['email'] });
        const mirrored = tools[`${prefix}mirrored_arguments`].inputSchema;
        assert.equal(mirrored.properties.region['x-mcp-header'], 'Region');
        const resource = (await listAll('resources')).find(resource => resource.uri === 'test://static-text');
        assert.deepEqual([resource.title, resource.size, resource.mimeType], ['Static text', 48, 'text/plain']);
        const prompt = (await listAll('prompts')).find(prompt => prompt.name.endsWith('test_prompt_with_arguments'));
        assert.deepEqual(prompt.arguments.map(argument => [argument.name, argument.required]), [['arg1', true], ['arg2', true]]);
    },
    async 'tools: text'({ call }) {
        assert.equal(text(await call('test_simple_text')), 'This is a simple text response for testing.');
    },
    async 'tools: image, audio, embedded resource'({ call }) {
        const [image] = (await call('test_image_content')).content;
        assert.deepEqual([image.type, image.mimeType, bytes(image.data)], ['image', 'image/png', '\x89PNG']);
        const [audio] = (await call('test_audio_content')).content;
        assert.deepEqual([audio.type, audio.mimeType, bytes(audio.data)], ['audio', 'audio/wav', 'RIFF']);
        const [embedded] = (await call('test_embedded_resource')).content;
        assert.deepEqual(embedded.resource, {
            uri: 'test://embedded-resource', mimeType: 'text/plain', text: 'This is an embedded resource content.',
        });
        const mixed = (await call('test_multiple_content_types')).content;
        assert.deepEqual(mixed.map(block => block.type), ['text', 'image', 'resource']);
    },
    async 'tools: structured output'({ call }) {
        const result = await call('structured_weather', { city: 'Zürich' });
        const weather = { city: 'Zürich', celsius: 21.5, rain_hours: [3, 4, 17] };
        assert.deepEqual(result.structuredContent, weather);
        assert.deepEqual(JSON.parse(text(result)), weather);
    },
    async 'tools: error in the result'({ call }) {
        const result = await call('test_error_handling');
        assert.equal(result.isError, true);
        assert.match(result.content[0].text, /intentionally/);
    },
    async 'tools: unicode survives'({ call }) {
        assert.equal(text(await call('echo', { text: AWKWARD })), AWKWARD);
    },
    async 'tools: big integers and odd values survive'({ call }) {
        const value = [2 ** 53 - 1, -(2 ** 53 - 1), 0.1, 1e-7, null, '', [], {}, { 'a.b/c': [[]] }];
        const result = await call('echo_json', { value });
        assert.deepEqual(result.structuredContent, { value });
    },
    async 'tools: a result of 900 KB'({ call }) {
        const long = text(await call('big_text', { bytes: 900_000 }));
        assert.equal(long, 'abcdefghijklmnopqrstuvwxyz'.repeat(34616).slice(0, 900_000));
    },
    async 'tools: a linked resource can be read'({ call, client }) {
        const [link] = (await call('resource_link')).content;
        assert.equal(link.type, 'resource_link');
        const { contents } = await client.readResource({ uri: link.uri });
        assert.equal(contents[0].text, 'This is the content of the static text resource.');
    },
    async 'errors keep code, message and data'({ call }) {
        const data = { why: ['no', 1], deep: { ü: null } };
        for (const code of [4711, -32050, -1]) {
            const error = await call('protocol_error', { code, message: 'nö', data }).then(() => null, error => error);
            assert.ok(error, 'no error');
            assert.equal(error.code, code);
            assert.match(error.message, /nö/);
            assert.deepEqual(error.data, data);
        }
    },
    async 'errors: an unknown tool is refused'({ call }) {
        await assert.rejects(call('no_such_tool'), error => error.code === -32602);
    },
    async 'errors: an unknown resource is refused'({ client }) {
        const uri = 'test://no-such-resource';
        await assert.rejects(client.readResource({ uri }), error =>
            [-32602, -32002].includes(error.code) && error.data?.uri === uri);
    },
    async 'metadata passes both ways'({ call }) {
        const own = { trace: [1, 'ü', { deep: true }] };
        const result = await call('report_meta', {}, { meta: { 'example.com/own': own } });
        assert.deepEqual(JSON.parse(text(result))['example.com/own'], own);
        assert.deepEqual(result._meta['example.com/answer'], { kept: [1, 2, 3] });
    },
    async 'the server sees what the client can do'({ call }) {
        const { capabilities } = (await call('report_client')).structuredContent;
        assert.ok(capabilities.sampling && capabilities.roots, 'sampling and roots');
        assert.ok(capabilities.elicitation?.form && capabilities.elicitation?.url, 'elicitation');
    },
    async 'progress: in order, and before the result'({ call, seen }) {
        const progress = [];
        const before = seen.errors.length;
        const onprogress = step => progress.push(step);
        assert.equal(text(await call('progress_steps', { steps: 40, label: 'ü' }, { onprogress })), 'ü done');
        const wanted = Array.from({ length: 40 }, (_, index) => ({
            progress: index + 1, total: 40, message: `ü ${index + 1}`,
        }));
        assert.deepEqual(progress.map(({ progress, total, message }) => ({ progress, total, message })), wanted);
        await sleep(200);
        // One that comes late is reported as an error: its token is not known any more.
        assert.deepEqual(seen.errors.slice(before), []);
    },
    async 'progress: under the token the client chose'({ call, rawProgress }) {
        const tokens = [];
        rawProgress(params => tokens.push(params.progressToken));
        const token = 'own-töken-7';
        await call('progress_steps', { steps: 3, label: 'x' }, { meta: { progressToken: token } });
        await until('three notifications', () => tokens.length === 3);
        assert.deepEqual(tokens, [token, token, token]);
    },
    async 'cancellation reaches the server'({ call }) {
        const key = `cancelled-${Math.random()}`;
        const record = async () => text(await call('cancellation_record', { key }));
        const stop = new AbortController();
        const slow = call('slow_cancellable', { key, milliseconds: 30_000 }, { signal: stop.signal });
        const failed = slow.then(() => false, () => true);
        await until('the call runs', async () => (await record()) === 'running');
        stop.abort('enough');
        assert.ok(await failed, 'the call went on');
        await until('the server sees the cancellation', async () => (await record()) === 'cancelled');
    },
    async sampling({ call, answers, asked }) {
        answers.sampling = () => ({ role: 'assistant', model: 'm', content: { type: 'text', text: 'Blau, 青' } });
        asked.sampling.length = 0;
        assert.equal(text(await call('test_sampling', { prompt: 'Which colour?' })), 'LLM response: Blau, 青');
        const [{ messages, maxTokens }] = asked.sampling;
        assert.deepEqual([messages[0].content.text, maxTokens], ['Which colour?', 100]);
    },
    async 'sampling: every parameter arrives'({ call, answers, asked }) {
        answers.sampling = () => ({
            role: 'assistant', model: 'small-1', stopReason: 'endTurn', content: { type: 'text', text: 'one' },
        });
        asked.sampling.length = 0;
        const answer = JSON.parse(text(await call('sampling_all_parameters')));
        assert.deepEqual([answer.model, answer.stopReason], ['small-1', 'endTurn']);
        const [params] = asked.sampling;
        assert.equal(params.systemPrompt, 'Answer in one word');
        assert.deepEqual(params.messages.map(message => message.role), ['user', 'assistant', 'user']);
        assert.deepEqual(params.modelPreferences, {
            hints: [{ name: 'small' }], costPriority: 0.25, speedPriority: 0.5, intelligencePriority: 0.75,
        });
        assert.deepEqual(params.metadata, { vendor: { trace: 'kept' } });
        assert.deepEqual([params.temperature, params.maxTokens, params.stopSequences], [0.5, 77, ['END']]);
    },
    async 'elicitation: form'({ call, answers, asked }) {
        const content = { username: 'Jürgen', email: 'j@example.com' };
        answers.elicitation = () => ({ action: 'accept', content });
        asked.elicitation.length = 0;
        const reply = text(await call('test_elicitation', { message: 'Wer?' }));
        const [, action, given] = reply.match(/^User response: action=(\w+), content=(.*)$/);
        assert.deepEqual([action, JSON.parse(given)], ['accept', content]);
        const [{ message, requestedSchema }] = asked.elicitation;
        assert.equal(message, 'Wer?');
        assert.deepEqual(requestedSchema.required, ['username', 'email']);
    },
    async 'elicitation: declined'({ call, answers }) {
        answers.elicitation = () => ({ action: 'decline' });
        assert.match(text(await call('test_elicitation', { message: 'Wer?' })), /action=decline/);
    },
    async 'elicitation: forms keep defaults and enumerations'({ call, answers, asked }) {
        answers.elicitation = () => ({ action: 'cancel' });
        asked.elicitation.length = 0;
        await call('test_elicitation_sep1034_defaults');
        await call('test_elicitation_sep1330_enums');
        const [defaults, enums] = asked.elicitation.map(params => params.requestedSchema.properties);
        assert.deepEqual(
            ['name', 'age', 'score', 'status', 'verified'].map(name => defaults[name].default),
            ['John Doe', 30, 95.5, 'active', true],
        );
        assert.deepEqual(enums.legacyEnum.enumNames, ['Option One', 'Option Two', 'Option Three']);
        assert.equal(enums.titledSingle.oneOf[1].title, 'Second Option');
        assert.equal(enums.titledMulti.items.anyOf[2].const, 'value3');
    },
    async 'elicitation: page'({ call, answers, asked }) {
        answers.elicitation = () => ({ action: 'accept' });
        asked.elicitation.length = 0;
        const url = 'https://example.com/ask?a=1&b=ü';
        assert.match(text(await call('elicitation_url', { url })), /action=accept/);
        assert.deepEqual([asked.elicitation[0].mode, asked.elicitation[0].url], ['url', url]);
    },
    async roots({ call, answers }) {
        const roots = [{ uri: 'file:///a', name: 'Ä' }, { uri: 'file:///b' }];
        answers.roots = () => ({ roots });
        assert.deepEqual(JSON.parse(text(await call('list_roots'))), roots);
    },
    async 'resources: text, binary, template, escaped URI'({ client }) {
        const read = async uri => (await client.readResource({ uri })).contents[0];
        assert.deepEqual(await read('test://static-text'), {
            uri: 'test://static-text', mimeType: 'text/plain', text: 'This is the content of the static text resource.',
        });
        const binary = await read('test://static-binary');
        assert.deepEqual([binary.uri, binary.mimeType, bytes(binary.blob)], ['test://static-binary', 'image/png', '\x89PNG']);
        const data = await read('test://template/4%202/data');
        assert.equal(data.uri, 'test://template/4%202/data');
        assert.equal(JSON.parse(data.text).id, '4%202');
        assert.equal((await read('test://unicode/gr%C3%BC%C3%9Fe')).text, 'Grüße, 世界! 🦀');
    },
    async 'resources: an update reaches the subscriber, and none afterwards'({ call, watch, seen, client }) {
        const end = await watch({ resources: [WATCHED] });
        seen.updated.length = 0;
        const version = text(await call('update_watched_resource'));
        await until('the update arrives', () => seen.updated.length === 1);
        assert.equal(seen.updated[0], WATCHED);
        const { contents } = await client.readResource({ uri: WATCHED });
        assert.equal(contents[0].text, `Watched resource, ${version}`);
        await end();
        await call('update_watched_resource');
        await sleep(300);
        assert.equal(seen.updated.length, 1);
    },
    async 'list changes are announced and listed'({ call, listAll, watch, seen }) {
        const kinds = [
            ['tools', 'test_trigger_tool_change', entry => entry.name.endsWith('extra_tool')],
            ['prompts', 'test_trigger_prompt_change', entry => entry.name.endsWith('extra_prompt')],
            ['resources', 'trigger_resource_change', entry => entry.uri === 'test://extra-resource'],
        ];
        const end = await watch({ lists: true });
        for (const [kind, trigger, isExtra] of kinds) {
            // Twice: there and back, from whatever an earlier run left behind.
            for (let times = 0; times < 2; times += 1) {
                seen.changed.length = 0;
                const there = text(await call(trigger)) === 'on';
                await until(`${kind} are announced`, () => seen.changed.includes(kind));
                assert.equal((await listAll(kind)).some(isExtra), there, `${kind}: ${there}`);
            }
        }
        await end();
    },
    async 'prompts: text, arguments, resource, image'({ client }, prefix) {
        const get = async (name, args) => (await client.getPrompt({ name: prefix + name, arguments: args })).messages;
        const [simple] = await get('test_simple_prompt');
        assert.deepEqual([simple.role, simple.content.text], ['user', 'This is a simple prompt for testing.']);
        const [filled] = await get('test_prompt_with_arguments', { arg1: 'ä', arg2: AWKWARD });
        assert.equal(filled.content.text, `Prompt with arguments: arg1='ä', arg2='${AWKWARD}'`);
        const [embedded] = await get('test_prompt_with_embedded_resource', { resourceUri: 'test://x' });
        assert.equal(embedded.content.resource.uri, 'test://x');
        const [image] = await get('test_prompt_with_image');
        assert.deepEqual([image.content.type, bytes(image.content.data)], ['image', '\x89PNG']);
    },
    async 'prompts: one that asks first'({ client, answers }, prefix) {
        answers.elicitation = () => ({ action: 'accept', content: { context: 'tests' } });
        const { messages } = await client.getPrompt({ name: `${prefix}test_input_required_result_prompt` });
        assert.equal(messages[0].content.text, 'Use this context: tests');
    },
    async 'completion of prompts and templates'({ client }, prefix) {
        const complete = async (ref, value, context) =>
            (await client.complete({ ref, argument: { name: 'arg2', value }, ...context })).completion;
        const prompt = { type: 'ref/prompt', name: `${prefix}test_prompt_with_arguments` };
        const found = await complete(prompt, 'par');
        assert.deepEqual([found.values, found.total, found.hasMore], [['paris', 'park-city', 'parma'], 3, false]);
        const context = { context: { arguments: { arg1: 'x' } } };
        assert.deepEqual((await complete(prompt, 'ber', context)).values, ['x-berlin']);
        const template = { type: 'ref/resource', uri: 'test://template/{id}/data' };
        assert.deepEqual((await complete(template, 'po')).values, ['porto']);
        await assert.rejects(complete({ type: 'ref/prompt', name: `${prefix}nothing` }, ''));
    },
    async 'several rounds of questions'({ call, answers }) {
        answers.elicitation = ({ message }) => ({
            action: 'accept', content: message.startsWith('Step 1') ? { name: 'Ada' } : { color: 'blue' },
        });
        assert.equal(text(await call('test_input_required_result_multi_round')), 'Ada likes blue');
    },
    async 'three questions at once'({ call, answers }) {
        answers.elicitation = () => ({ action: 'accept', content: { name: 'Ada' } });
        answers.sampling = () => ({ role: 'assistant', model: 'm', content: { type: 'text', text: 'Hi' } });
        answers.roots = () => ({ roots: [{ uri: 'file:///r' }] });
        const reply = text(await call('test_input_required_result_multiple_inputs'));
        assert.equal(reply, 'Hi Ada, roots: [{"uri":"file:///r"}]');
    },
};

/** What only the session era has. */
const session = {
    async ping({ client }) {
        await client.ping();
    },
    async 'logging: eight levels in order, then only those asked for'({ call, setLevel, seen }) {
        // rmcp sends log messages on the session's own stream, so they may come after the result.
        for (const [level, count] of [['debug', 8], ['error', 4], ['emergency', 1]]) {
            await setLevel(level);
            seen.logs.length = 0;
            await call('log_all_levels', { label: level });
            await until(`${count} messages`, () => seen.logs.length >= count);
            await sleep(100);
            assert.deepEqual(seen.logs.map(log => log.level), LEVELS.slice(-count));
            const first = 8 - count;
            assert.deepEqual(seen.logs[0].data, { label: level, number: first });
            assert.equal(seen.logs[0].logger, 'fixture');
        }
    },
};

/** What only the stateless era has. */
const stateless = {
    async 'logging: eight levels in order before the result, and none unasked'({ call, seen }) {
        seen.logs.length = 0;
        await call('log_all_levels', { label: 'unasked' });
        await sleep(100);
        assert.deepEqual(seen.logs, []);
        for (const [level, count] of [['debug', 8], ['error', 4]]) {
            seen.logs.length = 0;
            await call('log_all_levels', { label: level }, { meta: { 'io.modelcontextprotocol/logLevel': level } });
            assert.deepEqual(seen.logs.map(log => log.level), LEVELS.slice(-count));
            assert.deepEqual(seen.logs[0].data, { label: level, number: 8 - count });
        }
    },
    async 'a tool whose arguments are mirrored in headers'({ call, listAll }) {
        await listAll('tools');
        const reply = text(await call('mirrored_arguments', { region: 'Köln', limit: 42, query: 'q' }));
        assert.equal(reply, 'region=Köln limit=42 query=q');
    },
};

/** Two clients at once. Each takes (one, two). */
const apart = {
    async progress(one, two) {
        const both = [one, two].map(async ({ call }, index) => {
            const messages = [];
            const onprogress = ({ message }) => messages.push(message);
            await call('progress_steps', { steps: 100, label: `c${index}` }, { onprogress });
            assert.deepEqual(messages, Array.from({ length: 100 }, (_, step) => `c${index} ${step + 1}`));
        });
        await Promise.all(both);
    },
    async sampling(one, two) {
        const both = [one, two].map(async ({ call, answers }, index) => {
            answers.sampling = async () => {
                await sleep(50 * index);
                return { role: 'assistant', model: 'm', content: { type: 'text', text: `from ${index}` } };
            };
            const calls = Array.from({ length: 5 }, () => call('test_sampling', { prompt: '?' }));
            for (const result of await Promise.all(calls)) assert.equal(text(result), `LLM response: from ${index}`);
        });
        await Promise.all(both);
    },
    async elicitation(one, two) {
        const both = [one, two].map(async ({ call, answers }, index) => {
            const content = { username: `user ${index}`, email: 'e@example.com' };
            answers.elicitation = () => ({ action: 'accept', content });
            const calls = Array.from({ length: 5 }, () => call('test_elicitation', { message: '?' }));
            for (const result of await Promise.all(calls)) assert.match(text(result), new RegExp(`user ${index}`));
        });
        await Promise.all(both);
    },
    async subscriptions(one, two) {
        const end = await one.watch({ resources: [WATCHED] });
        one.seen.updated.length = two.seen.updated.length = 0;
        // Where each client has a server of its own, no other client can change what is watched.
        await (process.env.OWN_SERVER ? one : two).call('update_watched_resource');
        await until('the subscriber hears of it', () => one.seen.updated.length === 1);
        await sleep(200);
        assert.deepEqual(two.seen.updated, []);
        await end();
    },
};

const apartInSessions = {
    async 'log level'(one, two) {
        await one.setLevel('error');
        await two.setLevel('debug');
        one.seen.logs.length = two.seen.logs.length = 0;
        await Promise.all([one.call('log_all_levels', { label: 'one' }), two.call('log_all_levels', { label: 'two' })]);
        await until('all messages', () => one.seen.logs.length >= 4 && two.seen.logs.length >= 8);
        await sleep(100);
        assert.deepEqual(one.seen.logs.map(log => `${log.data.label} ${log.level}`), LEVELS.slice(4).map(level => `one ${level}`));
        assert.deepEqual(two.seen.logs.map(log => `${log.data.label} ${log.level}`), LEVELS.map(level => `two ${level}`));
    },
    async 'session state'(one, two) {
        assert.equal(text(await one.call('session_counter')), '1');
        assert.equal(text(await one.call('session_counter')), '2');
        assert.equal(text(await two.call('session_counter')), '1');
        assert.equal(text(await one.call('session_counter')), '3');
    },
};

/** All checks, as the harness wants them. */
export const checks = {
    alone: era => ({ ...common, ...(era === 'session' ? session : stateless) }),
    together: era => ({ ...apart, ...(era === 'session' ? apartInSessions : {}) }),
};
