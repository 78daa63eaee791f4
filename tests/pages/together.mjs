// Whoever logged in in a browser is out at once when an operator ends the session on the admin page.
import assert from 'node:assert/strict';

import { story } from './browser.mjs';

await story(async ({ facts, visit }) => {
  const { gate, admin } = facts;
  const person = await visit({ origins: [gate], forgiven: [/status of 40[14]/] });
  await person.goto(`${gate}/console`);
  await person.getByLabel('Name or e-mail address').fill('root');
  await person.locator('[name=password]').fill('memphis');
  await person.keyboard.press('Enter');
  await person.waitForURL(`${gate}/console`);
  await person.reload();
  assert.equal(await person.locator('h1').innerText(), 'Legacy console');

  const operator = await visit({ origins: [admin] });
  await operator.goto(admin);
  await operator.waitForFunction(() => document.querySelector('#session-result').textContent === '1 session');
  assert.match(await operator.locator('#session-rows').innerText(), /^root/);
  await operator.getByRole('button', { name: 'Revoke the session of root' }).click();
  await operator.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await operator.waitForFunction(() => document.querySelector('#session-result').textContent === 'Revoked. 0 sessions');

  await person.reload();
  await person.waitForURL(`${gate}/login?return=%2Fconsole`);
});
