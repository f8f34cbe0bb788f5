// The demo page's own client, without the page: the modules that the binary serves, run by node.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, describe, test } from 'node:test';
import WebSocket, { WebSocketServer } from 'ws';
import { Client, ReplyError, backoff, isFinal } from '../../ui/demo/client.js';
import { link } from './support/link.mjs';
import { config, namespace, serve } from './support/server.mjs';
import { until } from './support/wait.mjs';

// Node 20 has no WebSocket of its own.
globalThis.WebSocket = WebSocket;

const spaces = ['kept', 'plain'].map((name) => namespace(name, `
presence = true
allow_subscribe_for_anonymous = true
allow_publish_for_anonymous = true
allow_presence_for_anonymous = true
join_leave = true
force_push_join_leave = true
${name === 'kept' ? 'history_size = 5\nhistory_ttl = "1m"\nforce_recovery = true' : ''}`)).join('');

let names = 0;
const fresh = (space) => `${space}:t${++names}`;

// Not in a hook: the runner hides why a hook of a whole file failed.
const open = 'allow_anonymous_connect_without_token = true\nping_interval = "1s"\npong_timeout = "500ms"';
const server = await serve(config(spaces, open));
after(() => server.stop());

function start(t, ws) {
  const client = new Client(ws);
  const states = [];
  client.addEventListener('state', ({ detail }) => states.push(detail));
  t.after(() => client.close());
  client.connect();
  return { client, states };
}

function watch(client, channel) {
  const subscription = client.subscribe(channel);
  const events = [];
  for (const name of ['subscribed', 'publication', 'join', 'leave', 'unsubscribed']) {
    subscription.addEventListener(name, ({ detail }) => events.push({ name, ...detail }));
  }
  return { subscription, events, of: (name) => events.filter((event) => event.name === name) };
}

const publish = (channel, data) => server.call('publish', { channel, data });

describe('the demo\'s client', { concurrency: true }, () => {
  test('connects, subscribes, publishes, asks', async (t) => {
    const { client, states } = start(t, server.ws);
    const channel = fresh('kept');
    const { of } = watch(client, channel);
    await until('subscribed', () => of('subscribed').length === 1);
    assert.deepEqual(states.map(({ state }) => state), ['connecting', 'connected']);
    assert.deepEqual(await client.request('publish', { channel, data: { a: 1 } }), {});
    await until('its own publication', () => of('publication').length === 1);
    assert.deepEqual(of('publication')[0].data, { a: 1 });
    const { presence } = await client.request('presence', { channel });
    assert.deepEqual(Object.keys(presence), [client.client]);
  });

  test('a refusal is an error with a code, and the line stays', async (t) => {
    const { client } = start(t, server.ws);
    await until('connected', () => client.state === 'connected');
    const refused = client.request('history', { channel: 'nowhere:x' });
    await assert.rejects(refused, (error) => error instanceof ReplyError && error.code === 102);
    assert.equal(client.state, 'connected');
    const { of } = watch(client, 'nowhere:x');
    await until('unsubscribed', () => of('unsubscribed').length === 1);
    assert.equal(of('unsubscribed')[0].code, 102);
  });

  test('answers pings', async (t) => {
    const { client, states } = start(t, server.ws);
    await until('connected', () => client.state === 'connected');
    const end = performance.now() + 3_000;
    await until('some pings', () => performance.now() > end);
    assert.deepEqual(states.map(({ state }) => state), ['connecting', 'connected']);
  });

  test('recovers in order after a cut network, and goes on', async (t) => {
    const line = await link(t, server);
    const { client } = start(t, line.ws);
    const channel = fresh('kept');
    const { of } = watch(client, channel);
    await until('subscribed', () => of('subscribed').length === 1);
    await publish(channel, 1);
    await until('the first', () => of('publication').length === 1);
    line.cut();
    await until('offline', () => client.state === 'offline');
    for (const n of [2, 3, 4]) await publish(channel, n);
    line.mend();
    await until('subscribed again', () => of('subscribed').length === 2);
    assert.deepEqual(of('subscribed')[1],
      { name: 'subscribed', recovered: true, wasRecovering: true, count: 3 });
    await publish(channel, 5);
    await until('all', () => of('publication').length === 5);
    assert.deepEqual(of('publication').map(({ data }) => data), [1, 2, 3, 4, 5]);
    assert.deepEqual(of('publication').map(({ recovered }) => recovered), [false, true, true, true, false]);
  });

  test('learns that it was away too long', async (t) => {
    const line = await link(t, server);
    const { client } = start(t, line.ws);
    const channel = fresh('kept');
    const { of } = watch(client, channel);
    await until('subscribed', () => of('subscribed').length === 1);
    line.cut();
    await until('offline', () => client.state === 'offline');
    for (let n = 1; n <= 8; n += 1) await publish(channel, n);
    line.mend();
    await until('subscribed again', () => of('subscribed').length === 2);
    const { recovered, wasRecovering } = of('subscribed')[1];
    assert.deepEqual({ recovered, wasRecovering }, { recovered: false, wasRecovering: true });
    await publish(channel, 9);
    await until('the next one', () => of('publication').length === 1);
    assert.equal(of('publication')[0].data, 9);
  });

  test('cut() drops the line at once and comes back with what was missed', async (t) => {
    const { client, states } = start(t, server.ws);
    const channel = fresh('kept');
    const { of } = watch(client, channel);
    await until('subscribed', () => of('subscribed').length === 1);
    client.cut(300);
    assert.equal(client.state, 'offline');
    await assert.rejects(client.request('presence', { channel }), /offline/);
    await publish(channel, 'missed');
    client.wake();
    assert.equal(client.state, 'offline', 'an online event does not mend a cut made by hand');
    await until('subscribed again', () => of('subscribed').length === 2);
    await until('the missed one', () => of('publication').length === 1);
    assert.deepEqual(states.map(({ state }) => state),
      ['connecting', 'connected', 'offline', 'connecting', 'connected']);
  });

  test('unsubscribes, and subscribes to something else', async (t) => {
    const { client } = start(t, server.ws);
    const [one, two] = [fresh('plain'), fresh('plain')];
    const first = watch(client, one);
    await until('subscribed', () => first.of('subscribed').length === 1);
    client.unsubscribe(one);
    const second = watch(client, two);
    await until('subscribed', () => second.of('subscribed').length === 1);
    await publish(one, 1);
    await publish(two, 2);
    await until('the second', () => second.of('publication').length === 1);
    assert.equal(first.of('publication').length, 0);
  });

  test('sees who comes and goes', async (t) => {
    const { client } = start(t, server.ws);
    const channel = fresh('plain');
    const { of } = watch(client, channel);
    await until('subscribed', () => of('subscribed').length === 1);
    const other = new Client(server.ws);
    other.connect();
    const theirs = watch(other, channel);
    await until('the other is there', () => theirs.of('subscribed').length === 1);
    const id = other.client;
    other.close();
    const count = (name) => of(name).filter((event) => event.client === id).length;
    await until('joined and left', () => count('join') === 1 && count('leave') === 1);
  });

  test('a final close is final', async (t) => {
    const { client, states } = start(t, server.ws);
    await until('connected', () => client.state === 'connected');
    await server.call('disconnect', { client: client.client, user: '' });
    await until('closed', () => client.state === 'closed');
    assert.equal(states.at(-1).code, 3503);
  });
});

