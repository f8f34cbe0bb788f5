// Every command of the npm client on channels, and what each channel allows.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { client, connected, raw, subscribe, subscribed, up } from './support/clients.mjs';
import { config, namespace, serve } from './support/server.mjs';
import { channelToken, inSeconds, token, userToken } from './support/token.mjs';
import { next, refusal, until } from './support/wait.mjs';

const namespaces = [
  namespace('plain'),
  namespace('chat', 'presence = true\njoin_leave = true\nhistory_size = 10\nhistory_ttl = "1m"'),
  namespace('forced', 'presence = true\njoin_leave = true\nforce_push_join_leave = true'),
  namespace('lower', 'channel_regex = "^[a-z]+$"'),
  namespace('objects', 'publication_data_format = "json_object"'),
  '[[channel.namespaces]]\nname = "closed"\npresence = true\nhistory_size = 5\nhistory_ttl = "1m"\n',
  `[[channel.namespaces]]
name = "limited"
presence = true
allow_user_limited_channels = true
`,
  `[[channel.namespaces]]
name = "readers"
presence = true
history_size = 5
history_ttl = "1m"
allow_subscribe_for_client = true
`,
  `[[channel.namespaces]]
name = "anyone"
presence = true
history_size = 5
history_ttl = "1m"
allow_publish_for_client = true
allow_presence_for_client = true
allow_history_for_client = true
`,
].join('');

let names = 0;
// A channel of its own for each test: they run at the same time.
const fresh = (space) => `${space}:t${++names}`;

// Not in a hook: the runner hides why a hook of a whole file failed.
const server = await serve(config(namespaces, 'channel_limit = 5\nexpired_sub_close_delay = "1s"'));
after(() => server.stop());

describe('subscribe and unsubscribe', { concurrency: true }, () => {
  test('a plain subscription has neither position nor recovery', async (t) => {
    const { context } = await subscribed(await connected(t, server), fresh('plain'));
    const { channel, positioned, recoverable, recovered, wasRecovering, streamPosition } = context;
    assert.match(channel, /^plain:/);
    assert.deepEqual(
      { positioned, recoverable, recovered, wasRecovering, streamPosition },
      { positioned: false, recoverable: false, recovered: false, wasRecovering: false, streamPosition: undefined },
    );
  });

  test('after unsubscribe nothing comes, and one may subscribe again', async (t) => {
    const channel = fresh('plain');
    const anna = await connected(t, server, 'anna');
    const { subscription, seen } = await subscribed(anna, channel);
    const { subscription: other, seen: otherSeen } = await subscribed(await connected(t, server, 'ben'), channel);
    const ends = next(subscription, 'unsubscribed');
    subscription.unsubscribe();
    assert.equal((await ends).code, 0);
    await until('the server knows', async () => {
      const { channels } = await server.call('channels', { pattern: channel });
      return channels[channel].num_clients === 1;
    });
    await other.publish('unheard');
    await subscribe(subscription);
    await other.publish('heard');
    await until('the second publication', () => seen.length > 0 && otherSeen.length === 2);
    assert.deepEqual(seen, ['heard']);
    assert.deepEqual(otherSeen, ['unheard', 'heard']);
  });

  test('unsubscribe of what is not subscribed succeeds', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    const reply = await line.ask({ id: 2, unsubscribe: { channel: 'plain:never' } });
    assert.deepEqual(reply, { id: 2, unsubscribe: {} });
  });

  test('twice: 105', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    const channel = fresh('plain');
    assert.deepEqual(await line.ask({ id: 2, subscribe: { channel } }), { id: 2, subscribe: {} });
    const again = await line.ask({ id: 3, subscribe: { channel } });
    assert.deepEqual(again, { id: 3, error: { code: 105, message: 'already subscribed' } });
  });

  test('one more than channel_limit: 106; after an unsubscribe there is room', async (t) => {
    const anna = await connected(t, server);
    const five = [];
    for (let n = 0; n < 5; n += 1) five.push(await subscribed(anna, fresh('plain')));
    assert.equal(await refusal(subscribe(anna.newSubscription(fresh('plain')))), 106);
    five[0].subscription.unsubscribe();
    await subscribed(anna, fresh('plain'));
  });

  const refused = {
    'a name of 256 bytes': [`plain:${'x'.repeat(250)}`, 107],
    'a name that is not ASCII': ['plain:größe', 107],
    'a name that the pattern does not take': ['lower:UPPER', 107],
    'an unknown namespace': ['nowhere:x', 102],
    'a namespace that allows nothing': ['closed:x', 103],
    'no namespace, nothing allowed': ['x', 103],
    'a private channel without a token': ['$plain:x', 103],
    'a user-limited channel of others': ['limited:x#ben,cara', 103],
    'a user-limited channel where none are allowed': ['closed:x#anna', 103],
    'part of a user id': ['limited:x#annabel', 103],
  };
  for (const [what, [channel, code]] of Object.entries(refused)) {
    test(`${what}: ${code}`, async (t) => {
      const anna = await connected(t, server, 'anna');
      assert.equal(await refusal(subscribe(anna.newSubscription(channel))), code);
    });
  }

  const taken = {
    'a name of 255 bytes': `plain:${'x'.repeat(249)}`,
    'a name that the pattern takes': 'lower:abc',
    'a user-limited channel that lists the user': 'limited:x#ben,anna',
  };
  for (const [what, channel] of Object.entries(taken)) {
    test(what, async (t) => {
      await subscribed(await connected(t, server, 'anna'), channel);
    });
  }
});

