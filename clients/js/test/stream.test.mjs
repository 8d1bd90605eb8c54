import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoff, mayReconnect } from '../barrage.js';
import { message, opened, settled, world } from './world.mjs';

test('the first connection says where to begin, the name and what is wanted', () => {
  const w = world();
  w.client.connect();
  assert.equal(w.socket.url.pathname, '/ws/room');
  assert.equal(w.socket.url.search, '?last=50&name=ann');
  assert.deepEqual(w.socket.protocols, []);
  const odd = world({ url: 'https://host/base/?x=1', channel: 'a/b c#?%房', last: 0, name: '', echo: false, members: true });
  odd.client.connect();
  assert.equal(odd.socket.url.href, 'wss://host/base/ws/a%2Fb%20c%23%3F%25%E6%88%BF?echo=0&members=1');
  const plain = world({ last: 0, name: '' });
  plain.client.connect();
  assert.equal(plain.socket.url.href, 'ws://host/ws/room');
  const back = world({ last: 0, name: '', since: 7, epoch: 'e' });
  back.client.connect();
  assert.equal(back.socket.url.search, '?since=7&epoch=e');
});

test('several lines share a frame, and are told one by one and together', () => {
  const w = opened();
  const together = [];
  w.client.on('messages', (list) => together.push(list.map((m) => m.offset)));
  w.socket.say(message(11), message(12));
  assert.deepEqual(w.offsets(), [9, 10, 11, 12]);
  assert.deepEqual(together, [[11, 12]]);
  assert.deepEqual(w.client.position, { offset: 12, epoch: 'e' });
});

test('after a lost connection the stream goes on after the last message, without repeats', () => {
  const w = opened();
  w.socket.die();
  assert.equal(w.client.phase, 'waiting');
  w.pass(1_000);
  assert.equal(w.sockets.length, 2);
  assert.equal(w.socket.url.search, '?since=10&epoch=e&name=ann');
  w.socket.welcome(12);
  w.socket.say(message(10), message(11), message(12), message(13));
  assert.deepEqual(w.offsets(), [9, 10, 11, 12, 13]);
});

test('each attempt takes the next address', () => {
  const w = opened({ url: ['ws://a', 'ws://b'] });
  w.socket.die();
  w.pass(1_000);
  w.socket.die();
  w.pass(2_000);
  assert.deepEqual(w.sockets.map((s) => s.url.host), ['a', 'b', 'a']);
});

test('without last the stream begins at the head, also when the first connection is lost before any message', () => {
  const w = world({ last: 0 });
  w.client.connect();
  w.socket.welcome(7);
  w.socket.die();
  w.pass(1_000);
  assert.equal(w.socket.url.searchParams.get('since'), '7');
});

test('an empty room is resumed from its beginning', () => {
  const w = world();
  w.client.connect();
  w.socket.welcome(0);
  w.socket.die();
  w.pass(1_000);
  assert.equal(w.socket.url.searchParams.get('since'), '0');
});

test('a socket that was left is not heard any more', () => {
  const w = opened();
  const old = w.socket;
  w.client.name = 'bea';
  w.client.connect();
  assert.equal(w.socket.url.search, '?since=10&epoch=e&name=bea');
  assert.equal(old.closedWith, 1000);
  old.say(message(11));
  old.die();
  assert.deepEqual(w.offsets(), [9, 10]);
  assert.equal(w.client.phase, 'connecting');
});

test('1009 invites nobody back', () => assert.equal(mayReconnect(1009), false));

test('close codes that forbid it end the client until it is told to connect again', async () => {
  for (const code of [1002, 1003, 1007, 3500, 3501, 3999, 4500, 4999]) {
    assert.equal(mayReconnect(code), false, `${code} does not reconnect`);
    const w = opened();
    w.publish('k', 1);
    w.socket.die(code, 'why');
    w.pass(120_000);
    assert.equal(w.sockets.length, 1, `${code}: no new connection`);
    assert.equal(w.client.phase, 'ended');
    await settled();
    assert.deepEqual(w.told, [['refused', 'k', 'ended']]);
    await assert.rejects(w.client.publish(2), { code: 'ended' });
    w.client.connect();
    assert.equal(w.sockets.length, 2);
  }
  for (const code of [1000, 1001, 1006, 1011, 3000, 3001, 3004, 3005, 3008, 3010, 3012, 3013, 3499, 4000, 4499]) {
    assert.equal(mayReconnect(code), true, `${code} reconnects`);
  }
});

