// What is on the screen: messages, people and who is typing. Names and texts come from strangers:
// they are only ever set as text.

const MESSAGES_MAX = 500;
const TYPING_MS = 4_000;
const HUES = 8;

const clock = new Intl.DateTimeFormat([], { hour: '2-digit', minute: '2-digit' });
const calendar = new Intl.DateTimeFormat([], { dateStyle: 'full', timeStyle: 'medium' });

/** The messages of a room, in the order of their offsets; those not yet sent stand last. */
export class Log {
  #list;
  #scroll;
  #empty;
  #latest;
  #byId = new Map();
  #pinned = true;

  constructor() {
    this.#list = document.getElementById('log');
    this.#scroll = document.getElementById('scroll');
    this.#empty = document.getElementById('empty');
    this.#latest = document.getElementById('latest');
    this.#latest.addEventListener('click', () => this.toEnd());
    this.#scroll.addEventListener('scroll', () => {
      this.#pinned = this.#atEnd();
      if (this.#pinned) this.#latest.hidden = true;
    });
    // A phone's keyboard takes half of the height: the last message stays in view.
    new ResizeObserver(() => {
      if (this.#pinned) this.toEnd();
    }).observe(this.#scroll);
  }

  clear() {
    this.#list.replaceChildren();
    this.#byId.clear();
    this.#empty.hidden = true;
    this.#latest.hidden = true;
  }

  /** The room's history has come: only now can it be called empty. */
  loaded() {
    this.#empty.hidden = this.#byId.size > 0;
  }

  has(id) {
    return this.#byId.has(id);
  }

  /** Shows a message once, however often it comes: sent, published, recovered, from history. */
  add(message) {
    const { id, offset } = message;
    const stick = this.#pinned;
    const known = this.#byId.get(id);
    if (known && (!known.classList.contains('pending') || !offset)) return;
    known?.remove();
    const element = messageElement(message);
    this.#byId.set(id, element);
    this.#list.insertBefore(element, message.pending ? null : this.#place(offset));
    this.#group(element);
    if (element.nextElementSibling) this.#group(element.nextElementSibling);
    this.#empty.hidden = true;
    this.#trim();
    this.#follow(stick || message.own);
  }

  failed(id, reason) {
    const element = this.#byId.get(id);
    if (!element) return;
    element.classList.add('failed');
    element.querySelector('.note').textContent = `Not sent: ${reason}`;
  }

  /** A line across the messages. Gives back a function that changes it. */
  notice(kind, text) {
    const stick = this.#pinned;
    const element = make('div', 'notice');
    const label = make('span', 'notice-text');
    element.append(label);
    const show = (newKind, newText) => {
      element.dataset.kind = newKind;
      label.textContent = newText;
    };
    show(kind, text);
    this.#list.insertBefore(element, this.#place(0));
    this.#follow(stick);
    return show;
  }

  toEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#pinned = true;
    this.#latest.hidden = true;
  }

  // Before what is still to be sent, and before what has a higher offset; never across a notice.
  #place(offset) {
    if (!offset) return this.#list.querySelector('.pending');
    let next = null;
    for (let at = this.#list.lastElementChild; at; at = at.previousElementSibling) {
      if (!at.classList.contains('message') || Number(at.dataset.offset) < offset) break;
      next = at;
    }
    return next;
  }

  // Messages of one person in a row share a head.
  #group(element) {
    const before = element.previousElementSibling;
    const same = before?.dataset.author === element.dataset.author
      && Number(element.dataset.at) - Number(before.dataset.at) < 300_000;
    element.classList.toggle('follow', Boolean(same && element.dataset.author));
  }

  #trim() {
    while (this.#byId.size > MESSAGES_MAX) {
      const first = this.#list.firstElementChild;
      this.#byId.delete(first.dataset.id);
      first.remove();
    }
  }

  #atEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroll;
    return scrollHeight - scrollTop - clientHeight < 80;
  }

  #follow(stick) {
    if (stick) this.toEnd();
    else this.#latest.hidden = false;
  }
}

/** Who is in the room, by client id, and who of them is typing. */
export class People {
  #here = new Set();
  #names = new Map();
  #typing = new Map();
  #spoke = new Map();
  #list = document.getElementById('people');
  #count = document.getElementById('people-count');
  #line = document.getElementById('typing');
  me = '';

