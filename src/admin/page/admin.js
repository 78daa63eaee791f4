'use strict';
// Data stands in text nodes alone: nothing that a client or an account named is read as markup.

const $ = (id) => document.getElementById(id);
/// Milliseconds between two looks, and how many of them the plots show: five minutes, or less before
/// there are as many.
const PAUSE = 2000;
const SHOWN = 150;
const FIRST = 15;

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  Object.assign(element, properties);
  element.append(...children.map((child) => child ?? ''));
  return element;
}

function draw(name, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

async function ask(path, question) {
  const options = question === undefined ? {} : {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(question),
  };
  const answer = await fetch(path, { ...options, cache: 'no-store', credentials: 'same-origin' });
  const body = await answer.text();
  if (!answer.ok) throw new Error(body.trim() || `status ${answer.status}`);
  return answer.headers.get('content-type') === 'application/json' ? JSON.parse(body) : body.trim();
}

// Numbers and times, as people read them.
const sum = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);
const few = (number) => (number >= 100 ? number.toFixed(0) : number.toPrecision(2).replace(/\.0$/, ''));
const percent = (share) => `${few(share * 100)} %`;
const milliseconds = (ms) => (ms < 1 ? `${few(ms * 1000)} µs` : `${few(ms)} ms`);
const whole = (number) => Math.round(number).toLocaleString('en');
const bytes = (count) => `${(count / 2 ** 20).toFixed(0)} MiB`;
const time = (seconds) => (seconds === null ? 'never'
  : new Date(seconds * 1000).toISOString().replace('T', ' ').replace(/:\d\d\.\d+Z$/, ' UTC'));

function span(seconds) {
  const size = Math.abs(seconds);
  const units = [[86400, 'days'], [3600, 'hours'], [60, 'minutes'], [1, 'seconds']];
  const [unit, name] = units.find(([unit]) => size >= 2 * unit) ?? [1, 'seconds'];
  return `${Math.floor(size / unit)} ${name}`;
}

// ---- what is plotted: rates between two looks at sums.

const samples = [];
let before = null;

function rates(now) {
  const last = before;
  before = now;
  // A gate that was started again counts from zero.
  if (!last || sum(now.totals.requests) < sum(last.totals.requests)) return;
  const seconds = (now.now - last.now) / 1000;
  if (seconds <= 0) return;
  const [new_, old] = [now.totals, last.totals];
  const more = (name) => (new_.requests[name] ?? 0) - (old.requests[name] ?? 0);
  const count = sum(new_.requests) - sum(old.requests);
  const share = (part) => (count > 0 ? part / count : null);
  const mean = (name) => {
    const times = new_[name].count - old[name].count;
    return times > 0 ? ((new_[name].seconds - old[name].seconds) / times) * 1000 : null;
  };
  const hits = new_.cache_hits - old.cache_hits;
  const lookups = hits + new_.cache_misses - old.cache_misses;
  samples.push({
    requests: count / seconds,
    errors: share(more('5xx')),
    refusals: share(more('4xx')),
    gate: mean('gate_seconds'),
    upstream: mean('upstream_seconds'),
    hits: lookups > 0 ? hits / lookups : null,
  });
  if (samples.length > SHOWN) samples.shift();
}

