import assert from 'node:assert/strict';
import { test } from 'node:test';
import { message, opened, settled, world } from './world.mjs';

test('what is not acknowledged is sent again with the same key, in order, once the connection is back', async () => {
  const w = opened();
  w.publish('k1', 'one');
  w.socket.say({ ack: { id: 'k1', offset: 11 } });
  w.publish('k2', 'two');
  w.socket.die();
  w.publish('k3', 'three');
  w.pass(1_000);
  assert.deepEqual(w.socket.sent, [], 'nothing before the welcome');
  w.socket.welcome(12);
  assert.deepEqual(w.socket.asked('publish'), [{ data: 'two', id: 'k2' }, { data: 'three', id: 'k3' }]);
  w.socket.say({ ack: { id: 'k2', offset: 12, repeated: true } }, { ack: { id: 'k3', offset: 13 } });
  await settled();
  assert.deepEqual(w.told, [['ack', 'k1', 11], ['ack', 'k2', 12], ['ack', 'k3', 13]]);
});

test('a publish has a random key of its own, and is what it was when it was given', async () => {
  const w = world();
  const data = { n: 1 };
  w.client.publish(data).catch(() => {});
  w.client.publish(data).catch(() => {});
  data.n = 2;
  w.client.connect();
  w.socket.welcome(0);
  const [a, b] = w.socket.asked('publish');
  assert.deepEqual([a.data, b.data], [{ n: 1 }, { n: 1 }]);
  assert.match(a.id, /^[0-9a-f]{32}$/);
  assert.notEqual(a.id, b.id);
  await assert.rejects(w.client.publish('x', { id: a.id }), { code: 'busy' });
  const loop = {};
  loop.loop = loop;
  await assert.rejects(w.client.publish(loop), TypeError);
});

test('an error that invites it is tried again; another fails at once', async () => {
  const w = opened();
  w.publish('k', 'x');
  w.socket.say({ error: { code: 120, message: 'storage', id: 'k', retry: true } });
  w.pass(3_000);
  assert.equal(w.socket.asked('publish').length, 2);
  w.socket.say({ error: { code: 106, message: 'limit', id: 'k', retry: false } });
  await settled();
  assert.deepEqual(w.told, [['refused', 'k', 106]]);
  w.socket.die();
  w.pass(1_000);
  w.socket.welcome(10);
  assert.deepEqual(w.socket.sent, [], 'a refused message is not sent by itself');
});

test('a server that always says retry is not asked for ever', async () => {
  const w = opened();
  w.publish('k', 'x');
  for (let i = 0; i < 6; i++) {
    w.socket.say({ error: { code: 120, message: 'slow', id: 'k', retry: true } });
    w.pass(20_000);
    w.socket.say({ pong: {} });
  }
  await settled();
  assert.deepEqual(w.told, [['refused', 'k', 120]]);
});

test('retry_after is obeyed: everything waits so long, then one goes first, and nothing is lost or out of order', async () => {
  const w = opened();
  for (const id of ['a', 'b', 'c', 'd']) w.publish(id, id);
  const slow = (id) => ({ error: { code: 111, message: 'slow down', id, retry: true, retry_after: 2_000 } });
  const less = slow('d');
  less.error.retry_after = 100; // the longest time counts
  w.socket.say({ ack: { id: 'a', offset: 11 } }, slow('b'), slow('c'), less);
  w.socket.sent = [];
  w.publish('e', 'e');
  w.pass(1_999);
  assert.deepEqual(w.socket.sent, [], 'not before the time');
  w.pass(501);
  assert.deepEqual(w.socket.asked('publish').map((p) => p.id), ['b']);
  for (let i = 0; i < 20; i++) {
    w.socket.say(slow('b'));
    w.pass(2_500);
  }
  w.socket.say({ ack: { id: 'b', offset: 12 } });
  assert.deepEqual(w.socket.asked('publish').slice(-2).map((p) => p.id), ['c', 'd']);
  w.socket.say({ ack: { id: 'c', offset: 13 } });
  assert.deepEqual(w.socket.asked('publish').at(-1).id, 'e');
  w.socket.say({ ack: { id: 'd', offset: 14 } }, { ack: { id: 'e', offset: 15 } });
  await settled();
  assert.deepEqual(w.told.map((t) => t[1]), ['a', 'b', 'c', 'd', 'e']);
});

test('the outbox is bounded, and at most 32 are on their way', async () => {
  const w = world({ outbox: 40 });
  for (let i = 0; i < 40; i++) w.publish(`k${i}`, i);
  assert.equal(w.client.full, true);
  await assert.rejects(w.client.publish(40), { name: 'BarrageError', code: 'full', retry: true });
  w.client.connect();
  w.socket.welcome(0);
  assert.equal(w.socket.sent.length, 32);
  w.socket.say({ ack: { id: 'k0', offset: 1 } });
  assert.equal(w.socket.sent.at(-1).publish.id, 'k32');
  assert.equal(w.client.full, false);
});

