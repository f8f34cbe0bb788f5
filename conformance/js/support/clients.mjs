// The two kinds of clients of these tests: the npm package, and a bare socket.

import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { userToken } from './token.mjs';
import { next, outcome, WAIT_MS } from './wait.mjs';

/** A client of the npm package, not yet connected, that is gone at the end of test `t`. */
export function client(t, server, options = {}) {
  const made = new Centrifuge(server.ws, {
    websocket: WebSocket,
    minReconnectDelay: 20,
    maxReconnectDelay: 200,
    ...options,
  });
  // Without a listener the emitter throws on `error`; what goes wrong is seen by state and code.
  made.on('error', () => {});
  t.after(() => made.disconnect());
  return made;
}

/** A connected client of user `user`. */
export async function connected(t, server, user = 'anna', options = {}) {
  const made = client(t, server, { token: userToken(user), ...options });
  await up(made);
  return made;
}

/** Connects, and waits until it is. A final refusal fails at once. */
export function up(made) {
  return outcome(made, 'connected', 'disconnected', () => made.connect());
}

/** The code of the final refusal of a client that must not get in. */
export async function turnedAway(made) {
  const ends = next(made, 'disconnected');
  made.connect();
  return ends;
}

/** A subscription that is there. `seen` collects the data of its publications. */
export async function subscribed(made, channel, options = {}) {
  const subscription = made.newSubscription(channel, options);
  const seen = [];
  subscription.on('publication', ({ data }) => seen.push(data));
  subscription.on('error', () => {});
  const context = await subscribe(subscription);
  return { subscription, context, seen };
}

/** Subscribes, and gives the event; a final refusal is thrown with its code. */
export function subscribe(subscription) {
  return outcome(subscription, 'subscribed', 'unsubscribed', () => subscription.subscribe());
}

/** A bare socket: frames as they are. */
export async function raw(t, server, options = {}) {
  const { path = '', protocols = [], ...rest } = options;
  const socket = new WebSocket(server.ws + path, protocols, rest);
  const line = new Raw(socket);
  t.after(() => socket.terminate());
  await line.opened;
  return line;
}

class Raw {
  #socket;
  #messages = [];
  #wake = () => {};
  frames = [];

  constructor(socket) {
    this.#socket = socket;
    socket.on('error', () => {});
    socket.on('message', (bytes, binary) => {
      this.frames.push({ text: bytes.toString(), binary });
      this.#messages.push(...bytes.toString().split('\n').filter(Boolean).map(JSON.parse));
      this.#wake();
    });
    this.opened = new Promise((done, fail) => {
      socket.once('open', done);
      socket.once('error', fail);
    });
    this.closing = new Promise((done) => {
      socket.once('close', (code, reason) => {
        done({ code, reason: reason.toString() });
        this.#wake();
      });
    });
  }

  get extensions() {
    return this.#socket.extensions;
  }

  get socket() {
    return this.#socket;
  }

  /** Sends commands in one frame; a text or bytes as they are. */
  send(...commands) {
    const [first] = commands;
    if (Buffer.isBuffer(first) || typeof first === 'string') this.#socket.send(first);
    else this.#socket.send(commands.map((command) => JSON.stringify(command)).join('\n'));
  }

  /** The next message that `accept` takes; those before it are dropped. */
  async read(accept = () => true, ms = WAIT_MS) {
    const end = performance.now() + ms;
    for (;;) {
      while (this.#messages.length > 0) {
        const message = this.#messages.shift();
        if (accept(message)) return message;
      }
      const left = end - performance.now();
      if (left <= 0) throw new Error(`no such message within ${ms} ms: ${accept}`);
      if (this.#socket.readyState === WebSocket.CLOSED) {
        throw new Error(`the connection ended first: ${JSON.stringify(await this.closing)}`);
      }
      await new Promise((done) => {
        const timer = setTimeout(done, left);
        this.#wake = () => {
          clearTimeout(timer);
          done();
        };
      });
    }
  }

  /** One command and its reply. */
  async ask(command) {
    this.send(command);
    return this.read(({ id }) => id === command.id);
  }

  /** How the server closes it. */
  async closed(ms = WAIT_MS) {
    let timer;
    const late = new Promise((_, fail) => {
      timer = setTimeout(() => fail(new Error(`not closed within ${ms} ms`)), ms);
    });
    try {
      return await Promise.race([this.closing, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async connect(user = 'anna') {
    const reply = await this.ask({ id: 1, connect: { token: userToken(user) } });
    if (!reply.connect) throw new Error(`not connected: ${JSON.stringify(reply)}`);
    return reply.connect;
  }
}
