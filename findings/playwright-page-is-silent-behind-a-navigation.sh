#!/usr/bin/env bash
# A page of Playwright while a navigation waits for a server that has not answered yet.
#
# Package: playwright-core 1.64.0 from npm, driving Chromium (seen with Debian's 156).
# Seen: after `page.goto` has failed by its own timeout the navigation goes on, and until the server answers
# - `page.evaluate` of the document that is still shown does not answer, not even for `1`, also where that document was
#   loaded before and answered at once;
# - `page.title` answers "Loading " and the address, which is the title of no document;
# - `page.url` is still the address of the document that is shown.
# When the server answers, the evaluation fails because its document is gone, and the new document answers at once.
# So a page that does not answer after a timeout is no sign of a script that hangs, and a title may be made up.
#
# Needs Node 20 or later, npm's registry, and Chromium (CHROMIUM, or `chromium` in PATH). Fails if what is seen changes.
set -euo pipefail

chromium=${CHROMIUM:-$(command -v chromium)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{ "private": true, "type": "module" }' >package.json
PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install --no-audit --no-fund --loglevel error playwright-core@1.64.0 >/dev/null

cat >run.mjs <<'JS'
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';

const shown = (title) => `<title>${title}</title><h1>${title}</h1>`;
let late;
const server = createServer((request, response) => {
    response.setHeader('content-type', 'text/html');
    if (request.url === '/late') late = response;
    else response.end(shown('first'));
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const base = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({ executablePath: process.argv[2], args: ['--no-sandbox'] });
const within = (promise, time) => Promise.race([
    promise.catch((error) => error.name),
    new Promise((done) => setTimeout(done, time, 'no answer')),
]);

const page = await browser.newPage();
await page.goto(`${base}/first`);
const seen = [await within(page.evaluate('document.title'), 3000)];
seen.push(await within(page.goto(`${base}/late`, { timeout: 1500 }), 5000));
const evaluating = page.evaluate('document.title');
seen.push(await within(evaluating, 3000));
seen.push((await within(page.title(), 3000)).replace(base, ''), page.url().replace(base, ''));
late.end(shown('late'));
seen.push(await within(evaluating, 5000));
await within(page.waitForURL(`${base}/late`), 5000);
seen.push(page.url().replace(base, ''), await within(page.evaluate('document.title'), 3000));
await browser.close();
console.log(seen.join(' | '));
process.exit(seen.join() === ['first', 'TimeoutError', 'no answer', 'Loading /late', '/first', 'Error', '/late', 'late'].join() ? 0 : 1);
JS
node run.mjs "$chromium"