describe('subscription tokens', { concurrency: true }, () => {
  test('open private channels and closed namespaces', async (t) => {
    const anna = await connected(t, server, 'anna');
    for (const channel of ['$plain:token', '$private', 'closed:token']) {
      await subscribed(anna, channel, { token: channelToken('anna', channel) });
    }
  });

  test('getToken is asked with the channel', async (t) => {
    const anna = await connected(t, server, 'anna');
    const asked = [];
    await subscribed(anna, '$plain:asked', {
      getToken: async ({ channel }) => {
        asked.push(channel);
        return channelToken('anna', channel);
      },
    });
    assert.deepEqual(asked, ['$plain:asked']);
  });

  test('info of the token is the subscription\'s info, data comes back', async (t) => {
    const channel = fresh('chat');
    const anna = await connected(t, server, 'anna');
    const text = channelToken('anna', channel, { info: { role: 'owner' }, data: { hello: 1 } });
    const { subscription, context } = await subscribed(anna, channel, { token: text });
    assert.deepEqual(context.data, { hello: 1 });
    const [info] = Object.values((await subscription.presence()).clients);
    assert.deepEqual(info.chanInfo, { role: 'owner' });
  });

  test('an invalid one: 103', async (t) => {
    const anna = await connected(t, server, 'anna');
    const subscription = anna.newSubscription('$plain:invalid', { token: 'nonsense' });
    assert.equal(await refusal(subscribe(subscription)), 103);
  });

  test('an expired one is fetched anew: 109', async (t) => {
    const anna = await connected(t, server, 'anna');
    let asked = 0;
    const channel = '$plain:expired';
    await subscribed(anna, channel, {
      token: channelToken('anna', channel, { exp: inSeconds(-60) }),
      minResubscribeDelay: 20,
      getToken: async () => {
        asked += 1;
        return channelToken('anna', channel);
      },
    });
    assert.equal(asked, 1);
  });

  for (const [what, text] of Object.entries({
    'of another user': channelToken('ben', '$plain:mine'),
    'of another channel': channelToken('anna', '$plain:other'),
  })) {
    test(`one ${what} ends the connection: 3500`, async (t) => {
      const anna = await connected(t, server, 'anna');
      const ends = next(anna, 'disconnected');
      anna.newSubscription('$plain:mine', { token: text }).subscribe();
      assert.equal((await ends).code, 3500);
    });
  }

  test('a subscription refreshes its token before it ends', async (t) => {
    const anna = await connected(t, server, 'anna');
    const channel = '$plain:refresh';
    let asked = 0;
    const { subscription } = await subscribed(anna, channel, {
      getToken: async () => {
        asked += 1;
        return channelToken('anna', channel, { exp: inSeconds(asked < 3 ? 2 : 600) });
      },
    });
    let downs = 0;
    subscription.on('subscribing', () => { downs += 1; });
    await until('two refreshes', () => asked === 3);
    // A bad answer to the last refresh would end the subscription.
    await subscription.publish('still here');
    assert.equal(downs, 0);
  });

  test('one that is not refreshed ends the subscription: 2501', async (t) => {
    const line = await raw(t, server);
    await line.connect('anna');
    const channel = '$plain:ends';
    const text = channelToken('anna', channel, { exp: inSeconds(2) });
    const { subscribe: result } = await line.ask({ id: 2, subscribe: { channel, token: text } });
    assert.equal(result.expires, true);
    assert.ok(result.ttl >= 1 && result.ttl <= 2, `ttl ${result.ttl}`);
    const { push } = await line.read(({ push: any }) => any?.unsubscribe);
    assert.deepEqual(push, { channel, unsubscribe: { code: 2501, reason: 'subscription expired' } });
  });

  test('sub_refresh: of nothing 103, without a token 107, expired 109', async (t) => {
    const line = await raw(t, server);
    await line.connect('anna');
    const channel = '$plain:subrefresh';
    const ask = async (id, request) => (await line.ask({ id, sub_refresh: request })).error?.code;
    const soon = channelToken('anna', channel, { exp: inSeconds(100) });
    assert.equal(await ask(2, { channel, token: soon }), 103);
    await line.ask({ id: 3, subscribe: { channel, token: soon } });
    assert.equal(await ask(4, { channel }), 107);
    const past = channelToken('anna', channel, { exp: inSeconds(-100) });
    assert.equal(await ask(5, { channel, token: past }), 109);
    const later = channelToken('anna', channel, { exp: inSeconds(200) });
    const { sub_refresh: result } = await line.ask({ id: 6, sub_refresh: { channel, token: later } });
    assert.equal(result.expires, true);
    assert.ok(result.ttl > 195 && result.ttl <= 200, `ttl ${result.ttl}`);
  });

  test('a token is for one connection, if it says so', async (t) => {
    const line = await raw(t, server);
    const { client: id } = await line.connect('anna');
    const bound = token({ sub: 'anna', channel: '$plain:bound', client: id });
    assert.ok((await line.ask({ id: 2, subscribe: { channel: '$plain:bound', token: bound } })).subscribe);
    const other = await raw(t, server);
    await other.connect('anna');
    other.send({ id: 2, subscribe: { channel: '$plain:bound', token: bound } });
    const answer = await Promise.race([other.read().then(({ error }) => error?.code), other.closed().then(({ code }) => code)]);
    assert.ok(answer === 103 || answer === 3500, `answered ${answer}`);
  });
});

