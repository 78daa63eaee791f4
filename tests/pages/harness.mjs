// Does the browser's story fail where a page does what it must not?
import assert from 'node:assert/strict';
import { createServer } from 'node:http';

import { accessible, fits, launch, tabTo, told } from './browser.mjs';

const PAGES = {
  '/good': '<label>Name <input id=name></label><script src="/good.js"></script>',
  '/good.js': 'document.title = "it ran"',
  '/console': '<script>console.error("out of tune")</script>',
  '/thrown': '<script>throw new Error("a broken string")</script>',
  '/foreign': '<img src="http://elsewhere.example/x.png">',
  '/wide': '<div style="width: 2000px">wide</div>',
  '/nameless': '<main><h1>A page</h1><input></main>',
  '/pale': '<main><h1>A page</h1><p style="color: #999">pale</p></main>',
  '/clear': '<main><h1>A page</h1><label>Name <input></label></main>',
  '/faint': '<input id=name style="outline: none">',
};

const HEAD = '<!doctype html><html lang=en><title>A page</title><meta name=viewport content="width=device-width">'
  + '<link rel=icon href="data:,">';

const server = createServer((request, response) => {
  const page = PAGES[request.url];
  const isScript = request.url.endsWith('.js');
  response.writeHead(page ? 200 : 404, { 'content-type': isScript ? 'text/javascript' : 'text/html' });
  response.end(isScript ? page : HEAD + page);
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const { port } = server.address();
const own = `http://127.0.0.1:${port}`;
const named = `http://gate.example:${port}`;
const browser = await launch(['gate.example']);

const see = (path, more = {}, then = async () => {}) => told(browser, async ({ visit, shot }) => {
  const page = await visit({ origins: [own, named], ...more });
  await page.goto(new URL(path, own).href);
  await then(page, shot);
});

const focus = (page) => tabTo(page, '#name');
const cases = [
  ['a good page', () => see('/good', {}, async (page) => assert.equal(await page.title(), 'it ran')), null],
  ['one that fits, and can be reached', () => see('/good', { phone: true }, async (page) => {
    await fits(page);
    await focus(page);
  }), null],
  ['without scripts', () => see('/good', { more: { javaScriptEnabled: false } },
    async (page) => assert.equal(await page.title(), 'A page')), null],
  ['a name for this machine', () => see(`${named}/good`), null],
  ['an empty screenshot', () => see('/good', {}, (page, shot) => shot(page, 'empty')), /is empty/],
  ['an error in the console', () => see('/console'), /console: out of tune/],
  ['one that is forgiven', () => see('/console', { forgiven: [/tune/] }), null],
  ['an error thrown', () => see('/thrown'), /thrown: a broken string/],
  ['another origin', () => see('/foreign', { forgiven: [/Failed to load/] }),
    /asked another origin: http:\/\/elsewhere.example/],
  ['too wide for a phone', () => see('/wide', { phone: true }, fits), /wide, the screen/],
  ['a focus that nobody sees', () => see('/faint', {}, focus), /nobody sees it/],
  ['a page for all', () => see('/clear', {}, accessible), null],
  ['a control without a name', () => see('/nameless', {}, accessible), /no label: <input>/],
  ['text that is pale', () => see('/pale', {}, accessible), /contrast 2.8: pale/],
  ['what is not there', () => see('/good', {}, (page) => tabTo(page, '#other', { most: 5 })),
    /does not lead to #other/],
];
for (const [name, run, expected] of cases) {
  const problems = await run();
  const text = problems.join('\n');
  assert.ok(expected ? expected.test(text) : problems.length === 0, `${name}: ${text || 'no problem'}`);
}
await browser.close();
server.close();
console.log('told');
