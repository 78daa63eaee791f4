// Can operators see how the gate does, find and end a session, and learn why a token is refused?
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

import { accessible, fits, isKept, story, tabTo } from './browser.mjs';

const json = { 'content-type': 'application/json' };

await story(async ({ visit, shot, facts }) => {
  const { gate, admin, marked, secrets } = facts;
  const login = async (username) => {
    const body = JSON.stringify({ username, password: 'memphis' });
    const answer = await fetch(`${gate}/auth/authenticate`, { method: 'POST', headers: json, body });
    assert.equal(answer.status, 200, username);
    return (await answer.json()).jwt;
  };
  const status = async (path, token) => {
    const answer = await fetch(`${gate}${path}`, { headers: { authorization: `Bearer ${token}` } });
    await answer.arrayBuffer();
    return answer.status;
  };
  const open = async (options = {}) => {
    const page = await visit({ origins: [admin], ...options });
    await page.goto(admin);
    await page.waitForFunction(() => document.querySelector('#readiness').textContent === 'ready');
    await page.waitForFunction(() => /^\d+ session/.test(document.querySelector('#session-result').textContent));
    return page;
  };
  const becomes = (page, id, pattern) => page.waitForFunction(([id, pattern]) => (
    new RegExp(pattern).test(document.getElementById(id).textContent)), [id, pattern.source]);
  const text = (page, id) => page.locator(`#${id}`).textContent();

  const tokens = {};
  for (const name of ['root', 'alice', 'alice', 'bob', 'carol', marked]) tokens[name] = await login(name);
  const made = await fetch(`${gate}/api/v1/application_token`, {
    method: 'POST',
    headers: { ...json, authorization: `Bearer ${tokens.carol}` },
    body: JSON.stringify({ description: 'the night’s report' }),
  });
  assert.equal(made.status, 200);

  let isOver = false;
  const traffic = (async () => {
    while (!isOver) {
      for (const _ of [1, 2, 3, 4]) await status('/app/a', tokens.root);
      await status('/app/b', 'x.y.z');
      await status('/write/a', tokens.bob);
      await pause(10);
    }
  })();

  await seen();
  await searched();
  await keyboard();
  await inspected();
  await phone();
  isOver = true;
  await traffic;

  /// Waits until a line is drawn; for a screenshot that is kept, a longer one.
  async function points(page, id, kind) {
    await page.waitForFunction(([id, kind, count]) => {
      const line = document.querySelector(`#${id} polyline.${kind}`);
      return line?.getAttribute('points').split(' ').length >= count;
    }, [id, kind, isKept ? 14 : 2]);
  }

  /// All that moves, with real numbers.
  async function seen() {
    const page = await open();
    for (const [id, kind] of [['requests', 'main'], ['errors', 'bad'], ['errors', 'fair'],
      ['latency', 'main'], ['latency', 'other'], ['cache', 'main']]) await points(page, id, kind);
    await becomes(page, 'requests-value', /^[1-9]\d*(\.\d+)?\/s$/);
    // A third of it is refused, none of it fails.
    await becomes(page, 'errors-value', /^0 %, 3\d %$/);
    await becomes(page, 'latency-value', /^[\d.]+ (µs|ms), [\d.]+ (µs|ms)$/);
    await becomes(page, 'cache-value', /^[1-9]\d*(\.\d)? %$/);
    assert.match(await page.locator('#latency').getAttribute('aria-label'), /now: .*, .*/);
    const refusals = await text(page, 'refusals');
    for (const reason of ['malformed_token', 'insufficient_scope']) assert.ok(refusals.includes(reason));
    await becomes(page, 'upstream-rows', /app.*up.*spare.*down/);
    assert.match(await text(page, 'key-rows'), /k1.*HS256.*signs/);
    assert.match(await text(page, 'certificate-rows'), /secure.*gate\.example.*in \d+ days/);
    assert.match(await text(page, 'ground-tiles'), /file.*in step/);
    // What somebody chose as a name is text.
    assert.ok((await text(page, 'session-rows')).includes(marked));
    assert.equal(await page.locator('img').count(), 0);
    await accessible(page);
    await shot(page, 'admin');

    const dark = await open({ more: { colorScheme: 'dark' } });
    await accessible(dark);
    const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.notEqual(await ground(dark), await ground(page));
    await dark.close();

    await page.locator('summary').click();
    await page.waitForFunction(() => document.querySelector('#config-text').textContent.includes('seal_key_file'));
    const config = await text(page, 'config-text');
    for (const secret of secrets) assert.ok(!config.includes(secret), secret);
    assert.ok(config.includes('"refresh_grace": "10s"'), 'a default');
    await page.close();
  }

  /// By the mouse: a session is found, kept, and then ended, and its token with it.
  async function searched() {
    const page = await open();
    await page.getByLabel('A part of the account’s name, or the beginning').fill('ALI');
    await page.locator('#session-form button').click();
    await page.waitForFunction(() => document.querySelector('#session-result').textContent === '2 sessions');
    assert.equal(await page.locator('#session-rows tr').count(), 2);
    assert.equal(await status('/app/a', tokens.alice), 200);
    const family = JSON.parse(Buffer.from(tokens.alice.split('.')[1], 'base64url')).fam;
    const press = page.locator('#session-rows tr', { hasText: family }).getByRole('button');
    await press.click();
    await page.getByRole('dialog').getByRole('button', { name: 'Keep' }).click();
    assert.equal(await status('/app/a', tokens.alice), 200);
    // Opened again before it is told that it was closed: one question at a time, and its own answer.
    await press.evaluate((button) => {
      button.click();
      document.querySelector('dialog').close('keep');
      button.click();
    });
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
    await page.waitForFunction(() => document.querySelector('#session-result').textContent === 'Revoked. 1 session');
    assert.equal(await status('/app/a', tokens.alice), 401);
    assert.equal(await status('/app/a', tokens.root), 200);
    await page.close();
  }

  /// By the keyboard alone: everything is reached, and seen to be.
  async function keyboard() {
    const page = await open();
    await tabTo(page, '.skip', { most: 1 });
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement.id === 'main');
    await tabTo(page, '#session-search');
    await page.keyboard.type('bob');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelector('#session-result').textContent === '1 session');
    await tabTo(page, '#session-rows button');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement.value === 'keep');
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => document.activeElement.matches('#session-rows button'));
    assert.equal(await status('/app/a', tokens.bob), 200);
    await page.keyboard.press('Space');
    await tabTo(page, 'dialog [value=revoke]', { most: 3 });
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement.textContent === 'Revoked. 0 sessions');
    assert.equal(await status('/app/a', tokens.bob), 401);

    await tabTo(page, '#application-search');
    await page.keyboard.type('carol');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelector('#application-result').textContent === '1 application token');
    await tabTo(page, '#application-rows button');
    await page.keyboard.press('Enter');
    await tabTo(page, 'dialog [value=revoke]', { most: 3 });
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement.textContent === 'Revoked. 1 application token');
    assert.match(await text(page, 'application-rows'), /carol.*report.*revoked/);

    await tabTo(page, '#inspect-token');
    await page.keyboard.insertText(tokens.root);
    for (const [id, typed] of [['method', 'PUT'], ['host', 'gate.example'], ['path', 'write/x']]) {
      await tabTo(page, `#inspect-${id}`, { most: 1 });
      if (id === 'path') await page.keyboard.press('End');
      await page.keyboard.type(typed);
    }
    await tabTo(page, '#inspect-form button', { most: 1 });
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => /^Passes/.test(document.querySelector('#inspect-result').textContent));
    await tabTo(page, '#inspect-result pre', { most: 2 });
    await tabTo(page, 'summary', { most: 1 });
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelector('#config-text').textContent);
    await tabTo(page, '#config-text', { most: 1 });
    await page.close();
  }

  /// Why a token passes or not, without its signature, and gone when that is wished.
  async function inspected() {
    const page = await open();
    const inspect = async (token, path, expected) => {
      await page.getByLabel('Token', { exact: true }).fill(token);
      await page.getByLabel('Path').fill(path);
      await page.getByRole('button', { name: 'Inspect' }).click();
      await page.waitForFunction((expected) => new RegExp(expected)
        .test(document.querySelector('#inspect-result').textContent), expected);
    };
    await inspect(tokens.root, '/app/x', '^Passes.*/app/\\*\\*.*is good');
    await inspect(tokens.bob, '/app/x', '^Refused with 401.*revoked');
    await inspect(`${tokens.root.slice(0, -4)}AAAA`, '/app/x', '^Refused with 401.*invalid_signature.*nothing of it is proved');
    await inspect('', '/app/x', '^Refused with 401.*missing_credential');
    await inspect(tokens[marked], '/write/x', '^Refused with 403.*insufficient_scope');
    const told = await text(page, 'inspect-result');
    assert.match(told, /Scopes wanted *admin/);
    assert.match(told, /Scopes it lacks *admin/);
    assert.ok(told.includes(marked) && !told.includes(tokens[marked].split('.')[2]));
    assert.equal(await page.locator('img').count(), 0);
    await accessible(page);
    await page.locator('#inspector').scrollIntoViewIfNeeded();
    await page.getByRole('button', { name: 'Clear' }).click();
    assert.equal(await page.getByLabel('Token', { exact: true }).inputValue(), '');
    assert.equal(await text(page, 'inspect-result'), '');
    await page.close();
  }

  /// On a phone nothing is wider than the screen, with all of it filled.
  async function phone() {
    const page = await open({ phone: true });
    await points(page, 'requests', 'main');
    await fits(page);
    await shot(page, 'admin-phone');
    await page.getByLabel('Token', { exact: true }).fill(tokens.root);
    await page.getByRole('button', { name: 'Inspect' }).click();
    await page.waitForFunction(() => document.querySelector('#inspect-result').textContent);
    await page.locator('summary').click();
    await page.waitForFunction(() => document.querySelector('#config-text').textContent);
    await fits(page);
    await accessible(page);
    await page.close();
  }
});