/// Draws lines over the last minutes: `lines` are names of samples with the class of their line.
function plot(id, lines, format, most) {
  const svg = $(id);
  const all = samples.flatMap((sample) => lines.map(([name]) => sample[name] ?? 0));
  const top = most ?? Math.max(...all, Number.MIN_VALUE);
  const width = Math.max(samples.length, FIRST);
  const x = (index) => (300 * (width - samples.length + index)) / (width - 1);
  const y = (value) => 84 - (72 * value) / top;
  const drawn = lines.map(([name, kind]) => {
    const points = samples.flatMap((sample, index) => (
      sample[name] === null ? [] : [`${x(index).toFixed(1)},${y(sample[name]).toFixed(1)}`]));
    return draw('polyline', { class: kind, points: points.join(' ') });
  });
  const past = `${span((width - 1) * (PAUSE / 1000))} ago`;
  const begin = draw('text', { x: 0, y: 98 }, past);
  const base = draw('line', { x1: 0, x2: 300, y1: 84.5, y2: 84.5 });
  const scale = draw('text', { x: 0, y: 10 }, top > Number.MIN_VALUE ? format(top) : '');
  svg.replaceChildren(base, begin, scale, ...drawn);
  const newest = samples.at(-1) ?? {};
  const values = lines.map(([name]) => (newest[name] == null ? '–' : format(newest[name])));
  $(`${id}-value`).textContent = values.join(', ');
  const title = svg.dataset.title ??= svg.getAttribute('aria-label');
  svg.setAttribute('aria-label', `${title}, now: ${values.join(', ')}`);
}

// ---- tables and lists.

const cell = (text, kind = '') => make('td', { className: kind }, `${text ?? ''}`);
const row = (...cells) => make('tr', {}, ...cells);
const rows = (id, all, columns, none) => $(id).replaceChildren(...(all.length ? all
  : [row(make('td', { colSpan: columns }, none))]));
const tiles = (id, pairs) => $(id).replaceChildren(...pairs.map(([name, value]) => (
  make('div', {}, make('dt', {}, name), make('dd', {}, value)))));

function showStatus(status) {
  const { totals, store, keys, config } = status;
  $('version').textContent = `version ${status.version}`;
  say('readiness', status.readiness === 'ok' ? 'ready' : status.readiness);
  $('readiness').className = status.is_ready ? 'good' : 'bad-text';
  rates(status);
  plot('requests', [['requests', 'main']], (value) => `${few(value)}/s`);
  plot('errors', [['errors', 'bad'], ['refusals', 'fair']], percent, 1);
  plot('latency', [['gate', 'main'], ['upstream', 'other']], milliseconds);
  plot('cache', [['hits', 'main']], percent, 1);
  const limit = totals.memory_limit_bytes ? ` of ${bytes(totals.memory_limit_bytes)}` : '';
  tiles('tiles', [
    ['Requests in all', whole(sum(totals.requests))], ['Under way', whole(totals.in_flight)],
    ['Tunnels', whole(totals.tunnels)], ['Connections', whole(totals.connections)],
    ['Tokens in the cache', whole(totals.cache_entries)], ['Memory', bytes(totals.memory_bytes) + limit],
  ]);
  const refusals = Object.entries(totals.refusals).sort((one, other) => other[1] - one[1]);
  rows('refusals', refusals.map(([reason, count]) => row(cell(reason), cell(whole(count), 'number'))),
    2, 'none');
  rows('upstream-rows', status.upstreams.flatMap(upstreamRows), 6, 'none');
  rows('key-rows', [...keys.own.map((key) => row(cell('the gate'), cell(key.id, 'id'),
    cell(key.algorithm), cell(key.signs ? 'signs' : 'verifies'))), ...keys.issuers.flatMap(issuerRows)],
  4, 'none');
  rows('certificate-rows', status.certificates.map((one) => certificate(one, status.now / 1000)), 3,
    'none: no listener has TLS');
  tiles('ground-tiles', [
    ['Store', store.kind],
    ['Its state', store.state === 'in_step' ? 'in step' : `${store.state}, for ${span(store.staleness_seconds)}`],
  ]);
  $('config-state').textContent = [
    config.is_last_reload_good ? '' : 'The last change was refused: the log says why. ',
    config.needs_restart ? 'Parts of it wait for a restart: the log says which.' : '',
  ].join('') || 'The files’ last state is in force.';
}

function upstreamRows({ name, endpoints, answers, errors }) {
  const counts = [sum(answers), answers['5xx'] ?? 0, sum(errors)].map((count) => cell(whole(count), 'number'));
  const all = endpoints.length ? endpoints : [{ address: 'no address is known', state: 'down' }];
  return all.map(({ address, state }, index) => row(cell(index ? '' : name), cell(address, 'id'),
    cell(state, state), ...(index ? [cell(''), cell(''), cell('')] : counts)));
}

