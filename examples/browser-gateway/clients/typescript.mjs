// Drives the browser tools with the official TypeScript client.
//
//   node typescript.mjs URL TOKEN SHOP

import assert from 'node:assert/strict';

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [url, token, shop] = process.argv.slice(2);
const transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers: { Authorization: `Bearer ${token}` } },
});
const client = new Client({ name: 'shopper', version: '1.0.0' }, { capabilities: {} });
await client.connect(transport);
const call = (name, args) => client.callTool({ name, arguments: args });

const { tools } = await client.listTools();
assert(tools.every(tool => tool.annotations), 'annotations');
const made = await call('browser_create_session', { mode: 'headless' });
const session = { session_id: made.structuredContent.session_id };
const page = await call('browser_navigate', { ...session, url: shop });
const field = page.content[0].text.match(/textbox "Name" \[ref=(\w+)\]/)[1];
await call('browser_interact', { ...session, action: 'type', selector: field, value: 'Grace' });
const sent = await call('browser_interact', { ...session, action: 'click', selector: 'text=Order' });
assert.match(sent.content[0].text, /Thank you, Grace/);
const shot = await call('browser_screenshot', session);
assert.equal(shot.content[0].mimeType, 'image/png');
assert.equal((await call('browser_close_session', session)).content[0].text, 'closed');
await client.close();
console.log('typescript ok');
