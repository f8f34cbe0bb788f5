// The operator's page: the load line of one node, every second, and overrides.

import { bars, bytes, duration, figures, grouped, make, samples, words } from './parts.js';

const POLL_MS = 1_000;
const ANSWER_MS_MAX = 5_000;
const LEVELS = ['normal', 'warning', 'degraded', 'critical', 'emergency'];
const MEANINGS = [
  'Everything is on.',
  'The nice things come less often.',
  'Only the core; history is rationed.',
  'Load is shed; new clients wait.',
  'The process protects itself.',
];
const ENTER = [0.70, 0.85, 0.95, 1.00];
// One place each, whatever the figures: nobody can read what changes places every second.
const RESOURCES = ['cpu', 'lag', 'memory', 'outbound', 'connections', 'descriptors', 'accept',
  'egress', 'backbone'];
// The bars end a little above the rated load, so that one can see it being passed.
const PRESSURE_MAX = 1.2;

const byId = (id) => document.getElementById(id);
let key = sessionStorage.getItem('key') ?? '';
let seen = 0;

byId('author').value = localStorage.getItem('author') ?? '';
byId('what').addEventListener('change', showStrength);
byId('order').addEventListener('submit', (event) => {
  event.preventDefault();
  order();
});
byId('clear').addEventListener('click', () => change('DELETE', '/admin/overload'));
byId('key-dialog').addEventListener('close', () => {
  key = byId('key').value;
  sessionStorage.setItem('key', key);
  poll();
});
for (const mark of document.querySelectorAll('.scale [data-at]')) {
  mark.style.left = `${mark.dataset.at / PRESSURE_MAX}%`;
}
poll();

async function poll() {
  try {
    const [status, metrics] = await Promise.all([call('/admin/status'), call('/metrics')]);
    if (status.status === 401) {
      byId('live').textContent = 'needs the key';
      byId('key-dialog').showModal();
      return;
    }
    if (!status.ok || !metrics.ok) throw new Error(`the node answered ${status.status}`);
    show(await status.json(), samples(await metrics.text()));
    seen = Date.now();
    showLive('live');
  } catch {
    const away = seen ? ` for ${duration((Date.now() - seen) / 1000)}` : '';
    showLive(`no answer${away}`, true);
  }
  setTimeout(poll, POLL_MS);
}

function call(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers['X-API-Key'] = key;
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  return fetch(path, { ...options, headers, signal, cache: 'no-store' });
}

function showLive(text, lost = false) {
  const live = byId('live');
  // Told by a screen reader when it changes, not every second.
  if (live.textContent !== text) live.textContent = text;
  live.classList.toggle('lost', lost);
  document.body.classList.toggle('stale', lost);
}

function show(status, metrics) {
  const { load } = status;
  showHead(status, load, metrics);
  showOverrides(load.override);
  const rank = (name) => [...RESOURCES, name].indexOf(name);
  bars(byId('pressures'), Object.entries(load.pressures)
    .map(([name, value]) => ({ name, value, most: PRESSURE_MAX, level: levelOf(value) }))
    .sort((a, b) => rank(a.name) - rank(b.name)));
  bars(byId('actions'), Object.entries(load.actions)
    .map(([name, value]) => ({ name, value, most: 1, level: value > 0 ? 'on' : 'off' })));
  showChoices(Object.keys(load.actions));
  showNow(status, metrics);
  const prefix = 'plimsoll_signal{signal="';
  figures(byId('signals'), [...metrics]
    .filter(([series]) => series.startsWith(prefix))
    .map(([series, value]) => signal(series.slice(prefix.length, -2), value)));
}

function showHead(status, load, metrics) {
  document.body.dataset.level = LEVELS[load.level] ?? 'unknown';
  document.title = `${load.level} ${load.level_name} · ${status.name}`;
  byId('node').textContent = `${status.name} · ${status.version}`;
  byId('level').textContent = load.level;
  byId('level-name').textContent = load.level_name;
  const pinned = load.override.some((each) => 'pin_level' in each);
  const why = [MEANINGS[load.level] ?? ''];
  if (pinned) why.push('Pinned by hand.');
  if (!load.enabled) why.push('Switched off: nothing is given up.');
  if (!load.accept_new_connections) why.push('New connections are refused.');
  if (status.stopping) why.push('The node is stopping.');
  byId('level-why').textContent = why.join(' ');
  byId('score').textContent = load.score.toFixed(2);
  byId('hot').textContent = load.hot_resource ? words(load.hot_resource) : 'nothing';
  byId('transitions').textContent = grouped(metrics.get('plimsoll_level_transitions_total'));
  byId('gauge').style.height = `${Math.min(100, (100 * load.score) / PRESSURE_MAX)}%`;
}

function showOverrides(overrides) {
  byId('overrides-part').hidden = overrides.length === 0;
  byId('overrides').replaceChildren(...overrides.map((each) => {
    const item = make('li', '');
    const { what, subject } = described(each);
    const text = make('div', '');
    text.append(
      make('p', 'override-what', what),
      make('p', 'override-why', `${each.reason} · ${each.author} · ${duration(each.left_s)} left`),
    );
    const end = make('button', '', 'End');
    end.type = 'button';
    end.addEventListener('click', () => change('DELETE', `/admin/overload?subject=${subject}`));
    item.append(text, end);
    return item;
  }));
}

