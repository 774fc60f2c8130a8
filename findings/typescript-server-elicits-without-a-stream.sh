#!/usr/bin/env bash
# A server on the official TypeScript SDK that asks its client something by `server.elicitInput` within a tool call.
#
# Package: @modelcontextprotocol/sdk 1.32.0 from npm, Streamable HTTP, revision 2025-11-25.
# Seen: the request is not written to the stream of the call that is in flight. Without a standalone stream (GET) it is
# written nowhere, no error is raised, and the call goes on only when the request times out (-32001). With a standalone stream
# that is open before the call it arrives there and the call succeeds.
# So a client or proxy that opens the standalone stream late, or not at all, leaves such servers waiting for their timeout.
#
# Needs Node 20 or later and npm's registry. Fails if what is seen changes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{ "private": true, "type": "module" }' >package.json
npm install --no-audit --no-fund --loglevel error @modelcontextprotocol/sdk@1.32.0 >/dev/null

cat >run.mjs <<'JS'
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { CallToolRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const server = new Server({ name: 'asks', version: '1' }, { capabilities: { tools: {} } });
server.setRequestHandler(CallToolRequestSchema, async () => {
    const params = { message: 'Which?', requestedSchema: { type: 'object', properties: { which: { type: 'string' } } } };
    try {
        const answer = await server.elicitInput(params, { timeout: 2000 });
        return { content: [{ type: 'text', text: `answered: ${answer.action}` }] };
    } catch (error) {
        return { content: [{ type: 'text', text: `failed: ${error.code}` }] };
    }
});
let transport;
const http = createServer((request, response) => transport.handleRequest(request, response));
await new Promise((done) => http.listen(0, '127.0.0.1', done));
const url = `http://127.0.0.1:${http.address().port}/mcp`;
const common = { accept: 'application/json, text/event-stream', 'content-type': 'application/json' };

async function call(withStream) {
    if (transport) await transport.close();
    transport = new StreamableHTTPServerTransport({ sessionIdGenerator: randomUUID });
    await server.connect(transport);
    const post = (headers, message) => fetch(url, { method: 'POST', headers, body: JSON.stringify({ jsonrpc: '2.0', ...message }) });
    const opened = await post(common, {
        id: 1,
        method: 'initialize',
        params: { protocolVersion: '2025-11-25', capabilities: { elicitation: {} }, clientInfo: { name: 'c', version: '1' } },
    });
    await opened.text();
    const headers = { ...common, 'mcp-session-id': opened.headers.get('mcp-session-id'), 'mcp-protocol-version': '2025-11-25' };
    await (await post(headers, { method: 'notifications/initialized' })).text();
    const seen = { call: [], standalone: [] };
    const ended = new AbortController();
    const follow = async (response, into) => {
        const decoder = new TextDecoder();
        let text = '';
        for await (const chunk of response.body) {
            text += decoder.decode(chunk, { stream: true });
            const events = text.split('\n\n');
            text = events.pop();
            for (const event of events) {
                const data = event.split('\n').find((line) => line.startsWith('data: {'));
                if (!data) continue;
                const message = JSON.parse(data.slice(6));
                into.push(message.method ?? message.result.content[0].text);
                if (message.method === 'elicitation/create')
                    await (await post(headers, { id: message.id, result: { action: 'decline' } })).text();
            }
        }
    };
    let standalone;
    if (withStream) {
        const stream = await fetch(url, { headers, signal: ended.signal });
        standalone = follow(stream, seen.standalone).catch(() => {});
    }
    await follow(await post(headers, { id: 2, method: 'tools/call', params: { name: 'ask', arguments: {} } }), seen.call);
    ended.abort();
    await standalone;
    return JSON.stringify(seen);
}

const wanted = [
    '{"call":["failed: -32001"],"standalone":[]}',
    '{"call":["answered: decline"],"standalone":["elicitation/create"]}',
];
const seen = [await call(false), await call(true)];
console.log('without a standalone stream', seen[0]);
console.log('with one                   ', seen[1]);
process.exit(seen.every((one, index) => one === wanted[index]) ? 0 : 1);
JS
node run.mjs