describe('publish', { concurrency: true }, () => {
  test('reaches everybody, the publisher too, in one order', async (t) => {
    const channel = fresh('plain');
    const people = await Promise.all(['anna', 'ben', 'cara'].map(async (name) => {
      const made = await connected(t, server, name);
      return subscribed(made, channel);
    }));
    const count = 50;
    await Promise.all(people.map(async ({ subscription }, person) => {
      for (let n = 0; n < count; n += 1) await subscription.publish({ person, n });
    }));
    await until('all publications', () => people.every(({ seen }) => seen.length === 3 * count));
    assert.deepEqual(people[1].seen, people[0].seen);
    assert.deepEqual(people[2].seen, people[0].seen);
    for (const person of [0, 1, 2]) {
      const own = people[0].seen.filter((each) => each.person === person).map(({ n }) => n);
      assert.deepEqual(own, Array.from({ length: count }, (_, n) => n));
    }
  });

  test('the publisher\'s own publication comes before the ack\'s successor', async (t) => {
    const { subscription, seen } = await subscribed(await connected(t, server), fresh('plain'));
    for (let n = 0; n < 20; n += 1) {
      await subscription.publish(n);
      await until('its own publication', () => seen.length === n + 1);
    }
    assert.deepEqual(seen, Array.from({ length: 20 }, (_, n) => n));
  });

  test('says who published', async (t) => {
    const channel = fresh('plain');
    const anna = client(t, server, { token: userToken('anna', { info: { n: 1 } }) });
    const { client: id } = await up(anna);
    const { subscription } = await subscribed(anna, channel);
    const comes = next(subscription, 'publication');
    await subscription.publish('hi');
    const { info } = await comes;
    assert.equal(info.user, 'anna');
    assert.equal(info.client, id);
    assert.deepEqual(info.connInfo, { n: 1 });
  });

  test('numbers publications where there is history, and only there', async (t) => {
    for (const [space, offsets] of [['chat', [1, 2, 3]], ['plain', [undefined, undefined, undefined]]]) {
      const { subscription } = await subscribed(await connected(t, server), fresh(space));
      const seen = [];
      subscription.on('publication', ({ offset }) => seen.push(offset));
      for (let n = 0; n < 3; n += 1) await subscription.publish(n);
      await until('three publications', () => seen.length === 3);
      assert.deepEqual(seen, offsets);
    }
  });

  const payloads = {
    'numbers as they are': [0, -1, 1.5, 1e21, 9007199254740991],
    'texts with everything in them': ['', 'ä€𝄞', '\n\r\t"\\', '\u2028\u2029\u0000', '</script>'],
    'values': [true, false, [], {}, [[]], [null], { a: { b: [1, { c: null }] } }],
    'odd keys': [{ '': 1, 'ä': 2, '\n': 3, toString: 4 }],
    'a long text': ['x'.repeat(60_000)],
  };
  for (const [what, values] of Object.entries(payloads)) {
    test(`payloads arrive unchanged: ${what}`, async (t) => {
      const { subscription, seen } = await subscribed(await connected(t, server), fresh('plain'));
      for (const value of values) await subscription.publish(value);
      await until('all payloads', () => seen.length === values.length);
      assert.deepEqual(seen, values);
    });
  }

  test('whitespace and newlines of a payload never break a frame', async (t) => {
    const channel = fresh('plain');
    const { seen } = await subscribed(await connected(t, server), channel);
    const pretty = `{"channel": "${channel}",\n "data": {\n\t"a" : [ 1,\r\n 2 ],\n "b":"c d" } }`;
    assert.deepEqual((await server.api('publish', pretty)).body, { result: {} });
    await until('the publication', () => seen.length === 1);
    assert.deepEqual(seen, [{ a: [1, 2], b: 'c d' }]);
  });

  test('without being subscribed, where that is allowed', async (t) => {
    const anna = await connected(t, server);
    await anna.publish('anyone:publish', 1);
    assert.equal(await refusal(anna.publish('plain:not-subscribed', 1)), 103);
    assert.equal(await refusal(anna.publish('nowhere:x', 1)), 102);
    assert.equal(await refusal(anna.publish('closed:x', 1)), 103);
  });

  test('only objects where the namespace wants objects: 107', async (t) => {
    const { subscription, seen } = await subscribed(await connected(t, server), fresh('objects'));
    assert.equal(await refusal(subscription.publish([1])), 107);
    assert.equal(await refusal(subscription.publish('text')), 107);
    await subscription.publish({ fine: true });
    await until('the object', () => seen.length === 1);
    assert.deepEqual(seen, [{ fine: true }]);
  });

  test('no data at all: 107', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    const channel = fresh('plain');
    await line.ask({ id: 2, subscribe: { channel } });
    assert.equal((await line.ask({ id: 3, publish: { channel } })).error?.code, 107);
  });
});