test('close ends it: nothing comes any more, and what waits fails', async () => {
  const w = opened();
  const lost = w.client.publish('x');
  w.client.on('message', () => w.client.close());
  w.socket.say(message(11), message(12));
  assert.deepEqual(w.offsets(), [9, 10, 11]);
  await assert.rejects(lost, { code: 'closed' });
  await assert.rejects(w.client.history(), { code: 'closed' });
  w.pass(600_000);
  assert.equal(w.sockets.length, 1);
  assert.deepEqual(w.timers, []);
});

test('what no socket takes is said, and not tried for ever', async () => {
  const w = world({ WebSocket: class { constructor() { throw new SyntaxError('bad protocol'); } } });
  w.client.connect();
  assert.equal(w.client.phase, 'ended');
  assert.throws(() => world({ url: 'no address' }), TypeError);
});

test('a node that shuts down is left at once; storage that is away gets a pause', () => {
  const w = opened({ random: () => 0.99 });
  w.socket.die(3001);
  w.pass(300);
  assert.equal(w.sockets.length, 2);
  w.socket.welcome(10);
  w.socket.die(3013);
  w.pass(1_999);
  assert.equal(w.sockets.length, 2);
  w.pass(20_000);
  assert.equal(w.sockets.length > 2, true);
});

test('nodes that only ever shut down are no reason for a storm', () => {
  const w = opened({ random: () => 1 });
  const pauses = [];
  for (let i = 0; i < 5; i++) {
    w.socket.die(3001);
    pauses.push(w.due());
    w.pass(pauses.at(-1));
    w.socket.welcome(10);
  }
  assert.deepEqual(pauses, [300, 1000, 2000, 4000, 8000]);
});

