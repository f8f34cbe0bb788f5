// What the npm client never does: bare frames, wrong ones, silence, and slowness.

import assert from 'node:assert/strict';
import { connect as dial } from 'node:net';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { connected, raw, subscribed } from './support/clients.mjs';
import { config, namespace, serve } from './support/server.mjs';
import { userToken } from './support/token.mjs';
import { next, until } from './support/wait.mjs';

const spaces = namespace('plain') + namespace('kept', 'history_size = 10\nhistory_ttl = "1m"');
const BAD_REQUEST = { code: 3501, reason: 'bad request' };

// Not in a hook: the runner hides why a hook of a whole file failed.
const server = await serve(config(spaces));
after(() => server.stop());

describe('a bad request ends the connection: 3501', { concurrency: true }, () => {
  const before_connect = {
    'a command before connect': '{"id":1,"subscribe":{"channel":"plain:x"}}',
    'rubbish': 'hello',
    'half an object': '{"id":1,"connect":{"token":"x"',
    'not an object': '[1,2]',
    'a text': '"connect"',
    'no command in it': '{"id":1}',
    'an unknown command': '{"id":1,"fly":{}}',
    'a connect without an id': '{"connect":{}}',
    'an id below zero': '{"id":-1,"connect":{}}',
    'an id that is a text': '{"id":"1","connect":{}}',
    'a pong before connect': '{}',
    'connect is not an object': '{"id":1,"connect":7}',
    'an empty frame': '',
    'only a newline': '\n',
  };
  for (const [what, frame] of Object.entries(before_connect)) {
    test(what, async (t) => {
      const line = await raw(t, server);
      line.send(frame);
      assert.deepEqual(await line.closed(), BAD_REQUEST);
    });
  }

  const after_connect = {
    'a second connect': '{"id":2,"connect":{}}',
    'a pong that nobody asked for': '{}',
    'no channel to subscribe to': '{"id":2,"subscribe":{}}',
    'no channel to publish into': '{"id":2,"publish":{"data":1}}',
    'a command without an id': '{"publish":{"channel":"plain:x","data":1}}',
    'rubbish behind a good command': '{"id":2,"unsubscribe":{"channel":"plain:x"}}\n{',
    'two commands without a newline': '{"id":2,"presence":{"channel":"a"}}{"id":3,"presence":{"channel":"a"}}',
    'a payload that is not JSON': '{"id":2,"publish":{"channel":"plain:x","data":{a:1}}}',
    'a channel that is a number': '{"id":2,"subscribe":{"channel":5}}',
  };
  for (const [what, frame] of Object.entries(after_connect)) {
    test(what, async (t) => {
      const line = await raw(t, server);
      await line.connect();
      line.send(frame);
      assert.deepEqual(await line.closed(), BAD_REQUEST);
    });
  }

  test('binary bytes on a JSON connection', async (t) => {
    const line = await raw(t, server);
    line.send(Buffer.from([0x0a, 0x01, 0xff]));
    const { code } = await line.closed();
    assert.ok(code === 3501 || code === 3506, `code ${code}`);
  });

  test('commands before the bad one were answered', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    line.send('{"id":2,"unsubscribe":{"channel":"plain:x"}}\n{"id":3,"subscribe":{"channel":"plain:x"}}\nx');
    assert.deepEqual(await line.closed(), BAD_REQUEST);
  });
});