test('questions are answered by their id and refused by an error', async () => {
  const w = opened();
  const info = w.client.info();
  const page = w.client.history({ before: 9, limit: 50 });
  const who = w.client.presence();
  w.socket.say({ info: { id: w.socket.asked('info')[0].id, members: 3, nodes: 1, users: 2, exact: true } });
  assert.equal((await info).users, 2);
  const { id, ...range } = w.socket.asked('history')[0];
  assert.deepEqual(range, { before: 9, limit: 50 });
  w.socket.say({ error: { code: 107, message: 'no', id, retry: false } });
  await assert.rejects(page, { code: 107, message: 'no', retry: false });
  const members = [{ user: 'ann', client: 'c' }];
  w.socket.say({ presence: { id: w.socket.asked('presence')[0].id, members, clients: 1, users: 1, exact: true } });
  assert.deepEqual((await who).members, members);
});

test('questions survive a lost connection, but do not wait for ever', async () => {
  const w = opened();
  const info = w.client.info();
  w.socket.die();
  w.pass(1_000);
  w.socket.welcome(10);
  w.socket.say({ info: { id: w.socket.asked('info')[0].id, members: 3, nodes: 1 } });
  assert.equal((await info).members, 3);
  const never = assert.rejects(w.client.info(), { code: 'timeout' });
  w.pass(10_000);
  await never;
});

test('only six questions are asked at once', async () => {
  const w = opened();
  for (let i = 0; i < 6; i++) w.client.info().catch(() => {});
  await assert.rejects(w.client.presence(), { code: 'busy' });
});

test('pages follow one another, forwards and backwards', async () => {
  const w = opened();
  // answer plays a server with messages 1 to 7 in pages of 3.
  const answer = () => {
    const { id, since, before = 8, limit } = w.socket.asked('history').at(-1);
    const all = [1, 2, 3, 4, 5, 6, 7].filter((n) => n < before && n > (since ?? 0));
    const part = since === undefined ? all.slice(-limit) : all.slice(0, limit);
    w.socket.say({ history: { id, epoch: 'e', offset: 7, messages: part.map((n) => message(n).message), more: part.length < all.length } });
  };
  for (const [range, want] of [
    [{ since: 0, limit: 3 }, [[1, 2, 3], [4, 5, 6], [7]]],
    [{ since: 2, limit: 3 }, [[3, 4, 5], [6, 7]]],
    [{ limit: 3 }, [[5, 6, 7], [2, 3, 4], [1]]],
    [{ before: 5, limit: 3 }, [[2, 3, 4], [1]]],
  ]) {
    const got = [];
    const walk = (async () => {
      for await (const page of w.client.pages(range)) got.push(page.messages.map((m) => m.offset));
    })();
    for (let i = 0; i < want.length; i++) {
      await settled();
      answer();
    }
    await walk;
    assert.deepEqual(got, want);
  }
  assert.deepEqual(w.offsets(), [9, 10], 'the stream did not move');
});

test('members that join and leave are told', () => {
  const w = opened({ members: true });
  assert.equal(w.socket.url.searchParams.get('members'), '1');
  w.socket.say({ join: { user: 'bea', client: 'c2' } }, message(11), { leave: { user: 'bea', client: 'c2' } });
  assert.deepEqual(w.told, [['join', 'c2'], ['leave', 'c2']]);
  assert.deepEqual(w.offsets(), [9, 10, 11]);
});

test('info and tags come with the message', () => {
  const w = opened();
  w.socket.say({ message: { offset: 11, time: 1, user: 'bea', info: { vip: true }, tags: { lang: 'en' }, data: 1 } });
  assert.deepEqual([w.messages.at(-1).info, w.messages.at(-1).tags], [{ vip: true }, { lang: 'en' }]);
});

test('an error that belongs to no call is told', () => {
  const w = opened();
  w.socket.say({ error: { code: 107, message: 'cannot be read', retry: false } });
  assert.deepEqual(w.told, [['error', 107]]);
});

// sizeOf is how many bytes a publish has on the wire.
const sizeOf = (data, id) => Buffer.byteLength(JSON.stringify({ publish: { data, id } }));

test('what is too large for the server fails alone, unsent, and says size and limit', async () => {
  const w = world();
  w.client.connect();
  w.publish('early', '房'.repeat(100));
  w.publish('small', 'x');
  const limit = sizeOf('房'.repeat(10), 'k');
  w.socket.welcome(0, 'e', { max_payload: limit });
  w.publish('k', '房'.repeat(10));
  await assert.rejects(w.client.publish('房'.repeat(10) + 'x', { id: 'k2' }), (error) => {
    assert.equal(error.code, 'too_large');
    assert.equal(error.retry, false);
    assert.match(error.message, new RegExp(`\\b${sizeOf('房'.repeat(10) + 'x', 'k2')} bytes.*\\b${limit}\\b`));
    return true;
  });
  assert.deepEqual(w.socket.asked('publish').map((p) => p.id), ['small', 'k'], 'the limit itself is not too large');
  w.socket.say({ ack: { id: 'small', offset: 1 } }, { ack: { id: 'k', offset: 2 } });
  await settled();
  assert.deepEqual(w.told, [['refused', 'early', 'too_large'], ['ack', 'small', 1], ['ack', 'k', 2]]);
  assert.equal(w.sockets.length, 1);
});

