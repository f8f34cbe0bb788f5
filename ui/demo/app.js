// The demo chat: rooms, names, who is here, who is typing, and what happens when the line breaks.
//
// A room uses two channels: `chat:<room>` keeps history and is recovered; `typing:<room>` keeps
// nothing and carries what may be lost: typing, and `hello`, which tells a client's name.

import { Client, ReplyError } from './client.js';
import { Log, People, make } from './view.js';

const ROOMS = ['general', 'random', 'help'];
const HISTORY_LIMIT = 50;
const TYPING_EVERY_MS = 2_000;
const HELLO_WITHIN_MS = 300;
const CUT_MS = 3_000;
const NAMES = ['Petrel', 'Fulmar', 'Gannet', 'Plover', 'Dunlin', 'Avocet', 'Curlew', 'Osprey'];
const MOODS = ['Calm', 'Swift', 'Bold', 'Merry', 'Quiet', 'Bright', 'Steady', 'Salty'];
const STATES = {
  connecting: 'Connecting',
  connected: 'Connected',
  offline: 'Offline',
  closed: 'Offline',
};

const byId = (id) => document.getElementById(id);
const log = new Log();
const people = new People();
const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
const endpoint = `${scheme}//${location.host}/connection/websocket`;
const client = new Client(endpoint);
// Messages without the server's ack, by id. They are sent again after each reconnect; who gets one
// twice knows it by its id.
const unsent = new Map();

// The tab's, not the browser's: two windows are two people.
let name = sessionStorage.getItem('name') ?? '';
let room = '';
let chat = null;
let typedAt = 0;
let helloTimer = 0;
let offlineSince = 0;
let changeNotice = null;

start();

function start() {
  byId('endpoint').textContent = endpoint;
  byId('composer').addEventListener('submit', (event) => {
    event.preventDefault();
    say();
  });
  byId('text').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    say();
  });
  byId('text').addEventListener('input', typing);
  byId('cut').addEventListener('click', ({ detail }) => {
    if (client.state === 'closed') client.connect();
    else client.cut(CUT_MS);
    // The button is off now: who came by keyboard goes on where there is something to do.
    if (detail === 0) byId('text').focus();
  });
  byId('rename').addEventListener('click', welcome);
  byId('welcome').addEventListener('close', takeName);
  byId('other-room').addEventListener('submit', (event) => {
    event.preventDefault();
    const other = roomName(byId('other-room-name').value);
    if (other) location.hash = other;
    byId('other-room-name').value = '';
  });
  client.addEventListener('state', ({ detail }) => showState(detail));
  client.addEventListener('message', ({ detail }) => showLoad(detail));
  addEventListener('online', () => client.wake());
  addEventListener('hashchange', () => name && enter(roomFromAddress()));
  if (name) {
    go(roomFromAddress());
    return;
  }
  showRooms(roomFromAddress());
  byId('room-name').textContent = roomFromAddress();
  welcome();
}

function welcome() {
  const field = byId('name');
  field.value = name || `${pick(MOODS)} ${pick(NAMES)}`;
  const chosen = room || roomFromAddress();
  const legend = byId('welcome-rooms').firstElementChild;
  const choices = [...new Set([...ROOMS, chosen])].map((each) => {
    const label = make('label', 'choice');
    const radio = make('input', '');
    Object.assign(radio, { type: 'radio', name: 'room', value: each });
    radio.checked = each === chosen;
    label.append(radio, make('span', '', `#${each}`));
    return label;
  });
  byId('welcome-rooms').replaceChildren(legend, ...choices);
  byId('welcome').showModal();
  field.select();
}

// Also when the dialog is dismissed: what stands in the field is a name already.
function takeName() {
  name = byId('name').value.trim() || name || `${pick(MOODS)} ${pick(NAMES)}`;
  sessionStorage.setItem('name', name);
  go(byId('welcome-form').elements.room.value || roomFromAddress());
  hello();
}

function go(next) {
  enter(next);
  if (client.state === 'closed') client.connect();
}

