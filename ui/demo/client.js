// A small client for Centrifugo's protocol (JSON over WebSocket), enough for this page.
// An application takes the `centrifuge` package instead; this file shows how little is behind it.

const BACKOFF_MS_MIN = 500;
const BACKOFF_MS_MAX = 20_000;
const OPEN_MS_MAX = 10_000;
const REPLY_MS_MAX = 5_000;
// A server ping that is later than this after its interval means that the line is dead.
const PING_GRACE_MS = 10_000;
// Above it the server asks for a new subscription; below, the subscription is over.
const RESUBSCRIBE_CODE_MIN = 2500;

/** What the server answered when it refused a command. */
export class ReplyError extends Error {
  constructor({ code, message, temporary = false }) {
    super(`${message} (${code})`);
    this.code = code;
    this.temporary = temporary;
  }
}

/**
 * One channel. Events: `subscribed` {recovered, wasRecovering, count}, `publication`, `join`,
 * `leave`, `unsubscribed` {code, reason}.
 */
export class Subscription extends EventTarget {
  constructor(channel) {
    super();
    this.channel = channel;
    this.active = false;
    this.recoverable = false;
    this.epoch = '';
    this.offset = 0;
    this.failures = 0;
    this.timer = 0;
  }

  request() {
    const request = { channel: this.channel };
    if (!this.recoverable) return request;
    return { ...request, recover: true, epoch: this.epoch, offset: this.offset };
  }

  take(result) {
    const publications = result.publications ?? [];
    this.active = true;
    this.failures = 0;
    this.recoverable = result.recoverable === true;
    this.epoch = result.epoch ?? '';
    const recovered = result.recovered === true;
    const wasRecovering = result.was_recovering === true;
    emit(this, 'subscribed', { recovered, wasRecovering, count: publications.length });
    for (const publication of publications) this.publication(publication, true);
    // After a recovery the reply repeats the position asked for; the publications move it.
    if (publications.length === 0) this.offset = result.offset ?? 0;
  }

  publication(publication, recovered = false) {
    if (publication.offset) this.offset = publication.offset;
    if (publication.epoch) this.epoch = publication.epoch;
    emit(this, 'publication', { ...publication, recovered });
  }
}

/**
 * A connection that comes back by itself. Event: `state` {state, code, reason}; `state` is one of
 * `connecting`, `connected`, `offline` (comes back) and `closed` (does not).
 */
export class Client extends EventTarget {
  #url;
  #socket = null;
  #state = 'closed';
  #subscriptions = new Map();
  #waiting = new Map();
  #outgoing = [];
  #id = 0;
  #failures = 0;
  #ping = { seconds: 0, pong: false };
  #reconnectTimer = 0;
  #pingTimer = 0;
  #cut = false;

  constructor(url) {
    super();
    this.#url = url;
  }

  get state() {
    return this.#state;
  }

