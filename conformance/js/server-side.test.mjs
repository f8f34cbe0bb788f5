// What a back end does: server-side subscriptions, and the HTTP API as clients see it.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { client, connected, raw, subscribe, subscribed, up } from './support/clients.mjs';
import { link } from './support/link.mjs';
import { API_KEY, config, namespace, serve } from './support/server.mjs';
import { inSeconds, userToken } from './support/token.mjs';
import { next, until } from './support/wait.mjs';

const kept = 'history_size = 20\nhistory_ttl = "1m"\nforce_recovery = true\npresence = true';
const spaces = namespace('kept', kept) + namespace('plain') + namespace('me')
  + namespace('forced', 'presence = true\njoin_leave = true\nforce_push_join_leave = true')
  + '[[channel.namespaces]]\nname = "closed"\n';

let names = 0;
const fresh = (space) => `${space}:t${++names}`;
const someone = () => `user${++names}`;

// Not in a hook: the runner hides why a hook of a whole file failed.
const server = await serve(config(spaces));
after(() => server.stop());

/** Everything that server-side subscriptions of a client tell. */
function watch(made) {
  const events = { subscribed: [], unsubscribed: [], publication: [], join: [], leave: [], subscribing: [] };
  for (const [name, list] of Object.entries(events)) made.on(name, (context) => list.push(context));
  return events;
}

