// Who gets in, as whom, for how long.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { UnauthorizedError } from 'centrifuge';
import WebSocket from 'ws';
import { client, connected, raw, subscribe, subscribed, turnedAway, up } from './support/clients.mjs';
import { config, namespace, serve } from './support/server.mjs';
import { channelToken, inSeconds, keyPair, token, userToken } from './support/token.mjs';
import { next, refusal, until } from './support/wait.mjs';

const rooms = namespace('rooms', 'presence = true');

describe('with token keys', { concurrency: true }, () => {
  let server;
  before(async () => {
    server = await serve(config(rooms, 'user_connection_limit = 2'));
  });
  after(() => server.stop());

  test('a token gives a connection its id', async (t) => {
    const anna = client(t, server, { token: userToken('a1') });
    const context = await up(anna);
    assert.match(context.client, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(context.transport, 'websocket');
    assert.equal(anna.state, 'connected');
    await anna.ready();
  });

  test('the connect reply says version and liveness, and nothing of sessions', async (t) => {
    const line = await raw(t, server);
    const result = await line.connect('a2');
    assert.equal(typeof result.version, 'string');
    assert.equal(result.ping, 25);
    assert.equal(result.pong, true);
    assert.deepEqual(Object.keys(result).sort(), ['client', 'ping', 'pong', 'version']);
  });

  test('user and info of the token appear in presence', async (t) => {
    const made = client(t, server, { token: userToken('a3', { info: { name: 'Änne' } }) });
    const { client: id } = await up(made);
    const { subscription } = await subscribed(made, 'rooms:info');
    const { user, client: same, connInfo } = (await subscription.presence()).clients[id];
    assert.deepEqual({ user, same, connInfo }, { user: 'a3', same: id, connInfo: { name: 'Änne' } });
  });

  test('b64info is the same in base64', async (t) => {
    const b64info = Buffer.from('{"n":1}').toString('base64');
    const made = client(t, server, { token: userToken('a4', { b64info }) });
    const { client: id } = await up(made);
    const { subscription } = await subscribed(made, 'rooms:b64info');
    assert.deepEqual((await subscription.presence()).clients[id].connInfo, { n: 1 });
  });

  test('a token with an empty user is anonymous', async (t) => {
    const made = client(t, server, { token: userToken('') });
    await up(made);
    // Permissions for clients are not permissions for anonymous ones.
    assert.equal(await refusal(subscribe(made.newSubscription('rooms:x'))), 103);
  });

  test('without a token nobody gets in: 3501', async (t) => {
    const { code, reason } = await turnedAway(client(t, server));
    assert.deepEqual([code, reason], [3501, 'bad request']);
  });

  const invalid = {
    'no token': 'nonsense',
    'another secret': userToken('x', {}, { key: 'another secret, also of thirty-two bytes' }),
    'algorithm none': `${Buffer.from('{"alg":"none"}').toString('base64url')}.e30.`,
    'a subscription token': channelToken('x', 'rooms:x'),
    'not yet valid': userToken('x', { nbf: inSeconds(3600) }),
    'sub is a number': token({ sub: 42 }),
    'RS256 signed with the HMAC secret': userToken('x').replace(
      /^[^.]+/, Buffer.from('{"alg":"RS256"}').toString('base64url')),
  };
  for (const [what, text] of Object.entries(invalid)) {
    test(`an invalid token is final: ${what}`, async (t) => {
      const { code, reason } = await turnedAway(client(t, server, { token: text }));
      assert.deepEqual([code, reason], [3500, 'invalid token']);
    });
  }

  test('an expired token is fetched anew: 109', async (t) => {
    let asked = 0;
    const made = client(t, server, {
      token: userToken('a5', { exp: inSeconds(-60) }),
      getToken: async () => {
        asked += 1;
        return userToken('a5', { exp: inSeconds(600) });
      },
    });
    await up(made);
    assert.equal(asked, 1);
  });

  test('an expired token on the wire: an error, not the end', async (t) => {
    const line = await raw(t, server);
    const reply = await line.ask({ id: 1, connect: { token: userToken('a6', { exp: inSeconds(-60) }) } });
    assert.deepEqual(reply, { id: 1, error: { code: 109, message: 'token expired' } });
  });

  test('getToken gives the first token too', async (t) => {
    await up(client(t, server, { getToken: async () => userToken('a7') }));
  });

  test('getToken that refuses ends the client', async (t) => {
    const made = client(t, server, {
      getToken: async () => {
        throw new UnauthorizedError('no');
      },
    });
    assert.equal((await turnedAway(made)).code, 1);
  });

  test('a connection refreshes its token before it ends', async (t) => {
    const asked = [];
    const made = client(t, server, {
      token: userToken('a8', { exp: inSeconds(2) }),
      getToken: async () => {
        asked.push(performance.now());
        return userToken('a8', { exp: inSeconds(asked.length === 1 ? 2 : 600) });
      },
    });
    let downs = 0;
    await up(made);
    made.on('connecting', () => { downs += 1; });
    await until('two refreshes', () => asked.length === 2);
    const { subscription } = await subscribed(made, 'rooms:after-refresh');
    await subscription.publish('still here');
    assert.equal(downs, 0);
  });

  test('the lifetime of a token is told, and refresh answers it', async (t) => {
    const line = await raw(t, server);
    const { connect } = await line.ask({ id: 1, connect: { token: userToken('a9', { exp: inSeconds(100) }) } });
    assert.equal(connect.expires, true);
    assert.ok(connect.ttl > 95 && connect.ttl <= 100, `ttl ${connect.ttl}`);
    const { refresh } = await line.ask({ id: 2, refresh: { token: userToken('a9', { exp: inSeconds(200) }) } });
    assert.equal(refresh.expires, true);
    assert.ok(refresh.ttl > 195 && refresh.ttl <= 200, `ttl ${refresh.ttl}`);
  });

  test('refresh with an invalid token: 3500, with an expired one: 3005', async (t) => {
    for (const [text, code] of [['nonsense', 3500], [userToken('b1', { exp: inSeconds(-60) }), 3005]]) {
      const line = await raw(t, server);
      await line.ask({ id: 1, connect: { token: userToken('b1', { exp: inSeconds(100) }) } });
      line.send({ id: 2, refresh: { token: text } });
      assert.equal((await line.closed()).code, code);
    }
  });

  test('expire_at counts instead of exp', async (t) => {
    const line = await raw(t, server);
    const claims = { exp: inSeconds(100), expire_at: 0 };
    const { connect } = await line.ask({ id: 1, connect: { token: userToken('b2', claims) } });
    assert.equal(connect.expires, undefined);
  });

  test('connections of one user are limited: 3504, for others not', async (t) => {
    await connected(t, server, 'crowd');
    await connected(t, server, 'crowd');
    const { code } = await turnedAway(client(t, server, { token: userToken('crowd') }));
    assert.equal(code, 3504);
    await connected(t, server, 'nobody-else');
  });

  test('a client that left makes room', async (t) => {
    const first = await connected(t, server, 'leaver');
    await connected(t, server, 'leaver');
    first.disconnect();
    await until('room for one more', async () => {
      const line = await raw(t, server);
      line.send({ id: 1, connect: { token: userToken('leaver') } });
      const answer = await Promise.race([line.read(), line.closing]).catch(() => line.closing);
      return answer.connect;
    });
  });

  test('connect data, name, version and headers are taken', async (t) => {
    const made = client(t, server, {
      token: userToken('b3'),
      data: { any: ['thing'] },
      name: 'a name of more than sixteen characters',
      version: '1.2.3',
      headers: { 'x-any': 'thing' },
    });
    await up(made);
  });

  test('disconnect and connect again, with the same object', async (t) => {
    const made = await connected(t, server, 'b4');
    const { subscription } = await subscribed(made, 'rooms:again');
    const ends = next(made, 'disconnected');
    made.disconnect();
    assert.equal((await ends).code, 0);
    const back = next(subscription, 'subscribed');
    await up(made);
    await back;
  });

  test('connect and subscriptions leave in one frame, and connect is answered first', async (t) => {
    const frames = [];
    class Watched extends WebSocket {
      send(data) {
        frames.push(data);
        super.send(data);
      }
    }
    const made = client(t, server, { token: userToken('b5'), websocket: Watched });
    const order = [];
    made.on('connected', () => order.push('connected'));
    const subscriptions = ['rooms:1', 'rooms:2', 'rooms:3'].map((name) => made.newSubscription(name));
    const all = subscriptions.map((each) => next(each, 'subscribed', () => order.push(each.channel)));
    for (const each of subscriptions) each.subscribe();
    await up(made);
    await Promise.all(all);
    assert.equal(frames[0].split('\n').length, 4);
    assert.equal(order[0], 'connected');
    assert.deepEqual(order.slice(1).sort(), ['rooms:1', 'rooms:2', 'rooms:3']);
  });
});

describe('anonymous', { concurrency: true }, () => {
  test('allowed without a token, with permissions of their own', async (t) => {
    const open = namespace('open', 'allow_subscribe_for_anonymous = true');
    const server = await serve(config(rooms + open, 'allow_anonymous_connect_without_token = true'));
    t.after(() => server.stop());
    const made = client(t, server);
    await up(made);
    await subscribed(made, 'open:x');
    assert.equal(await refusal(subscribe(made.newSubscription('rooms:x'))), 103);
    made.disconnect();
  });

  test('tokens without a user can be refused: 3507', async (t) => {
    const server = await serve(config('', 'disallow_anonymous_connection_tokens = true'));
    t.after(() => server.stop());
    const { code } = await turnedAway(client(t, server, { token: userToken('') }));
    assert.equal(code, 3507);
  });

  test('insecure lets everybody do everything', async (t) => {
    const server = await serve('[client]\ninsecure = true\n');
    t.after(() => server.stop());
    const made = client(t, server);
    await up(made);
    const { subscription, seen } = await subscribed(made, 'anything');
    await subscription.publish({ by: 'nobody' });
    await until('the publication', () => seen.length === 1);
    made.disconnect();
  });
});

describe('keys and claims', { concurrency: true }, () => {
  const rsa = keyPair('rsa', { modulusLength: 2048 });
  const p256 = keyPair('ec', { namedCurve: 'P-256' });
  const p384 = keyPair('ec', { namedCurve: 'P-384' });
  const ed = keyPair('ed25519');
  const keys = {
    RS256: ['rsa_public_key', rsa],
    RS384: ['rsa_public_key', rsa],
    RS512: ['rsa_public_key', rsa],
    ES256: ['ecdsa_public_key', p256],
    ES384: ['ecdsa_public_key', p384],
    EdDSA: ['ed25519_public_key', ed],
  };
  for (const [alg, [option, pair]] of Object.entries(keys)) {
    test(`${alg}, and no other key`, async (t) => {
      const server = await serve(`[client.token]\n${option} = """${pair.pem}"""\n`);
      t.after(() => server.stop());
      const good = client(t, server, { token: userToken('anna', {}, { alg, key: pair.privateKey }) });
      await up(good);
      good.disconnect();
      // The public key is no secret: it must not pass as one for HS256.
      const forged = userToken('anna', {}, { alg: 'HS256', key: pair.pem });
      assert.equal((await turnedAway(client(t, server, { token: forged }))).code, 3500);
    });
  }

  for (const alg of ['HS256', 'HS384', 'HS512']) {
    test(alg, async (t) => {
      const server = await serve(config());
      t.after(() => server.stop());
      const made = client(t, server, { token: userToken('anna', {}, { alg }) });
      await up(made);
      made.disconnect();
    });
  }

  test('audience, issuer and the claim with the user', async (t) => {
    const server = await serve(config(namespace('rooms', 'presence = true')).replace(
      '[client.token]', '[client.token]\naudience = "app"\nissuer = "us"\nuser_id_claim = "uid"'));
    t.after(() => server.stop());
    const good = client(t, server, { token: token({ uid: 'u7', aud: ['app', 'b'], iss: 'us' }) });
    const { client: id } = await up(good);
    const { subscription } = await subscribed(good, 'rooms:x');
    assert.equal((await subscription.presence()).clients[id].user, 'u7');
    for (const claims of [{ aud: 'other', iss: 'us' }, { aud: 'app', iss: 'them' }, { iss: 'us' }, {}]) {
      const bad = client(t, server, { token: token({ uid: 'u7', ...claims }) });
      assert.equal((await turnedAway(bad)).code, 3500, JSON.stringify(claims));
    }
    good.disconnect();
  });
});

describe('time', { concurrency: true }, () => {
  test('a connection whose token ended is closed with 3005 and may come back', async (t) => {
    const server = await serve(config('', 'expired_close_delay = "1s"'));
    t.after(() => server.stop());
    const line = await raw(t, server);
    await line.ask({ id: 1, connect: { token: userToken('anna', { exp: inSeconds(2) }) } });
    assert.deepEqual(await line.closed(), { code: 3005, reason: 'connection expired' });
  });

  test('the server tells its time when asked to', async (t) => {
    const server = await serve(config('', 'connect_include_server_time = true'));
    t.after(() => server.stop());
    const line = await raw(t, server);
    const { time } = await line.connect();
    assert.ok(Math.abs(time - Date.now()) < 5_000, `time ${time}`);
    line.socket.terminate();
  });

  test('a server that ends tells its clients to come back, and they do', async (t) => {
    const first = await serve(config(rooms));
    const made = await connected(t, first);
    const away = next(made, 'connecting');
    const back = next(made, 'connected');
    await first.stop();
    assert.deepEqual(await away, { code: 3001, reason: 'shutdown' });
    const second = await serve(config(rooms), { listen: first.address });
    t.after(() => second.stop());
    await back;
    made.disconnect();
  });
});