function enter(next) {
  if (next === room) return;
  if (room) {
    client.unsubscribe(`chat:${room}`);
    client.unsubscribe(`typing:${room}`);
  }
  room = next;
  location.hash = room;
  document.title = `#${room} · Plimsoll`;
  byId('room-name').textContent = room;
  showRooms(room);
  log.clear();
  people.clear();
  changeNotice = null;
  listen();
  byId('text').focus();
}

// `typing` first: whoever answers our join with a `hello` finds us there.
function listen() {
  const here = room;
  const whenHere = (handle) => ({ detail }) => {
    if (here === room) handle(detail);
  };
  const signals = client.subscribe(`typing:${room}`);
  signals.addEventListener('publication', whenHere(signal));
  chat = client.subscribe(`chat:${room}`);
  chat.addEventListener('subscribed', whenHere(subscribed));
  chat.addEventListener('publication', whenHere(publication));
  chat.addEventListener('join', whenHere((info) => joined(info.client)));
  chat.addEventListener('leave', whenHere((info) => people.leave(info.client)));
  chat.addEventListener('unsubscribed', whenHere(({ reason }) => {
    log.notice('lost', `The server ended the subscription: ${reason}`);
  }));
}

function subscribed({ recovered, wasRecovering, count }) {
  people.me = client.client;
  hello();
  loadPeople();
  if (recovered) {
    backNotice(count);
    log.loaded();
    // After the recovered publications, which follow this event: one of ours may be among them.
    queueMicrotask(sendAgain);
    return;
  }
  if (!wasRecovering) {
    changeNotice?.('back', 'Connected');
  } else {
    log.clear();
    log.notice('lost', 'Away too long to recover everything: here is what the server still keeps');
  }
  changeNotice = null;
  offlineSince = 0;
  loadHistory().then(sendAgain);
}

function backNotice(count) {
  const seconds = offlineSince ? ` after ${((Date.now() - offlineSince) / 1000).toFixed(1)} s` : '';
  const what = count === 0 ? 'nothing was missed'
    : `recovered ${count} ${count === 1 ? 'message' : 'messages'}`;
  const text = `Reconnected${seconds} · ${what}`;
  if (changeNotice) changeNotice('back', text);
  else log.notice('back', text);
  changeNotice = null;
  offlineSince = 0;
}

async function loadHistory() {
  const channel = `chat:${room}`;
  const request = { channel, limit: HISTORY_LIMIT, reverse: true };
  const answer = await ask('history', request);
  if (!answer || channel !== `chat:${room}`) return;
  for (const each of (answer.publications ?? []).reverse()) publication(each);
  log.loaded();
  showPosition();
}

async function loadPeople() {
  const channel = `chat:${room}`;
  const answer = await ask('presence', { channel });
  if (answer && channel === `chat:${room}`) people.set(Object.keys(answer.presence));
}

// What the next connection asks for again needs no word to the reader.
async function ask(method, request) {
  try {
    return await client.request(method, request);
  } catch (error) {
    if (error instanceof ReplyError) log.notice('lost', `No ${method}: ${error.message}`);
    return null;
  }
}

function joined(id) {
  people.join(id);
  if (id === client.client) return;
  // All that are here answer a join: not all in the same moment, and once for a crowd.
  clearTimeout(helloTimer);
  helloTimer = setTimeout(hello, Math.random() * HELLO_WITHIN_MS);
}

function hello() {
  if (!client.client) return;
  people.name(client.client, name);
  publish(`typing:${room}`, { kind: 'hello', name }).catch(() => {});
}

function signal({ data, info }) {
  if (!info || typeof data?.name !== 'string') return;
  people.name(info.client, clip(data.name, 24));
  if (data.kind === 'typing') people.typing(info.client, Number(data.at) || 0);
}

function publication({ data, info, offset, recovered }) {
  showPosition();
  if (data?.kind !== 'message' || typeof data.text !== 'string') return;
  const id = String(data.id);
  unsent.delete(id);
  if (info) people.spoke(info.client, Number(data.at) || 0);
  log.add({
    id,
    name: clip(String(data.name), 24),
    text: clip(data.text, 2000),
    at: Number.isFinite(data.at) ? data.at : Date.now(),
    own: data.from === tab(),
    offset,
    recovered,
  });
}