describe('presence', { concurrency: true }, () => {
  test('who is there, and how many', async (t) => {
    const channel = fresh('chat');
    const made = await Promise.all(['anna', 'anna', 'ben'].map((name) => connected(t, server, name)));
    const [first] = await Promise.all(made.map((each) => subscribed(each, channel)));
    const { clients } = await first.subscription.presence();
    assert.equal(Object.keys(clients).length, 3);
    for (const [id, info] of Object.entries(clients)) assert.equal(info.client, id);
    assert.deepEqual(Object.values(clients).map(({ user }) => user).sort(), ['anna', 'anna', 'ben']);
    const { numClients, numUsers } = await first.subscription.presenceStats();
    assert.deepEqual({ numClients, numUsers }, { numClients: 3, numUsers: 2 });
  });

  test('whoever left is not there', async (t) => {
    const channel = fresh('chat');
    const { subscription } = await subscribed(await connected(t, server, 'anna'), channel);
    const ben = await connected(t, server, 'ben');
    const cara = await connected(t, server, 'cara');
    const { subscription: bens } = await subscribed(ben, channel);
    await subscribed(cara, channel);
    bens.unsubscribe();
    cara.disconnect();
    await until('both are gone', async () => (await subscription.presenceStats()).numClients === 1);
    const [info] = Object.values((await subscription.presence()).clients);
    assert.equal(info.user, 'anna');
  });

  test('an empty channel has nobody, in numbers', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    const channel = fresh('anyone');
    assert.deepEqual(await line.ask({ id: 2, presence: { channel } }), { id: 2, presence: { presence: {} } });
    assert.deepEqual(
      await line.ask({ id: 3, presence_stats: { channel } }),
      { id: 3, presence_stats: { num_clients: 0, num_users: 0 } },
    );
  });

  test('off: 108, not allowed: 103, unknown: 102', async (t) => {
    const anna = await connected(t, server);
    for (const ask of [(channel) => anna.presence(channel), (channel) => anna.presenceStats(channel)]) {
      assert.equal(await refusal(ask('plain:x')), 108);
      assert.equal(await refusal(ask('closed:x')), 103);
      assert.equal(await refusal(ask('chat:not-subscribed')), 103);
      assert.equal(await refusal(ask('nowhere:x')), 102);
    }
    const { subscription } = await subscribed(anna, fresh('readers'));
    assert.equal(await refusal(subscription.presence()), 103);
  });
});