describe('server-side subscriptions', { concurrency: true }, () => {
  test('channels of the token', async (t) => {
    const channels = [fresh('kept'), fresh('closed')];
    const made = client(t, server, { token: userToken(someone(), { channels }) });
    const events = watch(made);
    await up(made);
    assert.deepEqual(events.subscribed.map(({ channel }) => channel).sort(), [...channels].sort());
    await server.call('publish', { channel: channels[1], data: 'hi' });
    await until('the publication', () => events.publication.length === 1);
    const [{ channel, data }] = events.publication;
    assert.deepEqual([channel, data], [channels[1], 'hi']);
  });

  test('subs of the token, with info and data', async (t) => {
    const channel = fresh('kept');
    const subs = { [channel]: { info: { role: 'x' }, data: { welcome: 1 } } };
    const made = client(t, server, { token: userToken(someone(), { subs }) });
    const events = watch(made);
    const { client: id } = await up(made);
    assert.deepEqual(events.subscribed[0].data, { welcome: 1 });
    assert.equal(events.subscribed[0].recoverable, true);
    const { presence } = await server.call('presence', { channel });
    assert.deepEqual(presence[id].chan_info, { role: 'x' });
  });

  test('override of the token changes a namespace\'s options', async (t) => {
    const channel = fresh('kept');
    const subs = { [channel]: { override: { presence: { value: false } } } };
    const made = client(t, server, { token: userToken(someone(), { subs }) });
    await up(made);
    assert.deepEqual((await server.call('presence', { channel })).presence, {});
  });

  test('they recover too', async (t) => {
    const channel = fresh('kept');
    const line = await link(t, server);
    const made = client(t, line, { token: userToken(someone(), { channels: [channel] }) });
    const events = watch(made);
    await up(made);
    await server.call('publish', { channel, data: 1 });
    await until('the first', () => events.publication.length === 1);
    const away = next(made, 'connecting');
    line.cut();
    await away;
    for (const data of [2, 3]) await server.call('publish', { channel, data });
    const back = next(made, 'subscribed');
    line.mend();
    const { wasRecovering, recovered } = await back;
    assert.deepEqual({ wasRecovering, recovered }, { wasRecovering: true, recovered: true });
    await until('the missed ones', () => events.publication.length === 3);
    assert.deepEqual(events.publication.map(({ data }) => data), [1, 2, 3]);
  });

  test('the personal channel', async (t) => {
    const own = await serve(config(spaces, `
[client.subscribe_to_user_personal_channel]
enabled = true
personal_channel_namespace = "me"`));
    t.after(() => own.stop());
    const anna = client(t, own, { token: userToken('anna') });
    const annas = watch(anna);
    await up(anna);
    const ben = client(t, own, { token: userToken('ben') });
    const bens = watch(ben);
    await up(ben);
    assert.deepEqual(annas.subscribed.map(({ channel }) => channel), ['me:#anna']);
    await own.call('publish', { channel: 'me:#anna', data: 'for anna' });
    await own.call('publish', { channel: 'me:#ben', data: 'for ben' });
    await until('both', () => annas.publication.length > 0 && bens.publication.length > 0);
    assert.deepEqual(annas.publication.map(({ data }) => data), ['for anna']);
    assert.deepEqual(bens.publication.map(({ data }) => data), ['for ben']);
    anna.disconnect();
    ben.disconnect();
  });

  test('join and leave reach them where they are forced', async (t) => {
    const channel = fresh('forced');
    const made = client(t, server, { token: userToken(someone(), { channels: [channel] }) });
    const events = watch(made);
    await up(made);
    const visitor = someone();
    const other = await connected(t, server, visitor);
    await subscribed(other, channel);
    other.disconnect();
    const of = (list) => list.filter(({ info }) => info.user === visitor).length;
    await until('join and leave', () => of(events.join) === 1 && of(events.leave) === 1);
  });

  test('subscribe and unsubscribe by the API', async (t) => {
    const user = someone();
    const channel = fresh('closed');
    const made = await connected(t, server, user);
    const events = watch(made);
    await server.call('subscribe', { user, channel, data: { n: 1 } });
    await until('subscribed', () => events.subscribed.length === 1);
    assert.equal(events.subscribed[0].channel, channel);
    assert.deepEqual(events.subscribed[0].data, { n: 1 });
    await server.call('publish', { channel, data: 1 });
    await until('the publication', () => events.publication.length === 1);
    await server.call('unsubscribe', { user, channel });
    await until('unsubscribed', () => events.unsubscribed.length === 1);
    assert.deepEqual((await server.call('channels', { pattern: channel })).channels, {});
  });

  test('subscribe by the API brings what came since a position', async (t) => {
    const user = someone();
    const channel = fresh('kept');
    for (const data of [1, 2, 3]) await server.call('publish', { channel, data });
    const { epoch } = await server.call('history', { channel });
    const made = await connected(t, server, user);
    const events = watch(made);
    await server.call('subscribe', { user, channel, recover_since: { offset: 1, epoch } });
    await until('subscribed', () => events.subscribed.length === 1);
    await server.call('publish', { channel, data: 4 });
    await until('the last', () => events.publication.at(-1)?.data === 4);
    assert.deepEqual(events.publication.map(({ data }) => data), [2, 3, 4]);
  });

  test('subscribe by the API of one connection leaves the others', async (t) => {
    const user = someone();
    const channel = fresh('kept');
    const one = client(t, server, { token: userToken(user) });
    const { client: id } = await up(one);
    const other = await connected(t, server, user);
    const events = [watch(one), watch(other)];
    await server.call('subscribe', { user, client: id, channel });
    await until('subscribed', () => events[0].subscribed.length === 1);
    assert.equal((await server.call('presence_stats', { channel })).num_clients, 1);
    assert.equal(events[1].subscribed.length, 0);
  });
});

