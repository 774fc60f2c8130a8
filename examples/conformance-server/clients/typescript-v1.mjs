// Checks an endpoint with version 1 of the official TypeScript client, which knows sessions only.
//
//   node typescript-v1.mjs URL [PREFIX]

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import * as types from '@modelcontextprotocol/sdk/types.js';

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
    const client = new Client({ name: 'typescript-v1', version: '1.0.0' }, { capabilities });
    const seen = { logs: [], updated: [], changed: [], errors: [] };
    const asked = { sampling: [], elicitation: [], roots: [] };
    const answers = {};
    const question = (schema, kind) => client.setRequestHandler(schema, ({ params }) => {
        asked[kind].push(params);
        return answers[kind](params);
    });
    question(types.CreateMessageRequestSchema, 'sampling');
    question(types.ElicitRequestSchema, 'elicitation');
    question(types.ListRootsRequestSchema, 'roots');
    client.onerror = error => seen.errors.push(error.message);
    const notice = (schema, keep) => client.setNotificationHandler(schema, ({ params }) => { keep(params); });
    notice(types.LoggingMessageNotificationSchema, params => seen.logs.push(params));
    notice(types.ResourceUpdatedNotificationSchema, params => seen.updated.push(params.uri));
    notice(types.ToolListChangedNotificationSchema, () => seen.changed.push('tools'));
    notice(types.PromptListChangedNotificationSchema, () => seen.changed.push('prompts'));
    notice(types.ResourceListChangedNotificationSchema, () => seen.changed.push('resources'));
    const transport = new StreamableHTTPClientTransport(new URL(url));
    await client.connect(transport);
    return {
        client: Object.assign(client, { close: () => end(transport) }),
        seen,
        asked,
        answers,
        call: (name, args = {}, { meta, ...options } = {}) =>
            client.callTool({ name: prefix + name, arguments: args, _meta: meta }, undefined, options),
        setLevel: level => client.setLoggingLevel(level),
        rawProgress: handler => notice(types.ProgressNotificationSchema, handler),
        async listAll(kind) {
            const entries = [];
            let cursor;
            do {
                const page = await client[LISTS[kind]]({ cursor });
                entries.push(...page[kind]);
                cursor = page.nextCursor;
            } while (cursor !== undefined);
            return entries;
        },
        async watch({ resources = [] }) {
            for (const uri of resources) await client.subscribeResource({ uri });
            return async () => {
                for (const uri of resources) await client.unsubscribeResource({ uri });
            };
        },
    };
}

async function end(transport) {
    await transport.terminateSession();
    await transport.close();
}

if (process.env.SERVER === 'everything') await run(['session'], connect, everything);
else await run(['session'], connect, checks);