function issuerRows({ issuer, state, keys, last_error: error }) {
  const told = error ? `${state}: ${error}` : state;
  return keys.length
    ? keys.map((key) => row(cell(issuer), cell(key.id, 'id'), cell(key.algorithm), cell(told)))
    : [row(cell(issuer), cell('no key'), cell(''), cell(told))];
}

function certificate({ listener, name, expires }, now) {
  const left = expires - now;
  const kind = left <= 0 ? 'bad-text' : left < 14 * 86400 ? 'fair-text' : '';
  return row(cell(listener), cell(name),
    cell(`${time(expires)} (${left > 0 ? 'in' : 'for'} ${span(left)})`, kind));
}

/// Tells in a live region; the same again is no news.
function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// ---- sessions and application tokens.

/// Answers the question that the dialog asks, if it asks one.
let settle = () => {};
$('confirm').addEventListener('close', () => {
  // What closed before it was opened again was settled then: this event comes late.
  if (!$('confirm').open) settle($('confirm').returnValue === 'revoke');
});

/// Asks before it takes back; who is asked and says no is back where they were.
async function revoke(question, text) {
  const dialog = $('confirm');
  settle(false);
  $('confirm-text').textContent = text;
  dialog.returnValue = 'keep';
  const answered = new Promise((done) => { settle = done; });
  dialog.showModal();
  return (await answered) ? ask('/revoke', question) : null;
}

function finder({ kind, path, columns, toRow, noun }) {
  const [form, result, input] = ['form', 'result', 'search'].map((part) => $(`${kind}-${part}`));
  let turn = 0;
  const search = async () => {
    const mine = turn += 1;
    try {
      const found = await ask(`${path}?search=${encodeURIComponent(input.value)}`);
      if (mine !== turn) return '';
      rows(`${kind}-rows`, found.rows.map((one) => toRow(one, take)), columns, 'none');
      const count = found.rows.length;
      return `${count} ${noun}${count === 1 ? '' : 's'}${found.is_whole ? '' : ', and there may be more: say more of the name'}`;
    } catch (error) {
      return `Not found out: ${error.message}`;
    }
  };
  const take = async (question, text) => {
    try {
      const done = await revoke(question, text);
      if (done === null) return;
      const now = await search();
      result.textContent = `Revoked. ${now}`;
    } catch (error) {
      result.textContent = `Not revoked: ${error.message}`;
    }
    result.focus();
  };
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    result.textContent = await search();
  });
  search().then((text) => { result.textContent = text; });
}

const button = (label, whose, press) => {
  const element = make('button', { type: 'button', className: 'danger' }, label);
  element.setAttribute('aria-label', `${label} ${whose}`);
  element.addEventListener('click', press);
  return element;
};

const sessions = {
  kind: 'session', path: '/sessions', columns: 6, noun: 'session',
  toRow: (one, take) => row(cell(one.subject), cell(one.family, 'id'), cell(time(one.renewed)),
    cell(time(one.expires)), cell(one.renewals, 'number'),
    make('td', {}, button('Revoke', `the session of ${one.subject}`, () => take(
      { family: one.family }, `Every token of this session of ${one.subject} is refused from now on.`)))),
};

const applications = {
  kind: 'application', path: '/application-tokens', columns: 7, noun: 'application token',
  toRow: (one, take) => row(cell(one.number, 'number'), cell(one.creator), cell(one.description),
    cell(one.scope), cell(time(one.expires)),
    cell(one.is_good ? 'good' : one.is_revoked ? 'revoked' : 'expired', one.is_good ? 'good' : ''),
    make('td', {}, one.is_good ? button('Revoke', `application token ${one.number}`, () => take(
      { application_token: one.number },
      `Application token ${one.number} of ${one.creator}, and all that it bought, is refused from now on.`)) : '')),
};

// ---- the inspector.