describe('the demo\'s client and a server that misbehaves', { concurrency: true }, () => {
  /** A server that answers `connect` and `subscribe`, and then does as it is told. */
  async function fake(t, then) {
    const listener = new WebSocketServer({ host: '127.0.0.1', port: 0 });
    await once(listener, 'listening');
    t.after(() => listener.close());
    const asked = [];
    listener.on('connection', (socket) => {
      const send = (message) => socket.send(JSON.stringify(message));
      socket.on('message', (frame) => {
        for (const command of String(frame).split('\n').map((line) => JSON.parse(line))) {
          asked.push(command);
          const { id } = command;
          if (command.connect) send({ id, connect: { client: 'x', ping: 25, pong: true } });
          if (command.subscribe) {
            send({ id, subscribe: { recoverable: true, positioned: true, epoch: 'e', offset: 7 } });
          }
          then({ command, asked, send, socket });
        }
      });
    });
    return { ws: `ws://127.0.0.1:${listener.address().port}`, asked };
  }

  test('2500: subscribes again, with its position', async (t) => {
    let told = false;
    const { ws, asked } = await fake(t, ({ command, send }) => {
      if (!command.subscribe || told) return;
      told = true;
      send({ push: { channel: 'c', pub: { data: 1, offset: 8 } } });
      send({ push: { channel: 'c', unsubscribe: { code: 2500, reason: 'insufficient state' } } });
    });
    const { client } = start(t, ws);
    client.subscribe('c');
    const subscribes = () => asked.filter((command) => command.subscribe);
    await until('a second subscribe', () => subscribes().length === 2);
    assert.deepEqual(subscribes()[1].subscribe, { channel: 'c', recover: true, epoch: 'e', offset: 8 });
  });

  test('2000: does not', async (t) => {
    const { ws, asked } = await fake(t, ({ command, send }) => {
      if (!command.subscribe) return;
      send({ push: { channel: 'c', unsubscribe: { code: 2000, reason: 'server unsubscribe' } } });
      send({});
    });
    const { client } = start(t, ws);
    const { of } = watch(client, 'c');
    await until('the pong behind it', () => asked.some((command) => Object.keys(command).length === 0));
    assert.equal(of('unsubscribed')[0].code, 2000);
    assert.equal(asked.filter((command) => command.subscribe).length, 1);
  });

  test('connect and subscriptions leave in one frame', async (t) => {
    const { ws, asked } = await fake(t, () => {});
    const { client } = start(t, ws);
    client.subscribe('a');
    client.subscribe('b');
    await until('three commands', () => asked.length === 3);
    assert.deepEqual(asked.map((command) => Object.keys(command)[1]), ['connect', 'subscribe', 'subscribe']);
  });
});

test('the back-off stays between half a second and twenty', () => {
  for (let failures = 0; failures < 2_000; failures += 1) {
    const ms = backoff(failures);
    assert.ok(ms >= 500 && ms <= 20_000, `${ms} after ${failures}`);
  }
  assert.ok(backoff(0) <= 1_000);
});

test('which close codes are final', () => {
  const final = [1009, 3500, 3503, 3999, 4500, 4999];
  const passing = [0, 1000, 1006, 3000, 3001, 3012, 3499, 4000, 4499];
  assert.deepEqual(final.filter(isFinal), final);
  assert.deepEqual(passing.filter(isFinal), []);
});
