// A real browser for the tests of pages: Debian's Chromium, told what to do by playwright-core.
//
// A script tells a story: `await story(async ({ visit, shot, facts }) => { … })`. It fails if the story
// throws, and if any page of it has an error in its console, throws one, or asks another origin than
// those that the story names. The test that starts it says by environment what there is:
// TOLLGATE_NODE (where node_modules is), TOLLGATE_FACTS (JSON, whatever the story needs), TOLLGATE_SHOTS
// (where screenshots go) and TOLLGATE_SCREENSHOTS (`write` keeps them in docs/pages/, to be committed).
import assert from 'node:assert/strict';
import { access, mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(join(resolve(process.env.TOLLGATE_NODE), 'package.json'));
const { chromium } = require('playwright-core');

const KEPT = fileURLToPath(new URL('../../docs/pages/', import.meta.url));
/// Whether screenshots are taken to be committed.
export const isKept = process.env.TOLLGATE_SCREENSHOTS === 'write';
const PHONE = { width: 390, height: 844 };
const DESK = { width: 1200, height: 900 };
/// What one step may take, in milliseconds, on a machine with much else to do.
const PATIENCE = 30_000;

// Nothing but what the story asks for leaves the browser, and no name but `localhost` is looked up.
const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update', '--disable-default-apps',
  '--disable-dev-shm-usage',
];

/// Tells a story in a browser of its own, with a fresh profile, and prints `told` if all of it is true.
///
/// `hosts` are names that stand for 127.0.0.1, such as `gate.example`.
export async function story(tell, { hosts = [] } = {}) {
  const browser = await launch(hosts);
  const problems = await told(browser, tell);
  await browser.close();
  if (problems.length) {
    console.error(problems.join('\n'));
    process.exitCode = 1;
  } else {
    console.log('told');
  }
}

export function launch(hosts = []) {
  const names = hosts.map((host) => `MAP ${host} 127.0.0.1, `).join('');
  return chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [...ARGUMENTS, `--host-resolver-rules=${names}MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost`],
  });
}

/// Tells a story in this browser; what was wrong with it, in words.
export async function told(browser, tell) {
  const problems = [];
  const facts = JSON.parse(process.env.TOLLGATE_FACTS ?? '{}');
  try {
    await tell({ facts, shot, visit: (options) => visit(browser, problems, options) });
  } catch (error) {
    problems.unshift(error.stack ?? String(error));
  }
  await Promise.all(browser.contexts().map((context) => context.close()));
  return problems;
}

/// A page in a context of its own: no cookie of another is in it.
///
/// `origins` are the only ones that it may ask; `forgiven` are patterns of messages that its console
/// may have, such as the browser's own `/status of 401/`; `phone` is a narrow screen; `more` goes to
/// playwright's `newContext`, such as `{ javaScriptEnabled: false }`.
async function visit(browser, problems, { origins, phone = false, forgiven = [], more = {} }) {
  const context = await browser.newContext({
    viewport: phone ? PHONE : DESK,
    hasTouch: phone,
    isMobile: phone,
    ignoreHTTPSErrors: true,
    reducedMotion: 'reduce',
    locale: 'en-GB',
    timezoneId: 'UTC',
    ...more,
  });
  context.setDefaultTimeout(PATIENCE);
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol !== 'about:' && !origins.includes(url.origin)) {
      problems.push(`asked another origin: ${url.origin}`);
    }
  });
  context.on('console', (message) => {
    const text = message.text();
    if (message.type() === 'error' && !forgiven.some((pattern) => pattern.test(text))) {
      problems.push(`console: ${text}`);
    }
  });
  context.on('weberror', (error) => problems.push(`thrown: ${error.error().message}`));
  return context.newPage();
}

/// A screenshot: taken, seen not to be empty, and kept in docs/pages/ where that is asked for. One of
/// this name must stand there already otherwise.
async function shot(page, name, { whole = false } = {}) {
  const bytes = await page.screenshot({ fullPage: whole, animations: 'disabled', caret: 'hide' });
  assert.ok(bytes.length > 8_000, `the screenshot ${name} is empty: ${bytes.length} bytes`);
  assert.ok(bytes.length < 150_000, `the screenshot ${name} is large: ${bytes.length} bytes`);
  const folder = isKept ? KEPT : process.env.TOLLGATE_SHOTS;
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, `${name}.png`), bytes);
  await access(join(KEPT, `${name}.png`));
}

/// Fails if the page is wider than the screen.
export async function fits(page) {
  const [wide, screen] = await page.evaluate(() => {
    const root = document.documentElement;
    return [root.scrollWidth, root.clientWidth];
  });
  assert.ok(wide <= screen, `the page is ${wide} wide, the screen ${screen}`);
}

/// Goes on by the keyboard alone, with Tab, until what has the focus fits `selector`, and can be seen to
/// have it.
export async function tabTo(page, selector, { most = 100 } = {}) {
  for (let pressed = 0; pressed < most; pressed += 1) {
    await page.keyboard.press('Tab');
    const found = await page.evaluate((wanted) => {
      const focused = document.activeElement;
      if (!focused?.matches(wanted)) return null;
      const style = getComputedStyle(focused);
      return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
    }, selector);
    if (found === null) continue;
    assert.ok(found, `${selector} has the focus, and nobody sees it`);
    return;
  }
  assert.fail(`Tab does not lead to ${selector}`);
}

/// What keeps people from using the page who cannot see it well, or at all: controls without a name,
/// missing landmarks, text that stands out too little (WCAG 2.2, 1.4.3: 4.5 to 1).
export async function accessible(page) {
  const found = await page.evaluate(() => {
    const all = (selector) => [...document.querySelectorAll(selector)];
    const faults = [];
    const expect = (is, fault) => { if (!is) faults.push(fault); };
    expect(document.documentElement.lang, 'no language');
    expect(document.title, 'no title');
    expect(all('h1').length === 1, 'not one h1');
    expect(all('main').length === 1, 'not one main');
    const ids = all('[id]').map((element) => element.id);
    expect(new Set(ids).size === ids.length, 'an id stands twice');
    const name = (element) => element.getAttribute('aria-label') || element.textContent.trim();
    for (const control of all('input:not([type=hidden]), select, textarea')) {
      expect(control.labels.length || control.getAttribute('aria-label'), `no label: ${control.outerHTML}`);
    }
    for (const control of all('button, a[href], summary, svg[role=img], [role=region]')) {
      expect(name(control), `no name: ${control.outerHTML}`);
    }
    for (const head of all('th')) expect(head.scope, `no scope: ${head.textContent}`);
    for (const image of all('img')) expect(image.hasAttribute('alt'), `no alt: ${image.outerHTML}`);

    const parts = (color) => color.match(/[\d.]+/g).map(Number);
    const light = ([red, green, blue]) => {
      const linear = [red, green, blue].map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const ground = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = parts(getComputedStyle(at).backgroundColor);
        if (color[3] !== 0) return color;
      }
      return [255, 255, 255];
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement;
      const isSeen = texts.currentNode.textContent.trim() && element.checkVisibility()
        && element instanceof HTMLElement;
      if (!isSeen) continue;
      const [one, other] = [light(parts(getComputedStyle(element).color)), light(ground(element))];
      const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      expect(contrast >= 4.5, `contrast ${contrast.toFixed(1)}: ${texts.currentNode.textContent.trim()}`);
    }
    return faults;
  });
  assert.deepEqual(found, []);
}
