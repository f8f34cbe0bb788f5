// What was missed while the line was cut is delivered, exactly; or the client is told that it cannot be.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { connected, raw, subscribe, subscribed } from './support/clients.mjs';
import { link } from './support/link.mjs';
import { config, namespace, serve } from './support/server.mjs';
import { next, until } from './support/wait.mjs';

const kept = 'history_size = 20\nhistory_ttl = "1m"\n';
const namespaces = [
  namespace('kept', `${kept}force_recovery = true`),
  `[[channel.namespaces]]\nname = "asked"\n${kept}allow_recovery = true
allow_subscribe_for_client = true\n`,
  namespace('cache', `${kept}force_recovery = true\nforce_recovery_mode = "cache"`),
  namespace('eager', `${kept}force_recovery = true\nforce_recovery_mode = "cache"\nauto_cache_recover = true`),
  namespace('positioned', `${kept}force_positioning = true`),
  namespace('short', 'history_size = 20\nhistory_ttl = "1s"\nforce_recovery = true'),
  namespace('nothing'),
].join('');

let names = 0;
const fresh = (space) => `${space}:t${++names}`;

// Not in a hook: the runner hides why a hook of a whole file failed.
const server = await serve(config(namespaces, 'recovery_max_publication_limit = 10'));
after(() => server.stop());

/** A subscriber behind a link of its own. */
async function reader(t, channel, options = {}, node = server) {
  const line = await link(t, node);
  const made = await connected(t, { ws: line.ws }, 'reader');
  const { subscription, seen, context } = await subscribed(made, channel, options);
  const away = async () => {
    const down = next(made, 'connecting');
    line.cut();
    await down;
  };
  const back = async () => {
    const up = next(subscription, 'subscribed');
    line.mend();
    return up;
  };
  return { made, subscription, seen, context, away, back };
}

async function publish(channel, from, to) {
  for (let n = from; n <= to; n += 1) await server.call('publish', { channel, data: n });
}

const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

