// Somebody logs in on the gate's page, works, and logs out; by keyboard, without scripts, on a phone.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';

import { fits, story, tabTo } from './browser.mjs';

const SESSION = '__Host-tollgate';
/// The browser's own words for answers that the story waits for, and for icons that JSON has not.
const forgiven = [/status of 40[134]/];

await story(async ({ facts, shot, visit }) => {
  const { gate } = facts;
  const options = { origins: [gate], forgiven };
  const isThere = async (page, path) => page.waitForURL(gate + path);
  const text = (page) => page.locator('body').innerText();

  // By the keyboard alone: the first field has the focus.
  const page = await visit(options);
  await page.goto(`${gate}/console`);
  await isThere(page, '/login?return=%2Fconsole');
  assert.equal(await page.title(), 'Log in');
  await fits(page);
  await shot(page, 'login');
  await page.keyboard.type('root');
  await tabTo(page, '[name=password]', { most: 1 });
  await page.keyboard.type('wrong');
  await tabTo(page, 'button', { most: 1 });
  await page.keyboard.press('Enter');
  const alert = page.getByRole('alert');
  assert.equal(await alert.innerText(), 'The name or the password is wrong.');
  assert.equal(await page.getByLabel('Name or e-mail address').inputValue(), 'root');
  await shot(page, 'login-refused');
  // Now the password has it.
  await page.keyboard.type('memphis');
  await page.keyboard.press('Enter');
  await isThere(page, '/console');
  assert.equal(await page.locator('h1').innerText(), 'Legacy console');

  const cookies = await page.context().cookies();
  const session = cookies.find(({ name }) => name === SESSION);
  assert.deepEqual(
    [session.httpOnly, session.secure, session.sameSite, session.path],
    [true, true, 'Lax', '/'],
  );
  assert.equal(await page.evaluate(() => document.cookie), '');

  // The page's own script may ask; the service sees its own user, and no cookie of the gate's.
  const seen = await page.evaluate(async () => (await fetch('/headers')).json());
  assert.equal(seen.authorization, 'Basic legacy:***');
  assert.equal(seen.cookie, undefined);

  // Another site's page may neither act nor log out in this browser.
  const evil = createServer((request, response) => {
    const form = (path) => `<form method=post target=_blank action="${gate}${path}"><button id=${path.slice(1)}>`
      + `${path}</button><input name=form value=x></form>`;
    response.setHeader('content-type', 'text/html');
    response.end(`<link rel=icon href="data:,">${form('/logout')}${form('/console')}`);
  });
  await new Promise((done) => evil.listen(0, '127.0.0.1', done));
  const origin = `http://evil.example:${evil.address().port}`;
  const other = await page.context().newPage();
  options.origins.push(origin);
  await other.goto(origin);
  for (const [target, words] of [['logout', /form was too old|another site/i], ['console', /./]]) {
    const [popup] = await Promise.all([
      page.context().waitForEvent('page'),
      other.click(`#${target}`),
    ]);
    await popup.waitForLoadState();
    assert.match(await text(popup), words);
    assert.ok(!/Legacy console|logged out/.test(await text(popup)), await text(popup));
    await popup.close();
  }
  evil.close();
  await page.goto(`${gate}/console`);
  await isThere(page, '/console');

  // Logging out, by keyboard.
  await tabTo(page, '[href="/logout"]', { most: 3 });
  await page.keyboard.press('Enter');
  await isThere(page, '/logout');
  assert.match(await text(page), /logged in as root/);
  await shot(page, 'logout');
  await page.keyboard.press('Enter');
  await page.getByText('You are logged out').waitFor();
  await shot(page, 'logged-out');
  const left = (await page.context().cookies()).map(({ name }) => name);
  assert.ok(!left.includes(SESSION), left.join());
  await page.goto(`${gate}/console`);
  await isThere(page, '/login?return=%2Fconsole');

  // What cannot be done is told on a page, with a way on.
  await page.goto(`${gate}/login/callback?state=x`);
  assert.match(await page.getByRole('alert').innerText(), /begun in another browser/);
  await shot(page, 'refused');
  await tabTo(page, 'a', { most: 1 });
  await page.keyboard.press('Enter');
  await isThere(page, '/login');

  // On a phone, without scripts.
  const phone = await visit({ ...options, phone: true, more: { javaScriptEnabled: false } });
  await phone.goto(`${gate}/console`);
  await fits(phone);
  await shot(phone, 'login-phone');
  await phone.getByLabel('Name or e-mail address').fill('root@example.com');
  await phone.getByLabel('Password').fill('memphis');
  await phone.getByRole('button', { name: 'Log in' }).tap();
  await isThere(phone, '/console');
}, { hosts: ['evil.example'] });