describe('publish and broadcast', { concurrency: true }, () => {
  test('answer with a position where there is history', async () => {
    const channel = fresh('kept');
    const first = await server.call('publish', { channel, data: { n: 1 } });
    const second = await server.call('publish', { channel, data: { n: 2 } });
    assert.deepEqual([first.offset, second.offset], [1, 2]);
    assert.ok(first.epoch && first.epoch === second.epoch);
    assert.deepEqual(await server.call('publish', { channel: fresh('plain'), data: 1 }), {});
  });

  test('tags and b64data arrive, and stay in the history', async (t) => {
    const channel = fresh('kept');
    const { subscription } = await subscribed(await connected(t, server), channel);
    const comes = next(subscription, 'publication');
    const b64data = Buffer.from('{"b":64}').toString('base64');
    await server.call('publish', { channel, b64data, tags: { lang: 'de' } });
    const { data, tags, info } = await comes;
    assert.deepEqual({ data, tags, info }, { data: { b: 64 }, tags: { lang: 'de' }, info: undefined });
    const { publications } = await server.call('history', { channel, limit: 1 });
    const [{ data: kept, offset, tags: same }] = publications;
    assert.deepEqual({ kept, offset, same }, { kept: data, offset: 1, same: tags });
  });

  test('skip_history delivers without keeping', async (t) => {
    const channel = fresh('kept');
    const { seen } = await subscribed(await connected(t, server), channel);
    await server.call('publish', { channel, data: 1, skip_history: true });
    await until('the publication', () => seen.length === 1);
    const { publications, offset } = await server.call('history', { channel, limit: 5 });
    assert.deepEqual([publications, offset], [[], 0]);
  });

  test('an idempotency key publishes once', async (t) => {
    const channel = fresh('kept');
    const { seen } = await subscribed(await connected(t, server), channel);
    const request = { channel, data: 'once', idempotency_key: 'k1' };
    const answers = await Promise.all(Array.from({ length: 5 }, () => server.call('publish', request)));
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
    const other = fresh('kept');
    assert.equal((await server.call('publish', { ...request, channel: other })).offset, 1);
    await server.call('publish', { channel, data: 'after' });
    await until('the one after', () => seen.at(-1) === 'after');
    assert.deepEqual(seen, ['once', 'after']);
  });

  test('broadcast answers for each channel', async (t) => {
    const channels = [fresh('kept'), 'nowhere:x', fresh('plain')];
    const { seen } = await subscribed(await connected(t, server), channels[0]);
    const { responses } = await server.call('broadcast', { channels, data: 'all' });
    assert.equal(responses.length, 3);
    assert.equal(responses[0].result.offset, 1);
    assert.equal(responses[1].error.code, 102);
    assert.deepEqual(responses[2].result, {});
    await until('the publication', () => seen.length === 1);
  });

  test('wrong ones are refused', async () => {
    const code = async (request) => (await server.api('publish', request)).body.error?.code;
    assert.equal(await code({ channel: 'nowhere:x', data: 1 }), 102);
    assert.equal((await server.api('publish', '{"channel":')).status, 400);
    for (const request of [{ channel: 'plain:x' }, { data: 1 }]) {
      const { status, body } = await server.api('publish', request);
      assert.ok(status === 400 || body.error?.code === 107, `${status} ${JSON.stringify(body)}`);
    }
  });
});

