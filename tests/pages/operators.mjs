// Does the page work for an operator on another machine, who proves who it is, and for nobody else?
import assert from 'node:assert/strict';

import { story } from './browser.mjs';

await story(async ({ visit, facts }) => {
  const { admin, password, token } = facts;
  const as = (username, password) => ({ more: { httpCredentials: { username, password } } });
  const forgiven = [/status of 401/];

  for (const options of [{}, as('olga', 'wrong'), as('root', 'memphis')]) {
    const page = await visit({ origins: [admin], forgiven, ...options });
    const answer = await page.goto(admin).catch(() => null);
    // Without credentials the browser shows its own page, as a person who presses Cancel sees it.
    assert.ok(answer === null || answer.status() === 401);
    assert.equal(await page.locator('main').count(), 0);
    await page.close();
  }

  const page = await visit({ origins: [admin], ...as('olga', password) });
  await page.goto(admin);
  await page.waitForFunction(() => document.querySelector('#readiness').textContent === 'ready');
  await page.waitForFunction(() => document.querySelector('#session-result').textContent === '1 session');
  await page.locator('#session-rows button').click();
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await page.waitForFunction(() => document.querySelector('#session-result').textContent === 'Revoked. 0 sessions');
  await page.getByLabel('Token', { exact: true }).fill(token);
  await page.getByLabel('Path').fill('/app/x');
  await page.getByRole('button', { name: 'Inspect' }).click();
  await page.waitForFunction(() => /^Passes/.test(document.querySelector('#inspect-result').textContent));
}, { hosts: ['admin.example'] });