describe('join and leave', { concurrency: true }, () => {
  async function watch(t, channel, options) {
    const made = client(t, server, { token: userToken('watcher') });
    const { client: id } = await up(made);
    const subscription = made.newSubscription(channel, options);
    const events = [];
    subscription.on('join', ({ info }) => info.client !== id && events.push(`+${info.user}`));
    subscription.on('leave', ({ info }) => info.client !== id && events.push(`-${info.user}`));
    await subscribe(subscription);
    return events;
  }

  async function visit(t, channel) {
    const { subscription } = await subscribed(await connected(t, server, 'ben'), channel);
    subscription.unsubscribe();
    const cara = await connected(t, server, 'cara');
    await subscribed(cara, channel);
    cara.disconnect();
  }

  test('for who asks', async (t) => {
    const channel = fresh('chat');
    const asked = await watch(t, channel, { joinLeave: true });
    const silent = await watch(t, channel, {});
    await visit(t, channel);
    const others = () => asked.filter((each) => !each.endsWith('watcher'));
    await until('four events', () => others().length === 4);
    assert.deepEqual(others().filter((each) => each.endsWith('ben')), ['+ben', '-ben']);
    assert.deepEqual(others().filter((each) => each.endsWith('cara')), ['+cara', '-cara']);
    assert.deepEqual(silent, []);
  });

  test('for all, where it is forced', async (t) => {
    const channel = fresh('forced');
    const events = await watch(t, channel, {});
    await visit(t, channel);
    await until('four events', () => events.length === 4);
    assert.deepEqual(events.filter((each) => each.endsWith('ben')), ['+ben', '-ben']);
    assert.deepEqual(events.filter((each) => each.endsWith('cara')), ['+cara', '-cara']);
  });

  test('for nobody, where it is off', async (t) => {
    const channel = fresh('readers');
    const events = await watch(t, channel, { joinLeave: true });
    await visit(t, channel);
    const { seen } = await subscribed(await connected(t, server, 'dan'), channel);
    await server.call('publish', { channel, data: 'after them' });
    await until('a publication after the visit', () => seen.length === 1);
    assert.deepEqual(events, []);
  });
});