function described(each) {
  if ('pin_level' in each) {
    return { what: `Level ${each.pin_level} ${LEVELS[each.pin_level]}`, subject: 'level' };
  }
  if ('pin_action' in each) {
    const what = `${words(each.pin_action)} at ${each.strength}`;
    return { what, subject: encodeURIComponent(each.pin_action) };
  }
  const what = each.accept_new_connections ? 'New connections let in' : 'New connections refused';
  return { what, subject: 'accept_new_connections' };
}

function showNow(status, metrics) {
  const rate = (name) => `${grouped(status.rates[`${name}_per_second`])} /s`;
  const rated = status.capacity.rated.connections;
  const connections = grouped(status.connections);
  figures(byId('now'), [
    ['Connections', rated ? `${connections} of ${grouped(rated)}` : connections],
    ['Users', grouped(status.users)],
    ['Channels', grouped(status.channels)],
    ['Connects', rate('connects')],
    ['Reconnects', rate('reconnects')],
    ['Publications', rate('publications')],
    ['Deliveries', rate('deliveries')],
    ['Out', `${bytes(status.rates.bytes_out_per_second)}/s`],
    ['Queued', bytes(metrics.get('plimsoll_queued_bytes'))],
    ['Memory', bytes(status.memory.resident_bytes)],
    ['Waiting at the door', grouped(metrics.get('plimsoll_connects_parked'))],
    ['Connects refused', grouped(metrics.get('plimsoll_refused_total{what="connect"}'))],
    ['Publications refused', grouped(metrics.get('plimsoll_refused_total{what="publication"}'))],
    ['Left out, ephemeral', grouped(metrics.get('plimsoll_dropped_ephemeral_total'))],
    ['Fell behind', grouped(metrics.get('plimsoll_fell_behind_total'))],
    ['Up', duration(status.uptime_seconds)],
  ]);
}

// The unit stands in the name.
function signal(name, value) {
  const units = [
    ['_bytes_per_s', (v) => `${bytes(v)}/s`],
    ['_bytes', bytes],
    ['_ms', (v) => `${v.toFixed(1)} ms`],
    ['_ratio', (v) => v.toFixed(3)],
    ['_percent', (v) => `${v.toFixed(1)} %`],
  ];
  const unit = units.find(([end]) => name.endsWith(end));
  const shown = unit ? unit[1](value) : grouped(value);
  return [words(unit ? name.slice(0, -unit[0].length) : name), shown];
}

function levelOf(pressure) {
  if (pressure === null) return 'off';
  return LEVELS[ENTER.filter((enter) => pressure >= enter).length];
}

function showChoices(actions) {
  const select = byId('what');
  if (select.options.length > 0) return;
  const group = (label, choices) => {
    const part = document.createElement('optgroup');
    part.label = label;
    part.append(...choices.map(([value, text]) => new Option(text, value)));
    return part;
  };
  // Nothing is chosen for a tired hand.
  const none = new Option('choose …', '');
  none.disabled = true;
  none.selected = true;
  select.append(
    none,
    group('Pin the level', LEVELS.map((name, n) => [`level:${n}`, `${n} ${name}`])),
    group('New connections', [['closed', 'refuse them']]),
    group('Pin an action', actions.map((name) => [`action:${name}`, words(name)])),
  );
  showStrength();
}

function showStrength() {
  const hidden = !byId('what').value.startsWith('action:');
  byId('strength').hidden = hidden;
  byId('strength-label').hidden = hidden;
}

function order() {
  const [kind, what] = byId('what').value.split(':');
  const wanted = { ttl: byId('ttl').value, reason: byId('reason').value };
  const author = byId('author').value.trim();
  localStorage.setItem('author', author);
  if (author) wanted.author = author;
  if (kind === 'level') wanted.pin_level = Number(what);
  if (kind === 'closed') wanted.accept_new_connections = false;
  if (kind === 'action') {
    wanted.pin_action = what;
    wanted.strength = Number(byId('strength').value);
  }
  change('POST', '/admin/overload', wanted);
}

async function change(method, path, body) {
  const answer = byId('answer');
  const headers = body ? { 'Content-Type': 'application/json' } : {};
  const author = byId('author').value.trim();
  // A header carries plain letters only; without one the node takes the address.
  if (/^[\x20-\x7e]+$/.test(author)) headers['X-Author'] = author;
  try {
    const options = { method, headers, body: body && JSON.stringify(body) };
    const response = await call(path, options);
    const text = await response.text();
    const told = response.status === 401 ? { error: text } : JSON.parse(text);
    answer.classList.toggle('bad', !response.ok);
    answer.textContent = response.ok ? told.audit.join('\n') || 'There was none.' : told.error;
  } catch {
    answer.classList.add('bad');
    answer.textContent = 'The node did not answer. It may have done it or not.';
  }
}
