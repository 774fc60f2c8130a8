// What runs the checks of both TypeScript clients, and what the checks have in common.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

/** What the fixture offers, and values that are easily damaged. */
export const expected = JSON.parse(readFileSync(new URL('expected.json', import.meta.url), 'utf8'));

export const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

/** Waits until `condition` holds, or fails after five seconds. */
export async function until(what, condition) {
    for (const end = Date.now() + 5000; Date.now() < end; await sleep(20)) if (await condition()) return;
    assert.fail(`never happened: ${what}`);
}

export const text = result => {
    assert.notEqual(result.isError, true, JSON.stringify(result.content));
    assert.equal(result.content[0].type, 'text');
    return result.content[0].text;
};

/** Fails unless each of `wanted` is in `found` exactly once, and nothing else has the prefix. */
export function same(found, wanted, prefix) {
    for (const name of wanted) assert.equal(found.filter(other => other === name).length, 1, `${name} is not there once`);
    const strange = found.filter(name => prefix && name.startsWith(prefix) && !wanted.includes(name));
    assert.deepEqual(strange, [], 'unknown entries');
}

export const bytes = base64 => Buffer.from(base64, 'base64').subarray(0, 4).toString('latin1');

const SECONDS = 30;

async function attempt(name, check) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not done after ${SECONDS} s`)), SECONDS * 1000);
    });
    try {
        await Promise.race([check(), late]);
        console.log(`pass  ${name}`);
        return true;
    } catch (error) {
        console.log(`FAIL  ${name}: ${String(error?.message ?? error).split('\n').slice(0, 12).join(' ')}`);
        return false;
    } finally {
        clearTimeout(timer);
    }
}

/**
 * Runs all checks in each of `eras`, prints the count, and exits.
 *
 * `alone(era)` and `together(era)` give the checks by name, for one client and for two.
 */
export async function run(eras, connect, { alone, together }) {
    const [url, prefix = ''] = process.argv.slice(2);
    if (!url) {
        console.error('usage: URL [PREFIX]');
        process.exit(2);
    }
    const results = [];
    for (const era of eras) {
        for (const [name, check] of Object.entries(alone(era))) {
            results.push(await attempt(`${era}: ${name}`, async () => {
                const peer = await connect(url, era, prefix);
                try {
                    await check(peer, prefix);
                } finally {
                    await peer.client.close();
                }
            }));
        }
        for (const [name, check] of Object.entries(together(era))) {
            results.push(await attempt(`${era}: two clients apart: ${name}`, async () => {
                const peers = [await connect(url, era, prefix), await connect(url, era, prefix)];
                try {
                    await check(...peers);
                } finally {
                    for (const { client } of peers) await client.close();
                }
            }));
        }
    }
    const passed = results.filter(Boolean).length;
    console.log(`${passed} passed, ${results.length - passed} failed`);
    process.exit(passed === results.length ? 0 : 1);
}