function inspection(told) {
  const { route, token, mqtt } = told;
  const pairs = [];
  const add = (name, value) => { if (value) pairs.push(make('dt', {}, name), make('dd', {}, value)); };
  const list = (names) => (names.length ? names.join(' ') : 'none');
  add('Why', told.reason && `${told.reason}: ${told.text}`);
  add('Answered by', told.endpoint);
  if (route) {
    add('Route', route.name);
    add('Upstream', route.upstream);
    add('Wants', route.is_public ? 'nothing: it is public' : 'a good token');
    if (!route.is_public) {
      add('Scopes wanted', list(route.wants.scopes));
      add('Groups wanted', route.wants.groups.length ? `one of ${route.wants.groups.join(' ')}` : 'none');
      for (const other of route.wants.others) add('Wanted', other);
    }
  }
  if (mqtt) {
    const within = (texts, any, none) => (texts === null ? any : texts.join(' ') || none);
    add('CONNACK', `${mqtt.connack.before_5}, in 5.0 0x${mqtt.connack.since_5.toString(16).padStart(2, '0')}`);
    if (told.verdict === 'passes') {
      add('Client identifier', within(mqtt.client_id, 'any', 'none'));
      add('User name', mqtt.username_is_subject && 'the subject');
      add('Publishes', within(mqtt.publish, 'everywhere', 'nowhere'));
      add('Subscribes', within(mqtt.subscribe, 'everywhere', 'nowhere'));
    }
  }
  if (token) {
    add('The token', token.is_good ? 'is good' : `${token.reason}: ${token.text}`);
    if (token.is_good) {
      add('Scopes it has', list(token.scopes));
      add('Groups it has', list(token.groups));
      const missing = (route?.wants.scopes ?? []).filter((scope) => !token.scopes.includes(scope));
      add('Scopes it lacks', missing.join(' '));
    }
    add('Key id', `${token.key_id ?? '(none)'}, ${token.is_key_known ? 'known' : 'not known'}`);
    add('Issuer', token.issuer);
    add('Expires', token.expires_in === null ? 'it does not say'
      : token.expires_in > 0 ? `in ${span(token.expires_in)}` : `${span(token.expires_in)} ago`);
    if (token.claims) {
      const text = JSON.stringify({ header: token.header, claims: token.claims }, null, 2);
      const proved = token.is_good ? 'Says' : 'Says (nothing of it is proved)';
      const shown = make('pre', { tabIndex: 0 }, text);
      shown.setAttribute('aria-label', 'Header and claims of the token');
      shown.setAttribute('role', 'region');
      add(proved, shown);
    }
  }
  const words = {
    passes: 'Passes', refused: `Refused with ${told.status}`, answered: 'Answered by the gate itself',
  };
  const kind = told.verdict === 'refused' ? 'bad-text' : 'good';
  return [make('p', { className: `verdict ${kind}` }, words[told.verdict]), make('dl', {}, ...pairs)];
}

function inspector() {
  const [form, result] = [$('inspect-form'), $('inspect-result')];
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const question = Object.fromEntries(['token', 'method', 'host', 'path']
      .map((name) => [name, $(`inspect-${name}`).value]));
    try {
      result.replaceChildren(...inspection(await ask('/inspect', question)));
    } catch (error) {
      result.textContent = `Not found out: ${error.message}`;
    }
  });
  form.addEventListener('reset', () => result.replaceChildren());
}

// ---- it begins.

async function look() {
  try {
    if (!document.hidden) showStatus(await ask('/status'));
  } catch (error) {
    say('readiness', `no answer: ${error.message}`);
    $('readiness').className = 'bad-text';
  }
  setTimeout(look, PAUSE);
}

$('config-details').addEventListener('toggle', async () => {
  if (!$('config-details').open) return;
  try {
    $('config-text').textContent = JSON.stringify(await ask('/config'), null, 2);
  } catch (error) {
    $('config-text').textContent = error.message;
  }
});

look();
finder(sessions);
finder(applications);
inspector();