describe('ask', { concurrency: true }, () => {
  test('presence, presence_stats, channels and info', async (t) => {
    const channel = fresh('kept');
    const user = someone();
    const made = client(t, server, { token: userToken(user, { info: { n: 1 } }) });
    const { client: id } = await up(made);
    await subscribed(made, channel);
    const { presence } = await server.call('presence', { channel });
    assert.deepEqual(presence, { [id]: { user, client: id, conn_info: { n: 1 } } });
    assert.deepEqual(await server.call('presence_stats', { channel }), { num_clients: 1, num_users: 1 });
    assert.deepEqual((await server.call('channels', { pattern: channel })).channels, { [channel]: { num_clients: 1 } });
    assert.ok(channel in (await server.call('channels', { pattern: 'kept:*' })).channels);
    assert.ok(!(channel in (await server.call('channels', { pattern: 'plain:*' })).channels));
    const node = await until('the node counts them', async () => {
      const { nodes } = await server.call('info', {});
      return nodes.length === 1 && nodes[0].num_subs > 0 && nodes[0];
    });
    for (const field of ['uid', 'name', 'version']) assert.equal(typeof node[field], 'string', field);
    for (const field of ['num_clients', 'num_users', 'num_channels', 'num_subs']) {
      assert.ok(node[field] >= 1, `${field}: ${node[field]}`);
    }
    assert.equal(typeof node.uptime, 'number');
  });

  test('history and history_remove', async () => {
    const channel = fresh('kept');
    for (const data of [1, 2, 3, 4]) await server.call('publish', { channel, data });
    const { publications, offset, epoch } = await server.call('history', { channel, limit: 2 });
    assert.deepEqual(publications.map(({ data }) => data), [1, 2]);
    assert.equal(offset, 4);
    const since = await server.call('history', { channel, limit: 2, since: { offset: 3, epoch } });
    assert.deepEqual(since.publications.map(({ data }) => data), [4]);
    const newest = await server.call('history', { channel, limit: 2, reverse: true });
    assert.deepEqual(newest.publications.map(({ data }) => data), [4, 3]);
    await server.call('history_remove', { channel });
    assert.deepEqual((await server.call('history', { channel, limit: 9 })).publications, []);
  });

  test('what is off is 108, what is unknown 102', async () => {
    for (const method of ['presence', 'presence_stats', 'history', 'history_remove']) {
      assert.equal((await server.api(method, { channel: 'closed:x' })).body.error?.code, 108, method);
      assert.equal((await server.api(method, { channel: 'nowhere:x' })).body.error?.code, 102, method);
    }
  });

  test('batch answers in order', async () => {
    const channel = fresh('kept');
    const { status, body } = await server.api('batch', {
      commands: [
        { publish: { channel, data: 1 } },
        { publish: { channel, data: 2 } },
        { history: { channel, limit: 9 } },
        { presence: { channel: 'closed:x' } },
        { info: {} },
      ],
    });
    assert.equal(status, 200);
    const [one, two, history, presence, info] = body.replies;
    assert.deepEqual([one.publish.offset, two.publish.offset], [1, 2]);
    assert.deepEqual(history.history.publications.map(({ data }) => data), [1, 2]);
    assert.equal(presence.error.code, 108);
    assert.equal(info.info.nodes.length, 1);
  });
});

describe('the key', { concurrency: true }, () => {
  const good = {
    'X-API-Key': { 'X-API-Key': API_KEY },
    'Authorization': { Authorization: `apikey ${API_KEY}` },
  };
  for (const [what, headers] of Object.entries(good)) {
    test(`passes as ${what}`, async () => {
      assert.equal((await server.api('info', {}, headers)).status, 200);
    });
  }

  test('passes in the query', async () => {
    assert.equal((await server.api(`info?api_key=${API_KEY}`, {}, {})).status, 200);
  });

  test('without it, or with another: 401', async () => {
    for (const headers of [{}, { 'X-API-Key': 'other' }, { 'X-API-Key': '' }, { Authorization: API_KEY }]) {
      assert.equal((await server.api('info', {}, headers)).status, 401, JSON.stringify(headers));
    }
  });

  test('an unknown method: 404, GET: 405', async () => {
    assert.equal((await server.api('fly', {})).status, 404);
    const answer = await fetch(new URL('/api/info', server.url), { headers: { 'X-API-Key': API_KEY } });
    assert.equal(answer.status, 405);
  });

  test('errors are HTTP statuses when asked for', async () => {
    const headers = { 'X-API-Key': API_KEY, 'X-Centrifugo-Error-Mode': 'transport' };
    assert.equal((await server.api('history', { channel: 'nowhere:x' }, headers)).status, 404);
    assert.equal((await server.api('history', { channel: 'closed:x' }, headers)).status, 400);
  });
});