function say() {
  const text = byId('text').value.trim();
  if (!text) return;
  byId('text').value = '';
  typedAt = 0;
  const id = randomId();
  const data = { kind: 'message', name, text, id, at: Date.now(), from: tab() };
  const entry = { channel: `chat:${room}`, data, busy: false };
  unsent.set(id, entry);
  log.add({ id, name, text, at: data.at, own: true, pending: true });
  send(entry);
}

function sendAgain() {
  for (const entry of unsent.values()) send(entry);
}

async function send(entry) {
  if (entry.busy || client.state !== 'connected') return;
  const { id } = entry.data;
  const begin = performance.now();
  entry.busy = true;
  try {
    await publish(entry.channel, entry.data);
    unsent.delete(id);
    byId('line-ack').textContent = `${(performance.now() - begin).toFixed(1)} ms`;
  } catch (error) {
    // No answer: nobody knows whether it was appended, so it is sent again.
    if (!(error instanceof ReplyError)) return;
    unsent.delete(id);
    log.failed(id, error.message);
  } finally {
    entry.busy = false;
  }
}

function typing() {
  const now = Date.now();
  if (!byId('text').value.trim() || now - typedAt < TYPING_EVERY_MS) return;
  typedAt = now;
  publish(`typing:${room}`, { kind: 'typing', name, at: now }).catch(() => {});
}

function publish(channel, data) {
  return client.request('publish', { channel, data });
}

function showState({ state, code, reason }) {
  const pill = byId('status');
  pill.dataset.state = state;
  pill.textContent = STATES[state];
  const away = state !== 'connected';
  byId('cut').disabled = away && state !== 'closed';
  byId('cut-label').textContent = state === 'closed' ? 'Connect' : 'Cut';
  byId('cut-more').textContent = state === 'closed' ? 'again' : 'my connection';
  byId('line-client').textContent = away ? '–' : client.client.slice(0, 8);
  if (!away) return;
  // Another server may be there next, and it says so itself.
  byId('load').hidden = true;
  if (!offlineSince && state !== 'connecting') {
    offlineSince = Date.now();
    changeNotice = log.notice('off', 'Offline: the server keeps what is said meanwhile');
  }
  if (state === 'closed') {
    changeNotice?.('lost', `The server ended the connection: ${reason} (${code})`);
    changeNotice = null;
  }
}

// The server gives something up for a while, or has it back.
function showLoad(data) {
  const load = data?.plimsoll;
  if (load?.type !== 'load') return;
  const less = Object.values(load.features ?? {}).some((state) => state !== 'on');
  const banner = byId('load');
  banner.hidden = load.level === 0 && !less;
  banner.textContent = clip(String(load.message ?? ''), 200);
}

function showPosition() {
  byId('line-position').textContent = chat?.epoch ? `${chat.offset} in ${chat.epoch}` : '–';
}

function showRooms(current) {
  byId('rooms').replaceChildren(...[...new Set([...ROOMS, current])].map((each) => {
    const item = make('li', '');
    const link = make('a', 'room-link', each);
    link.href = `#${each}`;
    if (each === current) link.setAttribute('aria-current', 'page');
    item.append(link);
    return item;
  }));
  // On a phone the rooms are a strip that may be wider than the screen.
  document.querySelector('.room-link[aria-current]').scrollIntoView({
    block: 'nearest',
    inline: 'center',
  });
}

function roomFromAddress() {
  return roomName(location.hash) || ROOMS[0];
}

function roomName(text) {
  return text.toLowerCase().replace(/[^a-z0-9_-]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 40);
}

// Survives a reload, so that one's own messages of before are still one's own.
function tab() {
  let id = sessionStorage.getItem('tab');
  if (!id) {
    id = randomId();
    sessionStorage.setItem('tab', id);
  }
  return id;
}

// `crypto.randomUUID` exists on secure origins only; a phone opens this page by plain address.
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

function clip(text, length) {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

function pick(list) {
  return list[Math.floor(Math.random() * list.length)];
}