  connect() {
    if (this.#state === 'closed') this.#open();
  }

  /** The network is back, says the browser: no reason to wait out the back-off. */
  wake() {
    if (this.#state === 'offline' && !this.#cut) this.#open();
  }

  /** Drops the socket as a tunnel would, and comes back after `ms`. */
  cut(ms) {
    this.#drop();
    this.#cut = true;
    this.#setState('offline', 0, 'cut by hand');
    this.#reconnectTimer = setTimeout(() => this.#open(), ms);
  }

  close() {
    this.#drop();
    this.#setState('closed', 0, 'closed by the page');
  }

  subscribe(channel) {
    const known = this.#subscriptions.get(channel);
    if (known) return known;
    const subscription = new Subscription(channel);
    this.#subscriptions.set(channel, subscription);
    if (this.#state === 'connected') this.#subscribe(subscription);
    return subscription;
  }

  unsubscribe(channel) {
    const subscription = this.#subscriptions.get(channel);
    if (!subscription) return;
    clearTimeout(subscription.timer);
    this.#subscriptions.delete(channel);
    if (this.#state === 'connected') this.request('unsubscribe', { channel }).catch(() => {});
  }

  /** Sends one command; the promise is the server's answer, or why there is none. */
  request(method, params) {
    if (this.#state !== 'connected') return Promise.reject(new Error('offline'));
    return new Promise((done, failed) => this.#command(method, params, done, failed));
  }

  #open() {
    this.#drop();
    this.#cut = false;
    this.#setState('connecting');
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => this.#hello();
    socket.onmessage = (event) => {
      // A handler may have dropped this socket while the rest of its frame was still to be read.
      for (const line of event.data.split('\n')) {
        if (line && this.#socket === socket) this.#receive(JSON.parse(line));
      }
    };
    socket.onclose = (event) => this.#lost(event.code, event.reason);
    this.#pingTimer = setTimeout(() => this.#lost(0, 'no answer'), OPEN_MS_MAX);
  }

  // `connect` and all subscriptions leave in one frame: one round trip until everything is back.
  #hello() {
    const connected = (result) => this.#connected(result);
    this.#command('connect', { name: 'demo' }, connected, (error) => this.#refused(error));
    for (const subscription of this.#subscriptions.values()) this.#subscribe(subscription);
  }

  #connected(result) {
    this.#failures = 0;
    this.#ping = { seconds: result.ping ?? 0, pong: result.pong === true };
    this.#watch();
    this.client = result.client;
    this.#setState('connected');
  }

  #refused(error) {
    // No answer at all: the socket is gone already.
    if (!(error instanceof ReplyError)) return;
    this.#lost(error.temporary ? 0 : 3500, error.message);
  }

  #subscribe(subscription) {
    const subscribed = (result) => {
      if (this.#subscriptions.get(subscription.channel) === subscription) subscription.take(result);
    };
    const failed = (error) => this.#notSubscribed(subscription, error);
    this.#command('subscribe', subscription.request(), subscribed, failed);
  }

  #notSubscribed(subscription, error) {
    if (!(error instanceof ReplyError)) return;
    if (error.temporary) {
      const wait = backoff(subscription.failures++);
      subscription.timer = setTimeout(() => {
        if (this.#state === 'connected') this.#subscribe(subscription);
      }, wait);
      return;
    }
    this.#subscriptions.delete(subscription.channel);
    emit(subscription, 'unsubscribed', { code: error.code, reason: error.message });
  }

  // Callbacks, not promises: a frame may hold an answer and pushes, to be handled in their order.
  #command(method, params, done, failed) {
    const id = ++this.#id;
    this.#write({ id, [method]: params });
    const timer = setTimeout(() => this.#lost(0, 'no answer'), REPLY_MS_MAX);
    this.#waiting.set(id, { method, done, failed, timer });
  }

  // Commands of one turn share a frame.
  #write(command) {
    if (this.#outgoing.length === 0) queueMicrotask(() => this.#flush());
    this.#outgoing.push(JSON.stringify(command));
  }

  #flush() {
    const frame = this.#outgoing.join('\n');
    this.#outgoing = [];
    if (frame && this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(frame);
  }

  #receive(reply) {
    this.#watch();
    if (reply.id) this.#answer(reply);
    else if (reply.push) this.#push(reply.push);
    else if (this.#ping.pong) this.#write({});
  }

  #answer(reply) {
    const waiting = this.#waiting.get(reply.id);
    if (!waiting) return;
    this.#waiting.delete(reply.id);
    clearTimeout(waiting.timer);
    if (reply.error) waiting.failed(new ReplyError(reply.error));
    else waiting.done(reply[waiting.method] ?? {});
  }

  #push(push) {
    // Belongs to no channel: the server tells what it can do now.
    if (push.message) {
      emit(this, 'message', push.message.data);
      return;
    }
    const subscription = this.#subscriptions.get(push.channel);
    if (!subscription) return;
    if (push.pub) subscription.publication(push.pub);
    else if (push.join) emit(subscription, 'join', push.join.info);
    else if (push.leave) emit(subscription, 'leave', push.leave.info);
    else if (push.unsubscribe) this.#unsubscribed(subscription, push.unsubscribe);
  }

  #unsubscribed(subscription, { code, reason }) {
    subscription.active = false;
    if (code >= RESUBSCRIBE_CODE_MIN) {
      this.#subscribe(subscription);
      return;
    }
    this.#subscriptions.delete(subscription.channel);
    emit(subscription, 'unsubscribed', { code, reason });
  }

  #watch() {
    clearTimeout(this.#pingTimer);
    if (!this.#ping.seconds) return;
    const wait = this.#ping.seconds * 1000 + PING_GRACE_MS;
    this.#pingTimer = setTimeout(() => this.#lost(0, 'no ping'), wait);
  }

  #lost(code, reason) {
    this.#drop();
    if (isFinal(code)) {
      this.#setState('closed', code, reason);
      return;
    }
    this.#setState('offline', code, reason);
    this.#reconnectTimer = setTimeout(() => this.#open(), backoff(this.#failures++));
  }

  // Forgets the socket. Its handlers go first: what it still carries counts as missed.
  #drop() {
    clearTimeout(this.#reconnectTimer);
    clearTimeout(this.#pingTimer);
    this.#outgoing = [];
    this.#ping = { seconds: 0, pong: false };
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { failed, timer } of waiting) {
      clearTimeout(timer);
      failed(new Error('offline'));
    }
    for (const subscription of this.#subscriptions.values()) {
      clearTimeout(subscription.timer);
      subscription.active = false;
    }
  }

  #setState(state, code = 0, reason = '') {
    this.#state = state;
    emit(this, 'state', { state, code, reason });
  }
}

/** Half a second, and a random share of a span that doubles with each failure. */
export function backoff(failures) {
  const span = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** failures);
  return Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN + Math.random() * span);
}

/** Close codes after which a client stays away. */
export function isFinal(code) {
  return code === 1009 || (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
}

function emit(target, name, detail) {
  target.dispatchEvent(new CustomEvent(name, { detail }));
}