test('the pause has full jitter under a ceiling that doubles from 0.5 s to 15 s', () => {
  const ceilings = [0, 1, 2, 3, 4, 5, 6, 50].map((n) => backoff(n, () => 1));
  assert.deepEqual(ceilings, [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
  assert.equal(backoff(3, () => 0), 100);
  assert.equal(backoff(3, () => 0.5), 2000);
});

test('attempts that fail wait longer each time; a connection that lasts starts over', () => {
  const w = world({ random: () => 1 });
  w.client.connect();
  const pauses = [];
  for (let i = 0; i < 4; i++) {
    w.socket.die();
    pauses.push(w.due());
    w.pass(pauses.at(-1));
  }
  assert.deepEqual(pauses, [500, 1000, 2000, 4000]);
  w.socket.welcome(0);
  w.pass(6_000);
  w.socket.die();
  assert.equal(w.due(), 500);
});

test('a silent server is asked, and left when it does not answer', () => {
  const w = opened();
  w.pass(35_000);
  assert.deepEqual(w.socket.sent, [{ ping: {} }]);
  w.socket.say({ pong: {} });
  w.pass(10_001);
  assert.equal(w.client.phase, 'live');
  w.pass(35_000);
  w.pass(10_000);
  assert.equal(w.client.phase === 'live', false, 'the second ping was not answered');
});

test('a clock that is set does not change what lasts', () => {
  for (const step of [-3_600_000, 3_600_000]) {
    const w = opened();
    w.pass(30_000);
    w.socket.say(message(11));
    w.now += step;
    w.pass(34_999);
    assert.deepEqual(w.socket.sent, [], `set by ${step} ms: nobody is asked before 35 s of silence`);
    w.pass(1);
    assert.deepEqual(w.socket.sent, [{ ping: {} }], `set by ${step} ms: the silent server is asked`);
    w.socket.say({ pong: {} });
    w.publish('k', 'x');
    const slow = (after) => ({ error: { code: 111, message: 'slow', id: 'k', retry: true, retry_after: after } });
    w.socket.say(slow(2_000));
    w.now += step;
    w.socket.say(slow(100));
    w.pass(1_999);
    assert.equal(w.socket.asked('publish').length, 1, `set by ${step} ms: not before the server's time`);
    w.pass(501);
    assert.equal(w.socket.asked('publish').length, 2, `set by ${step} ms: nor long after it`);
  }
});

test('time and chance come from the options alone', () => {
  const real = { now: Date.now, elapsed: performance.now, setTimeout, clearTimeout, random: Math.random };
  const never = () => {
    throw new Error('this is not of the options');
  };
  try {
    Date.now = performance.now = Math.random = globalThis.setTimeout = globalThis.clearTimeout = never;
    const w = opened();
    w.publish('k', 'x');
    w.socket.say({ error: { code: 120, message: 'storage', id: 'k', retry: true } });
    w.pass(60_000);
    w.client.wake();
    w.client.connect();
    w.client.close();
  } finally {
    Object.assign(globalThis, { setTimeout: real.setTimeout, clearTimeout: real.clearTimeout });
    Date.now = real.now;
    performance.now = real.elapsed;
    Math.random = real.random;
  }
});

test('a connection that gets no welcome is given up', () => {
  const w = world();
  w.client.connect();
  w.pass(10_000);
  assert.equal(w.client.phase, 'waiting');
});

test('waking reconnects at once, or asks a connection that was silent for a while', () => {
  const w = opened({ random: () => 1 });
  w.pass(20_000);
  w.client.wake();
  assert.deepEqual(w.socket.sent, [{ ping: {} }]);
  w.pass(4_000);
  assert.equal(w.client.phase, 'waiting');
  w.client.wake();
  assert.equal(w.sockets.length, 2);
});

test('a page that is looked at again and again does not put off that a dead connection is noticed', () => {
  const w = opened({ random: () => 1 });
  w.pass(20_000);
  for (let i = 0; i < 4; i++, w.pass(1_000)) w.client.wake();
  assert.equal(w.client.phase, 'waiting', 'no answer for 4 s');
  assert.deepEqual(w.socket.sent, [{ ping: {} }], 'it was asked once');
  w.pass(500);
  w.socket.welcome(10);
  w.pass(20_000);
  w.client.wake();
  assert.deepEqual(w.socket.sent, [{ ping: {} }], 'the next connection is asked anew');
});

// onPage calls f with the page that a browser would have: its window, its document, and how many listeners both have.
function onPage(f) {
  const page = { window: new EventTarget(), document: Object.assign(new EventTarget(), { hidden: false }), listeners: 0 };
  for (const target of [page.window, page.document]) {
    const { addEventListener: add, removeEventListener: remove } = target;
    target.addEventListener = (...args) => (page.listeners++, add.apply(target, args));
    target.removeEventListener = (...args) => (page.listeners--, remove.apply(target, args));
  }
  const { addEventListener, removeEventListener } = page.window;
  Object.assign(globalThis, { document: page.document, addEventListener, removeEventListener });
  try {
    f(page);
  } finally {
    for (const name of ['document', 'addEventListener', 'removeEventListener']) delete globalThis[name];
  }
}

test('the page tells it: the network is back, or gone, and a sleeping tab is looked at', () => {
  onPage(({ window: heard, document }) => {
    document.hidden = true;
    const w = opened({ random: () => 1 });
    heard.dispatchEvent(new Event('offline'));
    assert.deepEqual(w.socket.sent, [{ ping: {} }], 'a network that went away is noticed soon');
    w.pass(4_000);
    assert.equal(w.client.phase, 'waiting');
    document.dispatchEvent(new Event('visibilitychange'));
    assert.equal(w.sockets.length, 1, 'a hidden tab waits');
    document.hidden = false;
    heard.dispatchEvent(new Event('online'));
    assert.equal(w.sockets.length, 2);
    w.socket.welcome(10);
    w.now += 3_600_000; // asleep: the other clock stood still
    document.dispatchEvent(new Event('visibilitychange'));
    assert.deepEqual(w.socket.sent, [{ ping: {} }]);
    w.client.close();
    heard.dispatchEvent(new Event('online'));
    assert.equal(w.sockets.length, 2, 'a closed client listens to nobody');
  });
});

test('a client that ended is not kept by the page; connecting again listens again', () => {
  onPage((page) => {
    const w = opened();
    assert.equal(page.listeners, 3);
    w.socket.die();
    w.client.connect();
    assert.equal(page.listeners, 3, 'a reconnect does not listen twice');
    w.socket.die(3500);
    assert.equal(w.client.phase, 'ended');
    assert.equal(page.listeners, 0, 'an ended client listens to nobody');
    w.client.connect();
    w.socket.die();
    page.window.dispatchEvent(new Event('online'));
    assert.equal(w.client.phase, 'connecting', 'one that was connected again listens');
    w.client.close();
    assert.equal(page.listeners, 0);
  });
  onPage((page) => {
    const w = world({ WebSocket: class { constructor() { throw new SyntaxError('bad protocol'); } } });
    w.client.connect();
    assert.equal(page.listeners, 0, 'one that no socket takes listens to nobody');
  });
});

test('a reset moves the position, says so, and the stream goes on after it', () => {
  const w = opened();
  w.socket.die();
  w.pass(1_000);
  w.socket.say({ reset: { epoch: 'f', offset: 3, reason: 'another life' } });
  w.socket.welcome(3, 'f');
  w.socket.say(message(4));
  assert.deepEqual(w.told, [['reset', 3, 'another life']]);
  assert.deepEqual(w.offsets(), [9, 10, 4]);
  w.socket.die();
  w.pass(1_000);
  assert.equal(w.socket.url.search, '?since=4&epoch=f&name=ann');
});

test('an epoch that changes without a reset is one', () => {
  const w = opened();
  w.socket.die();
  w.pass(1_000);
  w.socket.welcome(3, 'f');
  w.socket.say(message(4));
  assert.deepEqual(w.told, [['reset', 3, 'the epoch changed']]);
  assert.deepEqual(w.offsets(), [9, 10, 4]);
});

test('a gap is never shown: the connection comes back for what is missing', () => {
  const w = opened();
  w.socket.say(message(11), message(13), message(14));
  assert.deepEqual(w.offsets(), [9, 10, 11]);
  w.pass(1_000);
  assert.equal(w.socket.url.searchParams.get('since'), '11');
  w.socket.welcome(13);
  w.socket.say(message(12), message(13));
  assert.deepEqual(w.offsets(), [9, 10, 11, 12, 13]);
});

test('a gap that stays is said, once and in its place, and the stream goes on', () => {
  const w = opened();
  const order = [];
  w.client.on('message', (m) => order.push(m.offset));
  w.client.on('reset', (r) => order.push(`reset ${r.offset}`));
  w.socket.say(message(11), message(13));
  w.pass(1_000);
  w.socket.welcome(13);
  w.socket.say(message(13), message(14));
  assert.deepEqual(order, [11, 'reset 12', 13, 14]);
});

test('without echo own messages leave holes, which are no gaps', async () => {
  const w = opened({ echo: false });
  w.publish('k', 'x');
  w.socket.say({ ack: { id: 'k', offset: 11 } });
  assert.equal(w.client.position.offset, 11);
  w.socket.say(message(13));
  assert.deepEqual(w.offsets(), [9, 10, 13]);
  assert.deepEqual(w.told, []);
});

test('a live channel has no offsets: everything that comes is handed on', async () => {
  const w = world();
  w.client.connect();
  w.socket.say({ welcome: { node: 'a', client: 'c', channel: 'room', live: true } });
  w.socket.say({ message: { time: 1, data: 'a' } }, { skipped: { count: 4 } }, { message: { time: 2, data: 'b' } });
  assert.deepEqual(w.messages.map((m) => m.data), ['a', 'b']);
  assert.deepEqual(w.told, [['skipped', 4]]);
  const done = w.publish('k', 'x');
  w.socket.say({ ack: { id: 'k', live: true } });
  await done;
  assert.deepEqual(w.told.at(-1), ['ack', 'k', 0]);
  w.socket.die();
  w.pass(1_000);
  assert.equal(w.socket.url.searchParams.has('since'), false);
});

test('lines that are no JSON objects, and unknown ones, change nothing', () => {
  const w = opened();
  w.socket.onmessage({ data: 'x\n\n5\nnull\n{"new":{}}\n[]' });
  w.socket.say(message(11));
  assert.deepEqual(w.offsets(), [9, 10, 11]);
  assert.equal(w.client.phase, 'live');
});

test("a listener's mistake is reported and stops neither the stream nor other listeners", async () => {
  const w = opened();
  const mistakes = [];
  const report = (error) => mistakes.push(error.message);
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', report);
  const off = w.client.on('messages', () => {
    throw new Error('mine');
  });
  w.socket.say(message(11));
  await settled();
  off();
  w.socket.say(message(12));
  await settled();
  process.off('uncaughtException', report);
  for (const other of others) process.on('uncaughtException', other);
  assert.deepEqual(w.offsets(), [9, 10, 11, 12]);
  assert.deepEqual(mistakes, ['mine']);
});