test('what is too large fails also while the server wants a pause, and each connection has its own limit', async () => {
  const w = opened();
  w.publish('k', 'x');
  w.socket.say({ error: { code: 111, message: 'slow', id: 'k', retry: true, retry_after: 60_000 } });
  w.publish('large', 'x'.repeat(1000));
  w.socket.die();
  w.pass(1_000);
  w.socket.welcome(10, 'e', { max_payload: 100 });
  await assert.rejects(w.client.publish('x'.repeat(1000)), { code: 'too_large' });
  assert.deepEqual(w.told, [['refused', 'large', 'too_large']]);
  w.socket.die();
  w.pass(2_000);
  w.socket.welcome(10);
  w.publish('large', 'x'.repeat(1000));
  for (let i = 0; i < 8; i++, w.socket.say({ pong: {} })) w.pass(10_000);
  w.socket.say({ ack: { id: 'k', offset: 11 } });
  assert.deepEqual(w.socket.asked('publish').map((p) => p.id), ['k', 'large'], 'a server that tells no limit is asked');
});

test('a pause that the server asked for outlives the connection; then one goes first', () => {
  const w = opened();
  w.publish('a', 'a');
  w.publish('b', 'b');
  w.socket.say({ error: { code: 111, message: 'slow', id: 'a', retry: true, retry_after: 20_000 } });
  w.pass(1_000);
  w.socket.die();
  w.pass(1_000);
  w.socket.welcome(10);
  w.pass(10_000);
  w.socket.say({ pong: {} });
  w.pass(7_999);
  assert.deepEqual(w.socket.sent, [], 'what limits the user limits them on every connection');
  w.pass(5_000);
  assert.deepEqual(w.socket.asked('publish').map((p) => p.id), ['a']);
  w.socket.say({ ack: { id: 'a', offset: 11 } }, { ack: { id: 'a', offset: 11 } });
  assert.deepEqual(w.socket.asked('publish').map((p) => p.id), ['a', 'b']);
});

test('an answer that comes twice, or to nobody, changes nothing', async () => {
  const w = opened();
  w.publish('a', 'a');
  const twice = { ack: { id: 'a', offset: 11 } };
  w.socket.say(twice, twice, { ack: { offset: 12 } }, { error: { code: 106, message: 'late', id: 'a', retry: false } });
  await settled();
  assert.deepEqual(w.told, [['error', 106], ['ack', 'a', 11]]);
  for (let i = 0; i < 33; i++) w.publish(`k${i}`, i);
  assert.equal(w.socket.asked('publish').length, 33, 'the window is not larger for it');
});

test('when a server only closes with 1009, the largest publish without an answer fails, and the others go on', async () => {
  const w = opened();
  w.publish('answered', 'x'.repeat(500));
  w.socket.say({ ack: { id: 'answered', offset: 11 } });
  w.publish('small', 'x');
  w.publish('large', 'x'.repeat(200));
  w.publish('other', 'y');
  w.socket.die(1009, 'too big');
  assert.equal(w.client.phase, 'waiting');
  w.pass(1_000);
  w.socket.welcome(11);
  assert.deepEqual(w.socket.asked('publish').map((p) => p.id), ['small', 'other']);
  w.socket.say({ ack: { id: 'small', offset: 12 } }, { ack: { id: 'other', offset: 13 } });
  await settled();
  assert.deepEqual(w.told, [['ack', 'answered', 11], ['refused', 'large', 'too_large'], ['ack', 'small', 12], ['ack', 'other', 13]]);
  w.socket.die(1009);
  assert.equal(w.client.phase, 'ended', 'with nothing to blame coming back would end the same way');
});

test('pages without a beginning go back from the end, however that is said', async () => {
  const w = opened();
  const pages = w.client.pages({ since: undefined, limit: 1 });
  const first = pages.next();
  w.socket.say({ history: { id: w.socket.asked('history')[0].id, epoch: 'e', offset: 7, messages: [message(7).message], more: true } });
  await first;
  pages.next().catch(() => {});
  await settled();
  assert.equal(w.socket.asked('history')[1].before, 7);
});

test('a pause of no time at all does not hold a publish for ever', async () => {
  for (const retry_after of [0, -5]) {
    const w = opened();
    w.publish('k', 'x');
    w.socket.sent = [];
    w.socket.say({ error: { code: 111, message: 'slow down', id: 'k', retry: true, retry_after } });
    w.pass(3_000);
    assert.deepEqual(w.socket.asked('publish').map((p) => p.id), ['k'], `retry_after ${retry_after}`);
    w.client.close();
  }
});