describe('frames', { concurrency: true }, () => {
  test('replies are text frames without a subprotocol', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    assert.equal(line.frames[0].binary, false);
    assert.equal(line.socket.protocol, '');
  });

  test('the JSON subprotocol is taken, when offered', async (t) => {
    const line = await raw(t, server, { protocols: ['centrifuge-json'] });
    await line.connect();
    assert.equal(line.socket.protocol, 'centrifuge-json');
  });

  test('a query that other clients send is tolerated', async (t) => {
    const line = await raw(t, server, { path: '?cf_protocol_version=v2' });
    await line.connect();
  });

  test('a trailing newline is accepted', async (t) => {
    const line = await raw(t, server);
    line.send(`{"id":1,"connect":{"token":"${userToken('anna')}"}}\n`);
    assert.ok((await line.read()).connect);
  });

  test('unknown fields are passed over', async (t) => {
    const line = await raw(t, server);
    line.send(`{"id":1,"connect":{"token":"${userToken('anna')}","flag":1,"future":{"a":[1]}}}`);
    assert.ok((await line.read()).connect);
    const reply = await line.ask({ id: 2, subscribe: { channel: 'plain:f', flag: 1, future: true } });
    assert.ok(reply.subscribe);
  });

  test('a hundred commands in one frame are all answered', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    const ids = Array.from({ length: 100 }, (_, n) => n + 2);
    line.send(...ids.map((id) => ({ id, unsubscribe: { channel: `plain:${id}` } })));
    const answered = [];
    while (answered.length < 100) answered.push((await line.read(({ id }) => id)).id);
    assert.deepEqual(answered.sort((a, b) => a - b), ids);
  });

  test('no object on the wire holds a newline', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    const channel = 'plain:newline';
    await line.ask({ id: 2, subscribe: { channel } });
    line.send('{"id":3,"publish":{"channel":"plain:newline","data":{ "a":\r\t "b\\nc" }}}');
    const { push } = await line.read(({ push: any }) => any?.pub);
    assert.deepEqual(push.pub.data, { a: 'b\nc' });
    const frame = line.frames.find(({ text }) => text.includes('"pub"'));
    assert.match(frame.text, /\{"a":"b\\nc"\}/);
  });

  test('a failed connect is an error, and what follows in the frame is not run', async (t) => {
    const line = await raw(t, server);
    const past = Math.floor(Date.now() / 1000) - 100;
    line.send(
      { id: 1, connect: { token: userToken('anna', { exp: past }) } },
      { id: 2, subscribe: { channel: 'plain:never' } },
    );
    assert.equal((await line.read()).error.code, 109);
    assert.equal((await line.closed()).code, 3501);
    const { channels } = await server.call('channels', { pattern: 'plain:never' });
    assert.deepEqual(channels, {});
  });

  test('a message over the limit: 1009', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    line.send(JSON.stringify({ id: 2, publish: { channel: 'plain:x', data: 'x'.repeat(70_000) } }));
    assert.equal((await line.closed()).code, 1009);
  });

  test('text that is not UTF-8: 1007', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    line.socket.send(Buffer.from([0x22, 0xff, 0xfe, 0x22]), { binary: false });
    assert.equal((await line.closed()).code, 1007);
  });

  test('a WebSocket ping is answered', async (t) => {
    const line = await raw(t, server);
    const pong = next(line.socket, 'pong');
    line.socket.ping('abc');
    assert.equal((await pong).toString(), 'abc');
  });

  test('a client that says goodbye is answered in kind', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    line.socket.close(1000);
    assert.equal((await line.closed()).code, 1000);
  });
});

/** The HTTP status that an upgrade gets. */
async function status(node, origin) {
  const socket = new WebSocket(node.ws, { origin });
  const how = new Promise((done) => {
    socket.on('open', () => done(101));
    socket.on('unexpected-response', (_, response) => done(response.statusCode));
    socket.on('error', () => {});
  });
  const code = await how;
  socket.terminate();
  return code;
}

describe('origins', { concurrency: true }, () => {
  test('a page of another origin is refused with 403', async () => {
    assert.equal(await status(server, 'https://evil.example'), 403);
    assert.equal(await status(server, undefined), 101);
  });

  test('named origins pass, others do not', async (t) => {
    const origins = 'allowed_origins = ["https://app.example.com", "https://*.example.org"]';
    const own = await serve(config('', origins));
    t.after(() => own.stop());
    const expected = {
      'https://app.example.com': 101,
      'https://a.example.org': 101,
      'https://app.example.com.evil.net': 403,
      'http://app.example.com': 403,
      'https://example.org.evil.net': 403,
      null: 403,
    };
    for (const [origin, code] of Object.entries(expected)) {
      assert.equal(await status(own, origin), code, origin);
    }
  });
});

describe('liveness', { concurrency: true }, () => {
  let own;
  before(async () => {
    own = await serve(config(spaces, 'ping_interval = "1s"\npong_timeout = "500ms"\nstale_close_delay = "1s"'));
  });
  after(() => own.stop());

  test('the npm client stays', async (t) => {
    const made = await connected(t, own);
    let downs = 0;
    made.on('connecting', () => { downs += 1; });
    const { subscription, seen } = await subscribed(made, 'plain:alive');
    const end = performance.now() + 3_500;
    await until('three pings have passed', () => performance.now() > end);
    await subscription.publish('here');
    await until('the publication', () => seen.length === 1);
    assert.equal(downs, 0);
    made.disconnect();
  });

  test('pings come at their interval, the first between a half and a whole one', async (t) => {
    const line = await raw(t, own);
    const { ping, pong } = await line.connect();
    assert.deepEqual([ping, pong], [1, true]);
    const times = [performance.now()];
    for (let n = 0; n < 3; n += 1) {
      const { id, push } = await line.read();
      assert.deepEqual([id, push], [undefined, undefined]);
      times.push(performance.now());
      line.send('{}');
    }
    const gaps = times.slice(1).map((time, n) => time - times[n]);
    assert.ok(gaps[0] > 400 && gaps[0] < 1_500, `first after ${gaps[0]} ms`);
    for (const gap of gaps.slice(1)) assert.ok(gap > 800 && gap < 1_800, `then after ${gap} ms`);
  });

  test('who does not answer a ping is closed: 3012', async (t) => {
    const line = await raw(t, own);
    await line.connect();
    assert.deepEqual(await line.closed(), { code: 3012, reason: 'no pong' });
  });

  test('one pong too many: 3501', async (t) => {
    const line = await raw(t, own);
    await line.connect();
    await line.read();
    line.send('{}');
    line.send('{}');
    assert.deepEqual(await line.closed(), BAD_REQUEST);
  });

  test('who does not connect is closed: 3502', async (t) => {
    const line = await raw(t, own);
    assert.deepEqual(await line.closed(), { code: 3502, reason: 'stale' });
  });

  test('a request that never ends is not waited for', async () => {
    const socket = dial(Number(new URL(server.url).port), '127.0.0.1');
    socket.write('GET /connection/websocket HTTP/1.1\r\nHost: x\r\n');
    socket.resume();
    await next(socket, 'close', () => true, 20_000);
  });

  test('no pings where they are off', async (t) => {
    const quiet = await serve(config(spaces, 'ping_interval = "0s"'));
    t.after(() => quiet.stop());
    const line = await raw(t, quiet);
    const result = await line.connect();
    assert.equal(result.ping, undefined);
    assert.equal(result.pong, undefined);
    line.socket.terminate();
  });
});

