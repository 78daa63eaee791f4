// Somebody logs in at a real OpenID provider, the session ends when its time is over, and a log-out
// there makes the provider ask again.
import assert from 'node:assert/strict';

import { story, tabTo } from './browser.mjs';

await story(async ({ facts, shot, visit }) => {
  const { gate, provider } = facts;
  // The upstream's 404 for a favicon is nobody's business here.
  const page = await visit({ origins: [gate, provider], forgiven: [/status of 40[14]/] });
  await page.goto(`${gate}/?page=1`);
  await page.waitForURL(`${gate}/login?return=%2F%3Fpage%3D1`);
  await shot(page, 'login-provider');
  await tabTo(page, 'a', { most: 1 });
  await page.keyboard.press('Enter');
  await page.waitForURL(`${provider}/interaction/**`);
  await page.getByLabel('Who').fill('alice');
  await page.getByRole('button').click();
  await page.waitForURL(`${gate}/?page=1`);
  const names = (await page.context().cookies(gate)).map(({ name }) => name);
  assert.ok(names.includes('__Host-tollgate'), names.join());
  assert.ok(!names.includes('__Host-tollgate-flow'), names.join());

  await page.goto(`${gate}/logout`);
  assert.match(await page.locator('main').innerText(), /logged in as provider:alice/);

  // The session ends by itself; the provider still knows who it is.
  await page.goto(`${gate}/`);
  while (!page.url().startsWith(`${gate}/login`)) await page.goto(`${gate}/`);
  await page.getByText('Log in with Provider').click();
  await page.waitForURL(`${gate}/`);

  // Sessions are short here: one that has ended meanwhile is no longer known to be the provider's.
  const there = page.getByRole('link', { name: 'Log out at Provider, too' });
  for (;;) {
    await page.goto(`${gate}/logout`);
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByText('You are logged out').waitFor();
    if (await there.count()) break;
    await page.goto(`${gate}/login`);
    await page.getByText('Log in with Provider').click();
    await page.waitForURL(`${gate}/`);
  }
  await there.click();
  await page.waitForURL(`${provider}/session/end?client_id=gate`);
  await page.getByRole('button', { name: /^yes/i }).click();
  await page.waitForURL(`${provider}/session/end/success**`);
  await page.goto(`${gate}/login`);
  await page.getByText('Log in with Provider').click();
  await page.waitForURL(`${provider}/interaction/**`);
});
