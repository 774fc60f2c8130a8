// Checks an endpoint with version 2 of the official TypeScript client, in both eras.
//
//   node typescript-v2.mjs URL [PREFIX]

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

import { checks } from './checks.mjs';
import { everything } from './everything.mjs';
import { run } from './harness.mjs';

const LISTS = {
    tools: 'listTools',
    prompts: 'listPrompts',
    resources: 'listResources',
    resourceTemplates: 'listResourceTemplates',
};

async function connect(url, era, prefix) {
    const capabilities = { sampling: {}, roots: {}, elicitation: { form: {}, url: {} } };
    const mode = era === 'session' ? 'legacy' : { pin: '2026-07-28' };
    const client = new Client({ name: 'typescript-v2', version: '2.0.0' }, {
        capabilities,
        versionNegotiation: { mode },
    });
    const seen = { logs: [], updated: [], changed: [], errors: [] };
    const asked = { sampling: [], elicitation: [], roots: [] };
    const answers = {};
    const question = (method, kind) => client.setRequestHandler(method, ({ params }) => {
        asked[kind].push(params);
        return answers[kind](params);
    });
    question('sampling/createMessage', 'sampling');
    question('elicitation/create', 'elicitation');
    question('roots/list', 'roots');
    client.onerror = error => seen.errors.push(error.message);
    const notice = (method, keep) => client.setNotificationHandler(method, ({ params }) => { keep(params); });
    notice('notifications/message', params => seen.logs.push(params));
    notice('notifications/resources/updated', params => seen.updated.push(params.uri));
    for (const kind of ['tools', 'prompts', 'resources']) {
        notice(`notifications/${kind}/list_changed`, () => seen.changed.push(kind));
    }
    const transport = new StreamableHTTPClientTransport(new URL(url));
    await client.connect(transport);
    return {
        client: Object.assign(client, { close: () => end(transport, era) }),
        seen,
        asked,
        answers,
        call: (name, args = {}, { meta, ...options } = {}) =>
            client.callTool({ name: prefix + name, arguments: args, _meta: meta }, options),
        setLevel: level => client.setLoggingLevel(level),
        rawProgress: handler => notice('notifications/progress', handler),
        // Without a cursor, this client follows the pages by itself.
        listAll: async kind => (await client[LISTS[kind]]())[kind],
        watch: filter => (era === 'session' ? subscribe(client, filter) : listen(client, filter)),
    };
}

async function subscribe(client, { resources = [] }) {
    for (const uri of resources) await client.subscribeResource({ uri });
    return async () => {
        for (const uri of resources) await client.unsubscribeResource({ uri });
    };
}

async function listen(client, { resources, lists }) {
    const subscription = await client.listen({
        resourceSubscriptions: resources,
        toolsListChanged: lists,
        promptsListChanged: lists,
        resourcesListChanged: lists,
    });
    // rmcp acknowledges a subscription just before its handler takes note of it.
    await new Promise(resolve => setTimeout(resolve, 100));
    return () => subscription.close();
}

async function end(transport, era) {
    if (era === 'session') await transport.terminateSession();
    await transport.close();
}

if (process.env.SERVER === 'everything') await run(['session'], connect, everything);
else await run(['session', 'stateless'], connect, checks);
