// Read marks, typing and rosters as an application on the npm client sees them.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { client, connected, subscribe, subscribed, up } from './support/clients.mjs';
import { config, namespace, serve } from './support/server.mjs';
import { userToken } from './support/token.mjs';
import { refusal, until } from './support/wait.mjs';

const server = await serve(
  config(
    [
      namespace('read', 'feature = "receipts"'),
      namespace('typing', 'feature = "typing"\nclass = "ephemeral"'),
      namespace('hall', 'presence = true\njoin_leave = true\npresence_roster_max = 2'),
      namespace('away', 'presence = true\njoin_leave = true\npresence_leave_debounce = "1s"'),
    ].join(''),
  ),
);
after(() => server.stop());

/** The marks of a channel, kept as docs/concepts/receipts.md shows it. */
function readMarks(centrifuge, channel) {
  const marks = new Map();
  const subscription = centrifuge.newSubscription(channel);
  subscription.on('publication', ({ data }) => {
    for (const [user, offset] of Object.entries(data.receipts ?? {})) {
      if (offset > (marks.get(user) ?? 0)) marks.set(user, offset);
    }
  });
  return { subscription, marks };
}

describe('signals', { concurrency: true }, () => {
  test('read marks come with the subscription, then as they rise', async (t) => {
    const anna = await connected(t, server, 'anna');
    const ben = await connected(t, server, 'ben');
    const first = readMarks(anna, 'read:dialog');
    await subscribe(first.subscription);
    await first.subscription.publish({ read: 41 });
    await first.subscription.publish({ read: 40 });

    const second = readMarks(ben, 'read:dialog');
    await subscribe(second.subscription);
    await until('the mark that was there', () => second.marks.get('anna') === 41);
    await second.subscription.publish({ read: 42 });
    await until('the new one', () => first.marks.get('ben') === 42);
    assert.deepEqual([...first.marks].sort(), [['anna', 41], ['ben', 42]]);
    assert.equal(await refusal(second.subscription.publish({ seen: 42 })), 107);
  });

  test('a server-side subscription has them too', async (t) => {
    await server.call('publish', { channel: 'read:mail', data: { user: 'cara', read: 7 } });
    const seen = [];
    const dora = client(t, server, { token: userToken('dora', { channels: ['read:mail'] }) });
    dora.on('publication', ({ channel, data }) => seen.push([channel, data]));
    await up(dora);
    await until('the marks', () => seen.length > 0);
    assert.deepEqual(seen[0], ['read:mail', { receipts: { cara: 7 } }]);
  });

  test('typing of one user is told once in three seconds', async (t) => {
    const typing = { typing: true, ttl_ms: 6000 };
    const { seen } = await subscribed(await connected(t, server, 'anna'), 'typing:dialog');
    for (let n = 0; n < 3; n += 1) {
      const { subscription } = await subscribed(await connected(t, server, 'ben'), 'typing:dialog');
      await subscription.publish(typing);
    }
    await new Promise((done) => setTimeout(done, 500));
    assert.deepEqual(seen, [typing]);
  });

  test('a crowd is a number in a message of its own', async (t) => {
    const anna = await connected(t, server, 'anna');
    const notes = [];
    anna.on('message', ({ data }) => notes.push(data.plimsoll));
    await subscribed(anna, 'hall:one', { joinLeave: true });
    for (const user of ['ben', 'ben', 'cara']) {
      await subscribed(await connected(t, server, user), 'hall:one');
    }
    const count = await until('the number', () => notes.find(({ clients }) => clients === 4));
    assert.deepEqual(count, { type: 'presence', channel: 'hall:one', clients: 4, users: 3 });
  });

  test('who is back at once has not left', async (t) => {
    const anna = await connected(t, server, 'anna');
    const told = [];
    const { subscription } = await subscribed(anna, 'away:one', { joinLeave: true });
    for (const what of ['join', 'leave']) {
      subscription.on(what, ({ info }) => info.user === 'ben' && told.push(what));
    }
    const ben = await connected(t, server, 'ben');
    await subscribed(ben, 'away:one');
    await until('the join', () => told.length === 1);
    ben.disconnect();
    await subscribed(await connected(t, server, 'ben'), 'away:one');
    await new Promise((done) => setTimeout(done, 1500));
    assert.deepEqual(told, ['join']);
  });
});