describe('stream', { concurrency: true }, () => {
  test('the reply tells the position', async (t) => {
    const channel = fresh('kept');
    await publish(channel, 1, 3);
    const { context } = await reader(t, channel);
    assert.equal(context.positioned, true);
    assert.equal(context.recoverable, true);
    assert.equal(context.streamPosition.offset, 3);
    assert.ok(context.streamPosition.epoch);
  });

  test('the missed publications come first, in order, then the live ones', async (t) => {
    const channel = fresh('kept');
    const { seen, away, back } = await reader(t, channel);
    await publish(channel, 1, 3);
    await until('three', () => seen.length === 3);
    await away();
    await publish(channel, 4, 8);
    const context = await back();
    assert.equal(context.wasRecovering, true);
    assert.equal(context.recovered, true);
    assert.equal(context.hasRecoveredPublications, true);
    await publish(channel, 9, 10);
    await until('ten', () => seen.length === 10);
    assert.deepEqual(seen, numbers(1, 10));
  });

  test('nothing missed is recovered too', async (t) => {
    const channel = fresh('kept');
    const { seen, away, back } = await reader(t, channel);
    await publish(channel, 1, 2);
    await until('two', () => seen.length === 2);
    await away();
    const { recovered, hasRecoveredPublications } = await back();
    assert.equal(recovered, true);
    assert.equal(hasRecoveredPublications, false);
    await publish(channel, 3, 3);
    await until('three', () => seen.length === 3);
    assert.deepEqual(seen, [1, 2, 3]);
  });

  test('from the very beginning of a channel', async (t) => {
    const channel = fresh('kept');
    const { seen, away, back } = await reader(t, channel);
    await away();
    await publish(channel, 1, 4);
    assert.equal((await back()).recovered, true);
    await until('four', () => seen.length === 4);
    assert.deepEqual(seen, [1, 2, 3, 4]);
  });

  test('again and again', async (t) => {
    const channel = fresh('kept');
    const { seen, away, back } = await reader(t, channel);
    for (let round = 0; round < 5; round += 1) {
      await away();
      await publish(channel, round * 3 + 1, round * 3 + 3);
      assert.equal((await back()).recovered, true);
    }
    await until('fifteen', () => seen.length === 15);
    assert.deepEqual(seen, numbers(1, 15));
  });

  test('as many as one recovery may carry', async (t) => {
    const channel = fresh('kept');
    const { seen, away, back } = await reader(t, channel);
    await away();
    await publish(channel, 1, 10);
    assert.equal((await back()).recovered, true);
    await until('ten', () => seen.length === 10);
    assert.deepEqual(seen, numbers(1, 10));
  });

  for (const [what, count] of [['more than one recovery may carry', 11], ['more than the history keeps', 25]]) {
    test(`${what}: not recovered, and said so`, async (t) => {
      const channel = fresh('kept');
      const { seen, away, back } = await reader(t, channel);
      await away();
      await publish(channel, 1, count);
      const context = await back();
      assert.equal(context.wasRecovering, true);
      assert.equal(context.recovered, false);
      assert.equal(context.streamPosition.offset, count);
      await publish(channel, count + 1, count + 1);
      await until('the next one', () => seen.length > 0);
      assert.deepEqual(seen, [count + 1]);
    });
  }

  test('expired publications are not recovered', async (t) => {
    const channel = fresh('short');
    const { away, back, subscription } = await reader(t, channel);
    await away();
    await publish(channel, 1, 1);
    await until('expiry', async () => {
      const { publications } = await server.call('history', { channel, limit: 1 });
      return publications.length === 0;
    });
    assert.equal((await back()).recovered, false);
    assert.equal(subscription.state, 'subscribed');
  });

  test('after history_remove a client learns that it missed something', async (t) => {
    const channel = fresh('kept');
    const { away, back, seen } = await reader(t, channel);
    await publish(channel, 1, 2);
    await until('two', () => seen.length === 2);
    await away();
    await publish(channel, 3, 4);
    await server.call('history_remove', { channel });
    assert.equal((await back()).recovered, false);
  });

  test('a subscriber that is there goes on after history_remove, or is told', async (t) => {
    const channel = fresh('kept');
    const { subscription, seen } = await reader(t, channel);
    const again = [];
    subscription.on('subscribed', (context) => again.push(context));
    await publish(channel, 1, 2);
    await until('two', () => seen.length === 2);
    await server.call('history_remove', { channel });
    await publish(channel, 3, 3);
    await until('the third, or word of a gap', () => seen.at(-1) === 3 || again.length > 0);
    await publish(channel, 4, 4);
    await until('the fourth', () => seen.at(-1) === 4);
    if (again.length === 0) assert.deepEqual(seen, [1, 2, 3, 4]);
    else assert.equal(again[0].recovered, false);
  });

  test('after disconnect() and connect() too', async (t) => {
    const channel = fresh('kept');
    const { made, subscription, seen } = await reader(t, channel);
    made.disconnect();
    await publish(channel, 1, 3);
    const back = next(subscription, 'subscribed');
    made.connect();
    assert.equal((await back).recovered, true);
    await until('three', () => seen.length === 3);
    assert.deepEqual(seen, [1, 2, 3]);
  });

  test('since: a client brings its position from elsewhere', async (t) => {
    const channel = fresh('kept');
    await publish(channel, 1, 6);
    const { epoch } = await server.call('history', { channel });
    const { seen, context } = await reader(t, channel, { since: { offset: 4, epoch } });
    assert.equal(context.recovered, true);
    await until('two', () => seen.length === 2);
    assert.deepEqual(seen, [5, 6]);
    const other = await reader(t, channel, { since: { offset: 4, epoch: 'other' } });
    assert.equal(other.context.recovered, false);
    assert.equal(other.context.wasRecovering, true);
  });

  test('where it is allowed, who asks', async (t) => {
    const asked = await reader(t, fresh('asked'), { recoverable: true });
    assert.equal(asked.context.recoverable, true);
    const silent = await reader(t, fresh('asked'));
    assert.equal(silent.context.recoverable, false);
    const nothing = await reader(t, fresh('nothing'), { recoverable: true, positioned: true });
    assert.equal(nothing.context.recoverable, false);
    assert.equal(nothing.context.positioned, false);
  });

  test('positioned without recovery', async (t) => {
    const { context } = await reader(t, fresh('positioned'));
    assert.equal(context.positioned, true);
    assert.equal(context.recoverable, false);
    assert.ok(context.streamPosition.epoch);
  });

  test('on the wire: the reply repeats the position, publications ascend', async (t) => {
    const channel = fresh('kept');
    await publish(channel, 1, 5);
    const { epoch } = await server.call('history', { channel });
    const line = await raw(t, server);
    await line.connect();
    const { subscribe: result } = await line.ask({
      id: 2, subscribe: { channel, recover: true, offset: 3, epoch },
    });
    const publications = result.publications.map(({ data, offset }) => [data, offset]);
    assert.deepEqual({ ...result, publications }, {
      recoverable: true,
      positioned: true,
      epoch,
      offset: 3,
      recovered: true,
      was_recovering: true,
      publications: [[4, 4], [5, 5]],
    });
  });

  test('flag 2: refused with 112 rather than subscribed with a gap', async (t) => {
    const channel = fresh('kept');
    await publish(channel, 1, 2);
    const line = await raw(t, server);
    await line.connect();
    const reply = await line.ask({
      id: 2, subscribe: { channel, recover: true, offset: 1, epoch: 'other', flag: 2 },
    });
    assert.equal(reply.error?.code, 112);
  });
});