describe('history', { concurrency: true }, () => {
  async function filled(t, count) {
    const { subscription } = await subscribed(await connected(t, server), fresh('chat'));
    for (let n = 1; n <= count; n += 1) await subscription.publish(n);
    return subscription;
  }
  const offsets = ({ publications }) => publications.map(({ offset }) => offset);

  test('without a limit there is only the position', async (t) => {
    const subscription = await filled(t, 3);
    const { publications, epoch, offset } = await subscription.history();
    assert.deepEqual(publications, []);
    assert.equal(offset, 3);
    assert.ok(epoch.length > 0);
  });

  test('limit, since and reverse', async (t) => {
    const subscription = await filled(t, 8);
    const { epoch } = await subscription.history();
    const ask = async (request) => offsets(await subscription.history(request));
    assert.deepEqual(await ask({ limit: 3 }), [1, 2, 3]);
    assert.deepEqual(await ask({ limit: -1 }), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.deepEqual(await ask({ limit: 3, reverse: true }), [8, 7, 6]);
    assert.deepEqual(await ask({ limit: 2, since: { offset: 5, epoch } }), [6, 7]);
    assert.deepEqual(await ask({ limit: 2, since: { offset: 5, epoch }, reverse: true }), [4, 3]);
    assert.deepEqual(await ask({ limit: 9, since: { offset: 8, epoch } }), []);
    assert.deepEqual(await ask({ limit: 1, since: { offset: 0, epoch } }), [1]);
  });

  test('pages give every publication once', async (t) => {
    const subscription = await filled(t, 10);
    const { epoch } = await subscription.history();
    const all = [];
    for (let since = { offset: 0, epoch }; ;) {
      const page = await subscription.history({ limit: 3, since });
      if (page.publications.length === 0) break;
      all.push(...offsets(page));
      since = { offset: all.at(-1), epoch };
    }
    assert.deepEqual(all, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test('keeps no more than its size, the newest', async (t) => {
    const subscription = await filled(t, 13);
    const page = await subscription.history({ limit: 100 });
    assert.deepEqual(offsets(page), [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    assert.deepEqual(page.publications.map(({ data }) => data), [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    assert.equal(page.offset, 13);
  });

  test('another epoch: 112; reverse from 0: 107', async (t) => {
    const subscription = await filled(t, 2);
    const { epoch } = await subscription.history();
    assert.equal(await refusal(subscription.history({ limit: 1, since: { offset: 1, epoch: 'other' } })), 112);
    assert.equal(
      await refusal(subscription.history({ limit: 1, since: { offset: 0, epoch }, reverse: true })), 107);
  });

  test('off: 108, not allowed: 103, unknown: 102', async (t) => {
    const anna = await connected(t, server);
    assert.equal(await refusal(anna.history('plain:x')), 108);
    assert.equal(await refusal(anna.history('closed:x')), 103);
    assert.equal(await refusal(anna.history('nowhere:x')), 102);
    const { subscription } = await subscribed(anna, fresh('readers'));
    assert.equal(await refusal(subscription.history()), 103);
  });

  test('an empty channel has a position, and every field of it', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    const { history } = await line.ask({ id: 2, history: { channel: fresh('anyone'), limit: 5 } });
    assert.deepEqual(Object.keys(history).sort(), ['epoch', 'offset', 'publications']);
    assert.deepEqual([history.publications, history.offset], [[], 0]);
  });
});

describe('rpc, send and ping', { concurrency: true }, () => {
  test('rpc is answered by 104 until hooks exist', async (t) => {
    const anna = await connected(t, server);
    assert.equal(await refusal(anna.rpc('any', { thing: 1 })), 104);
    assert.equal(anna.state, 'connected');
  });

  test('send has no handler and ends the connection: 3508', async (t) => {
    const anna = await connected(t, server);
    const ends = next(anna, 'disconnected');
    anna.send({ any: 'thing' }).catch(() => {});
    assert.deepEqual(await ends, { code: 3508, reason: 'not available' });
  });

  test('the old ping command: 108', async (t) => {
    const line = await raw(t, server);
    await line.connect();
    assert.equal((await line.ask({ id: 2, ping: {} })).error?.code, 108);
  });
});

test('a thousand publications to ten subscribers, all in order', async (t) => {
  const channel = fresh('plain');
  const readers = await Promise.all(Array.from({ length: 10 }, async (_, n) =>
    subscribed(await connected(t, server, `reader${n}`), channel)));
  const count = 1_000;
  const data = Array.from({ length: count }, (_, n) => n);
  for (let at = 0; at < count; at += 100) {
    const commands = data.slice(at, at + 100).map((n) => ({ publish: { channel, data: n } }));
    const { body } = await server.api('batch', { commands });
    assert.equal(body.replies.length, 100);
  }
  await until('all of them', () => readers.every(({ seen }) => seen.length === count));
  for (const { seen } of readers) assert.deepEqual(seen, data);
});