describe('disconnect, unsubscribe, refresh', { concurrency: true }, () => {
  test('disconnect is final without a code: 3503', async (t) => {
    const user = someone();
    const made = await connected(t, server, user);
    const ends = next(made, 'disconnected');
    await server.call('disconnect', { user });
    assert.deepEqual(await ends, { code: 3503, reason: 'force disconnect' });
  });

  test('a code of one\'s own from 4000 lets clients come back, from 4500 not', async (t) => {
    const user = someone();
    const made = await connected(t, server, user);
    const away = next(made, 'connecting');
    const back = next(made, 'connected');
    await server.call('disconnect', { user, disconnect: { code: 4001, reason: 'back soon' } });
    assert.deepEqual(await away, { code: 4001, reason: 'back soon' });
    await back;
    const ends = next(made, 'disconnected');
    await server.call('disconnect', { user, disconnect: { code: 4500, reason: 'signed out' } });
    assert.deepEqual(await ends, { code: 4500, reason: 'signed out' });
  });

  test('one connection of several, or all but one', async (t) => {
    const user = someone();
    const three = [];
    for (let n = 0; n < 3; n += 1) {
      const made = client(t, server, { token: userToken(user) });
      three.push({ made, id: (await up(made)).client });
    }
    const first = next(three[0].made, 'disconnected');
    await server.call('disconnect', { user, client: three[0].id });
    await first;
    const second = next(three[1].made, 'disconnected');
    await server.call('disconnect', { user, whitelist: [three[2].id] });
    await second;
    await three[2].made.ready();
    const line = three[2].made.newSubscription(fresh('plain'));
    await subscribe(line);
    assert.deepEqual(three.map(({ made }) => made.state), ['disconnected', 'disconnected', 'connected']);
  });

  test('other users are left alone', async (t) => {
    const bystander = await connected(t, server, someone());
    const user = someone();
    const made = await connected(t, server, user);
    const ends = next(made, 'disconnected');
    await server.call('disconnect', { user });
    await ends;
    await subscribed(bystander, fresh('plain'));
  });

  test('of nobody: fine', async () => {
    for (const method of ['disconnect', 'refresh']) {
      assert.deepEqual(await server.call(method, { user: 'nobody-here' }), {}, method);
    }
    for (const method of ['subscribe', 'unsubscribe']) {
      const request = { user: 'nobody-here', channel: 'plain:x' };
      assert.deepEqual(await server.call(method, request), {}, method);
    }
  });

  test('unsubscribe of one user, from one channel', async (t) => {
    const user = someone();
    const channel = fresh('plain');
    const made = await connected(t, server, user);
    const { subscription } = await subscribed(made, channel);
    const { subscription: other } = await subscribed(made, fresh('plain'));
    const { subscription: bystander } = await subscribed(await connected(t, server, someone()), channel);
    const ends = next(subscription, 'unsubscribed');
    await server.call('unsubscribe', { user, channel });
    const { code, reason } = await ends;
    assert.deepEqual([code, reason], [2000, 'server unsubscribe']);
    assert.deepEqual([other.state, bystander.state], ['subscribed', 'subscribed']);
  });

  test('refresh: expired ends the connection with 3005, and clients come back', async (t) => {
    const user = someone();
    const made = await connected(t, server, user);
    const away = next(made, 'connecting');
    const back = next(made, 'connected');
    await server.call('refresh', { user, expired: true });
    assert.equal((await away).code, 3005);
    await back;
  });

  test('refresh: a new end is told to the client', async (t) => {
    const user = someone();
    const line = await raw(t, server);
    await line.ask({ id: 1, connect: { token: userToken(user, { exp: inSeconds(60) }) } });
    await server.call('refresh', { user, expire_at: inSeconds(600) });
    const { push } = await line.read(({ push: any }) => any?.refresh);
    assert.equal(push.refresh.expires, true);
    assert.ok(push.refresh.ttl > 595 && push.refresh.ttl <= 600, `ttl ${push.refresh.ttl}`);
  });
});