describe('slowness and haste', { concurrency: true }, () => {
  test('a client that does not read is closed, the others go on', async (t) => {
    const own = await serve(config(spaces, 'queue_max_size = "64KiB"'));
    t.after(() => own.stop());
    const channel = 'plain:slow';
    const slow = await raw(t, own);
    await slow.connect('slow');
    await slow.ask({ id: 2, subscribe: { channel } });
    const reader = await connected(t, own, 'reader');
    const { seen } = await subscribed(reader, channel);
    slow.socket.pause();
    const data = 'x'.repeat(30_000);
    let sent = 0;
    await until('the slow one is gone', async () => {
      for (let n = 0; n < 20; n += 1) {
        await own.call('publish', { channel, data });
        sent += 1;
      }
      const { channels } = await own.call('channels', { pattern: channel });
      return channels[channel].num_clients === 1;
    });
    await until('the reader has all', () => seen.length === sent);
    assert.equal(reader.state, 'connected');
    slow.socket.resume();
    const { code } = await slow.closed();
    assert.ok(code === 3008 || code === 1006, `code ${code}`);
    reader.disconnect();
  });

  test('a client over its rate gets 111, others do not', async (t) => {
    const limits = 'message_rate_limit = 10\nmessage_rate_burst = 20';
    const own = await serve(config(spaces, limits));
    t.after(() => own.stop());
    const line = await raw(t, own);
    await line.connect();
    const ids = Array.from({ length: 40 }, (_, n) => n + 2);
    line.send(...ids.map((id) => ({ id, unsubscribe: { channel: 'plain:x' } })));
    const { error } = await line.read((message) => message.error);
    assert.deepEqual(error, { code: 111, message: 'too many requests', temporary: true });
    const other = await raw(t, own);
    await other.connect();
    assert.ok((await other.ask({ id: 2, unsubscribe: { channel: 'plain:x' } })).unsubscribe);
    line.socket.terminate();
    other.socket.terminate();
  });

  test('connections over the limit of the node: 503 before the upgrade', async (t) => {
    const own = await serve(config(spaces, 'connection_limit = 2'));
    t.after(() => own.stop());
    const two = await Promise.all([raw(t, own), raw(t, own)]);
    await Promise.all(two.map((each) => each.connect()));
    assert.equal(await status(own), 503);
    for (const each of two) each.socket.terminate();
  });
});

describe('permessage-deflate', { concurrency: true }, () => {
  test('is off by default', async (t) => {
    const line = await raw(t, server, { perMessageDeflate: true });
    await line.connect();
    assert.equal(line.extensions, '');
  });

  test('carries long and short messages in both directions', async (t) => {
    const own = await serve(config(`${spaces}[websocket]\ncompression = true\n`));
    t.after(() => own.stop());
    const line = await raw(t, own, { perMessageDeflate: { threshold: 0 } });
    assert.match(line.extensions, /^permessage-deflate/);
    await line.connect();
    const channel = 'plain:deflate';
    await line.ask({ id: 2, subscribe: { channel } });
    const plain = await raw(t, own, { perMessageDeflate: false });
    await plain.connect('ben');
    await plain.ask({ id: 2, subscribe: { channel } });
    const payloads = ['', 'short', 'a'.repeat(60_000), 'ä€𝄞 '.repeat(3_000), Array.from({ length: 5_000 }, (_, n) => n)];
    for (const [n, data] of payloads.entries()) {
      assert.ok((await line.ask({ id: n + 3, publish: { channel, data } })).publish);
    }
    for (const data of payloads) {
      const { push } = await plain.read(({ push: any }) => any?.pub);
      assert.deepEqual(push.pub.data, data);
    }
    const publications = () => line.frames.flatMap(({ text }) => text.split('\n'))
      .map((each) => JSON.parse(each).push?.pub?.data).filter((data) => data !== undefined);
    await until('all on the compressed side', () => publications().length === payloads.length);
    assert.deepEqual(publications(), payloads);
    const bytes = line.socket._socket.bytesRead;
    assert.ok(bytes < 60_000, `${bytes} bytes for more than 100,000`);
    line.socket.terminate();
    plain.socket.terminate();
  });
});
