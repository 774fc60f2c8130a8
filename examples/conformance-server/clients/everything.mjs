// The checks of both TypeScript clients against an endpoint that serves the official server-everything, unmodified.
// It knows sessions only. What a peer is, checks.mjs says.

import assert from 'node:assert/strict';

import { bytes, same, sleep, text, until } from './harness.mjs';

const TOOLS = [
    'echo', 'get-annotated-message', 'get-env', 'get-resource-links', 'get-resource-reference', 'get-structured-content',
    'get-sum', 'get-tiny-image', 'gzip-file-as-resource', 'toggle-simulated-logging', 'toggle-subscriber-updates',
    'trigger-long-running-operation',
    // Only for clients that can be asked.
    'get-roots-list', 'trigger-elicitation-request', 'trigger-url-elicitation', 'trigger-sampling-request',
    'simulate-research-query',
];
const PROMPTS = ['simple-prompt', 'args-prompt', 'completable-prompt', 'resource-prompt'];

const alone = {
    async 'lists are complete'({ listAll, answers }, prefix) {
        answers.roots = () => ({ roots: [] });
        const names = async () => (await listAll('tools')).map(tool => tool.name);
        // The server offers the tools that ask the client only once it knows the client.
        await until('all tools', async () => (await names()).length >= TOOLS.length);
        for (const name of TOOLS) assert.ok((await names()).includes(prefix + name), name);
        same((await listAll('prompts')).map(prompt => prompt.name), PROMPTS.map(name => prefix + name), prefix);
        const templates = (await listAll('resourceTemplates')).map(template => template.uriTemplate);
        assert.ok(templates.includes('demo://resource/dynamic/text/{resourceId}'), String(templates));
        assert.ok((await listAll('resources')).length >= 5);
    },
    async 'fields that models drop are kept'({ listAll, answers }, prefix) {
        answers.roots = () => ({ roots: [] });
        await until('the task tool', async () => (await listAll('tools')).some(tool => tool.execution));
        const research = (await listAll('tools')).find(tool => tool.name === `${prefix}simulate-research-query`);
        assert.deepEqual(research.execution, { taskSupport: 'required' });
    },
    async 'tools'({ call }) {
        assert.equal(text(await call('echo', { message: 'Grüße 青 👋' })), 'Echo: Grüße 青 👋');
        assert.match(text(await call('get-sum', { a: 2, b: 40 })), /42/);
        const result = await call('get-structured-content', { location: 'Chicago' });
        assert.deepEqual(result.structuredContent, { temperature: 36, conditions: 'Light rain / drizzle', humidity: 82 });
        const [, image] = (await call('get-tiny-image')).content;
        assert.deepEqual([image.type, image.mimeType, bytes(image.data)], ['image', 'image/png', '\x89PNG']);
        const { content: [message] } = await call('get-annotated-message', { messageType: 'error' });
        assert.deepEqual(message.annotations, { priority: 1, audience: ['user', 'assistant'] });
    },
    async 'a wrong argument is the tool\'s error'({ call }) {
        const result = await call('get-sum', { a: 'two', b: 40 });
        assert.equal(result.isError, true);
    },
    async 'linked and embedded resources'({ call, client }) {
        const links = (await call('get-resource-links', { count: 4 })).content.filter(({ type }) => type === 'resource_link');
        assert.equal(links.length, 4);
        for (const { uri } of links) {
            const { contents: [found] } = await client.readResource({ uri });
            assert.equal(found.uri, uri);
            assert.ok(found.text ?? found.blob);
        }
        const [, embedded] = (await call('get-resource-reference', { resourceType: 'Blob', resourceId: 3 })).content;
        assert.equal(embedded.resource.uri, 'demo://resource/dynamic/blob/3');
    },
    async 'prompts and completion'({ client }, prefix) {
        const { messages } = await client.getPrompt({
            name: `${prefix}args-prompt`, arguments: { city: 'Zürich', state: 'ZH' },
        });
        assert.equal(messages[0].content.text, "What's weather in Zürich, ZH?");
        const ref = { type: 'ref/prompt', name: `${prefix}completable-prompt` };
        const { completion } = await client.complete({
            ref, argument: { name: 'name', value: 'A' }, context: { arguments: { department: 'Engineering' } },
        });
        assert.deepEqual(completion.values, ['Alice']);
        const template = { type: 'ref/resource', uri: 'demo://resource/dynamic/text/{resourceId}' };
        const id = await client.complete({ ref: template, argument: { name: 'resourceId', value: '7' } });
        assert.deepEqual(id.completion.values, ['7']);
    },
    async 'progress'({ call }) {
        const steps = [];
        const onprogress = ({ progress, total }) => steps.push([progress, total]);
        await call('trigger-long-running-operation', { duration: 0.5, steps: 5 }, { onprogress });
        assert.deepEqual(steps, [1, 2, 3, 4, 5].map(step => [step, 5]));
    },
    async 'roots, asked for outside any call'({ call, answers, asked }) {
        answers.roots = () => ({ roots: [{ uri: 'file:///srv/grün', name: 'green' }] });
        await until('the tool', async () => (await call('get-roots-list').catch(() => null))?.isError === undefined);
        const said = text(await call('get-roots-list'));
        assert.match(said, /green\s+URI: file:\/\/\/srv\/grün/);
        assert.equal(asked.roots.length, 1);
    },
    async 'sampling'({ call, answers, asked }) {
        answers.roots = () => ({ roots: [] });
        answers.sampling = () => ({ role: 'assistant', model: 'm', content: { type: 'text', text: 'Blau' } });
        const said = text(await call('trigger-sampling-request', { prompt: 'Which colour?', maxTokens: 7 }));
        assert.match(said, /"text": "Blau"/);
        assert.deepEqual([asked.sampling[0].maxTokens, asked.sampling[0].temperature], [7, 0.7]);
        assert.match(asked.sampling[0].messages[0].content.text, /Which colour\?/);
    },
    async 'elicitation'({ call, answers, asked }) {
        answers.roots = () => ({ roots: [] });
        answers.elicitation = () => ({ action: 'accept', content: { name: 'Jürgen', integer: 7 } });
        const said = (await call('trigger-elicitation-request')).content.map(block => block.text).join('\n');
        assert.match(said, /- Name: Jürgen/);
        const { properties } = asked.elicitation[0].requestedSchema;
        assert.deepEqual(properties.legacyTitledEnum.enumNames, ['Cats', 'Dogs', 'Birds', 'Fish', 'Reptiles']);
        answers.elicitation = () => ({ action: 'decline' });
        assert.match((await call('trigger-elicitation-request')).content[0].text, /declined/);
    },
    async 'elicitation of a URL, and its error'({ call, answers, asked }) {
        answers.roots = () => ({ roots: [] });
        answers.elicitation = () => ({ action: 'accept' });
        const args = { url: 'https://example.com/consent', message: 'Please', elicitationId: 'own-id' };
        assert.match(text(await call('trigger-url-elicitation', args)), /completed/);
        assert.deepEqual([asked.elicitation[0].mode, asked.elicitation[0].url], ['url', args.url]);
        const error = await call('trigger-url-elicitation', { ...args, errorPath: true }).then(() => null, error => error);
        assert.equal(error?.code, -32042);
        assert.equal(error.data.elicitations[0].url, 'https://modelcontextprotocol.io');
    },
    async 'logging and its level'({ call, setLevel, seen }) {
        await setLevel('debug');
        await call('toggle-simulated-logging');
        await until('a message', () => seen.logs.some(log => /level.message/i.test(String(log.data))));
        await call('toggle-simulated-logging');
    },
    async 'subscriptions'({ call, watch, seen }) {
        const uri = 'demo://resource/dynamic/text/1';
        const end = await watch({ resources: [uri] });
        await call('toggle-subscriber-updates');
        await until('the update', () => seen.updated.includes(uri));
        await call('toggle-subscriber-updates');
        await end();
    },
    async 'a task of the session era, which asks in between'({ client, answers, asked }, prefix) {
        // Version 2 of the client has no tasks of that era.
        if (!client.experimental?.tasks?.callToolStream) return;
        answers.roots = () => ({ roots: [] });
        answers.elicitation = () => ({ action: 'accept', content: { interpretation: 'snake' } });
        const name = `${prefix}simulate-research-query`;
        await until('the tool', async () => (await client.listTools()).tools.some(tool => tool.name === name));
        const stream = client.experimental.tasks.callToolStream(
            { name, arguments: { topic: 'python', ambiguous: true } }, undefined, { task: { ttl: 60_000 } },
        );
        const types = [];
        let last;
        for await (const message of stream) {
            types.push(message.type);
            last = message;
        }
        assert.equal(types[0], 'taskCreated');
        assert.equal(last.type, 'result', JSON.stringify(last));
        assert.match(JSON.stringify(last.result), /snake/);
        assert.equal(asked.elicitation.length, 1);
    },
    async 'cancellation'({ call, client }) {
        const stop = new AbortController();
        const slow = call('trigger-long-running-operation', { duration: 20, steps: 2 }, { signal: stop.signal });
        setTimeout(() => stop.abort('enough'), 200);
        await assert.rejects(slow);
        // The session is as good as before.
        assert.ok((await client.listPrompts()).prompts.length > 0);
    },
};

const together = {
    async 'sampling'(one, two) {
        const both = [one, two].map(async ({ call, answers }, index) => {
            answers.roots = () => ({ roots: [] });
            answers.sampling = async () => {
                await sleep(50 * index);
                return { role: 'assistant', model: 'm', content: { type: 'text', text: `from ${index}` } };
            };
            const calls = Array.from({ length: 5 }, () => call('trigger-sampling-request', { prompt: '?', maxTokens: 9 }));
            for (const result of await Promise.all(calls)) assert.match(text(result), new RegExp(`from ${index}`));
        });
        await Promise.all(both);
    },
    async 'roots'(one, two) {
        const both = [one, two].map(async ({ call, answers }, index) => {
            answers.roots = () => ({ roots: [{ uri: `file:///own/${index}`, name: `own ${index}` }] });
            await until('the tool', async () => (await call('get-roots-list').catch(() => null))?.isError === undefined);
            const said = text(await call('get-roots-list'));
            assert.match(said, new RegExp(`URI: file:///own/${index}`));
            assert.doesNotMatch(said, new RegExp(`own/${1 - index}`));
        });
        await Promise.all(both);
    },
};

/** All checks, as the harness wants them. */
export const everything = { alone: () => alone, together: () => together };
