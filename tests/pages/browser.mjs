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
  const writes = process.env.TOLLGATE_SCREENSHOTS === 'write';
  const folder = writes ? KEPT : process.env.TOLLGATE_SHOTS;
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