describe('while others publish', () => {
  test('recoveries lose nothing and double nothing', async (t) => {
    const deep = namespace('deep', 'history_size = 50000\nhistory_ttl = "1m"\nforce_recovery = true');
    const own = await serve(config(deep, 'recovery_max_publication_limit = 50000'));
    t.after(() => own.stop());
    const people = await Promise.all(Array.from({ length: 5 }, () => reader(t, 'deep:x', {}, own)));
    let published = 0;
    let stop = false;
    const publishing = (async () => {
      while (!stop) await own.call('publish', { channel: 'deep:x', data: published += 1 });
    })();
    for (let round = 0; round < 8; round += 1) {
      await Promise.all(people.map(async ({ away, back }) => {
        await away();
        assert.equal((await back()).recovered, true);
      }));
    }
    stop = true;
    await publishing;
    await own.call('publish', { channel: 'deep:x', data: published += 1 });
    await until('the last one', () => people.every(({ seen }) => seen.at(-1) === published));
    for (const { made, seen } of people) {
      assert.deepEqual(seen, numbers(1, published));
      made.disconnect();
    }
  });
});

describe('restart', { concurrency: true }, () => {
  test('a new life has a new epoch: not recovered, and said so', async (t) => {
    const first = await serve(config(namespaces));
    const made = await connected(t, first, 'anna');
    const { subscription, context } = await subscribed(made, 'kept:restart');
    const ended = next(made, 'connecting');
    await first.stop();
    await ended;
    const back = next(subscription, 'subscribed');
    const second = await serve(config(namespaces), { listen: first.address });
    t.after(() => second.stop());
    const { wasRecovering, recovered, streamPosition } = await back;
    assert.deepEqual({ wasRecovering, recovered }, { wasRecovering: true, recovered: false });
    assert.notEqual(streamPosition.epoch, context.streamPosition.epoch);
    made.disconnect();
  });
});

describe('cache', { concurrency: true }, () => {
  test('only the latest one is delivered', async (t) => {
    const channel = fresh('cache');
    const { seen, away, back } = await reader(t, channel);
    await away();
    await publish(channel, 1, 7);
    assert.equal((await back()).recovered, true);
    await until('the latest', () => seen.length > 0);
    await publish(channel, 8, 8);
    await until('the live one', () => seen.length > 1);
    assert.deepEqual(seen, [7, 8]);
  });

  test('nothing new: nothing comes, and it is recovered', async (t) => {
    const channel = fresh('cache');
    const { seen, away, back } = await reader(t, channel);
    await publish(channel, 1, 1);
    await until('one', () => seen.length === 1);
    await away();
    assert.equal((await back()).recovered, true);
    await publish(channel, 2, 2);
    await until('two', () => seen.length === 2);
    assert.deepEqual(seen, [1, 2]);
  });

  test('a new subscriber gets it only with auto_cache_recover', async (t) => {
    for (const [space, expected] of [['cache', [3]], ['eager', [2, 3]]]) {
      const channel = fresh(space);
      await publish(channel, 1, 2);
      const { seen } = await reader(t, channel);
      await publish(channel, 3, 3);
      await until('the live one', () => seen.at(-1) === 3);
      assert.deepEqual(seen, expected, space);
    }
  });
});

describe('the server ends a subscription', { concurrency: true }, () => {
  test('2000: for good', async (t) => {
    const channel = fresh('kept');
    const { subscription } = await reader(t, channel);
    const ends = next(subscription, 'unsubscribed');
    await server.call('unsubscribe', { user: 'reader', channel });
    assert.equal((await ends).code, 2000);
    assert.equal(subscription.state, 'unsubscribed');
    const again = await subscribe(subscription);
    assert.equal(again.channel, channel);
  });
});