  clear() {
    for (const { timer } of this.#typing.values()) clearTimeout(timer);
    this.#typing.clear();
    this.#spoke.clear();
    this.#here.clear();
    this.#show();
  }

  set(clients) {
    this.#here = new Set(clients);
    for (const client of this.#names.keys()) {
      if (!this.#here.has(client) && client !== this.me) this.#names.delete(client);
    }
    this.#show();
  }

  join(client) {
    this.#here.add(client);
    this.#show();
  }

  leave(client) {
    this.#here.delete(client);
    this.#names.delete(client);
    this.#spoke.delete(client);
    this.#still(client);
    this.#show();
  }

  name(client, name) {
    if (!client || this.#names.get(client) === name) return;
    // A `hello` may be here before the `join`; what never joins is forgotten with the next list.
    this.#names.set(client, name);
    this.#show();
  }

  /** `at` is the writer's time. Two channels have no common order: a message may overtake it. */
  typing(client, at) {
    if (client === this.me || at <= (this.#spoke.get(client) ?? 0)) return;
    clearTimeout(this.#typing.get(client)?.timer);
    const timer = setTimeout(() => this.#still(client), TYPING_MS);
    this.#typing.set(client, { at, timer });
    this.#showTyping();
  }

  /** A message ends the typing that came before it. */
  spoke(client, at) {
    if (!this.#here.has(client)) return;
    this.#spoke.set(client, at);
    if (this.#typing.get(client)?.at <= at) this.#still(client);
  }

  #still(client) {
    clearTimeout(this.#typing.get(client)?.timer);
    this.#typing.delete(client);
    this.#showTyping();
  }

  #nameOf(client) {
    return this.#names.get(client) ?? `guest ${client.slice(0, 4)}`;
  }

  #show() {
    const people = [...this.#here].map((client) => ({ client, name: this.#nameOf(client) }));
    people.sort((a, b) => (b.client === this.me) - (a.client === this.me)
      || a.name.localeCompare(b.name));
    this.#count.textContent = String(people.length);
    this.#list.replaceChildren(...people.map(({ client, name }) => {
      const item = make('li', 'person');
      item.append(avatar(name), make('span', 'person-name', name));
      if (client === this.me) item.append(make('span', 'tag', 'you'));
      return item;
    }));
    this.#showTyping();
  }

  #showTyping() {
    const names = [...this.#typing.keys()].map((client) => this.#nameOf(client));
    const [one, two] = names;
    if (names.length === 0) this.#line.textContent = '';
    else if (names.length === 1) this.#line.textContent = `${one} is typing`;
    else if (names.length === 2) this.#line.textContent = `${one} and ${two} are typing`;
    else this.#line.textContent = `${names.length} people are typing`;
    this.#line.classList.toggle('on', names.length > 0);
  }
}

function messageElement({ id, name, text, at, offset, own, pending, recovered }) {
  const element = make('article', 'message');
  element.classList.toggle('own', own);
  element.classList.toggle('pending', Boolean(pending));
  element.classList.toggle('recovered', Boolean(recovered));
  Object.assign(element.dataset, { id, at, author: `${own ? 'me' : 'other'} ${name}` });
  if (offset) element.dataset.offset = String(offset);
  const when = new Date(at);
  const time = make('time', 'when', clock.format(when));
  time.dateTime = when.toISOString();
  time.title = calendar.format(when);
  const head = make('header', 'head');
  head.append(make('span', 'who', name), time);
  const note = make('p', 'note', pending ? 'Waits for the connection' : '');
  const body = make('div', 'body');
  body.append(head, make('p', 'text', text), note);
  element.append(avatar(name), body);
  return element;
}

function avatar(name) {
  const words = name.trim().split(/\s+/);
  const letters = words.slice(0, 2).map((word) => [...word][0] ?? '').join('');
  const element = make('span', `avatar hue-${hue(name)}`, letters.toUpperCase());
  element.setAttribute('aria-hidden', 'true');
  return element;
}

function hue(name) {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) >>> 0;
  return sum % HUES;
}

export function make(tag, className, text = '') {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}
