import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoff, Connection, mayReconnect } from '../assets/connection.js';

// world is a connection with fake sockets and a fake clock. What the page is told is noted in `told`.
function world({ random = () => 0.5 } = {}) {
  const w = { now: 0, timers: [], sockets: [], told: [], messages: [], phases: [] };
  class FakeSocket {
    constructor(url) {
      this.url = new URL(url);
      this.sent = [];
      w.sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close(code) {
      this.closedWith = code;
    }
    say(...lines) {
      this.onmessage?.({ data: lines.map((l) => JSON.stringify(l)).join('\n') });
    }
    welcome(offset, epoch = 'e', client = 'c') {
      this.say({ welcome: { node: 'a', client, channel: 'room', epoch, offset } });
    }
    die(code = 1006, reason = '') {
      this.onclose?.({ code, reason });
    }
  }
  let timer = 0;
  const env = {
    WebSocket: FakeSocket,
    setTimeout: (f, ms) => (w.timers.push({ id: ++timer, at: w.now + ms, f }), timer),
    clearTimeout: (id) => (w.timers = w.timers.filter((t) => t.id !== id)),
    now: () => w.now,
    random,
  };
  w.pass = (ms) => {
    const until = w.now + ms;
    for (;;) {
      const next = w.timers.filter((t) => t.at <= until).sort((a, b) => a.at - b.at || a.id - b.id)[0];
      if (!next) break;
      w.timers = w.timers.filter((t) => t !== next);
      w.now = next.at;
      next.f();
    }
    w.now = until;
  };
  const handlers = {
    onState: (s) => w.phases.push(s.phase),
    onMessages: (list) => w.messages.push(...list),
    onReset: (list, reason) => w.told.push(['reset', list.map((m) => m.offset), reason]),
    onAck: (entry, offset) => w.told.push(['ack', entry.id, offset]),
    onRefused: (entry, error) => w.told.push(['refused', entry.id, error.code]),
    onError: (error) => w.told.push(['error', error.code]),
  };
  w.connection = new Connection({ base: 'ws://host', channel: 'room', name: 'ann', handlers, env });
  w.offsets = () => w.messages.map((m) => m.offset);
  Object.defineProperty(w, 'socket', { get: () => w.sockets.at(-1) });
  return w;
}

const message = (offset) => ({ message: { offset, time: 1, data: `m${offset}` } });

// opened is a world that is live with messages up to 10.
function opened(options) {
  const w = world(options);
  w.connection.open();
  w.socket.welcome(10);
  w.socket.say(message(9), message(10));
  return w;
}

test('the first connection asks for the last 50 and gives the name', () => {
  const w = world();
  w.connection.open();
  assert.equal(w.socket.url.pathname, '/ws/room');
  assert.equal(w.socket.url.search, '?last=50&name=ann');
  const odd = new Connection({ base: 'ws://host', channel: 'a/b c#?%房', handlers: {}, env: { WebSocket: class { constructor(url) { w.odd = url; } } } });
  odd.open();
  assert.ok(w.odd.startsWith('ws://host/ws/a%2Fb%20c%23%3F%25%E6%88%BF?'));
  odd.stop();
});

test('several lines share a frame; history is told from what is live', () => {
  const w = opened();
  w.socket.say(message(11), message(12));
  assert.deepEqual(w.offsets(), [9, 10, 11, 12]);
  assert.deepEqual(w.messages.map((m) => m.live), [false, false, true, true]);
});

test('after a lost connection the stream goes on after the last message, without repeats', () => {
  const w = opened();
  w.socket.die();
  assert.equal(w.connection.phase, 'waiting');
  w.pass(1_000);
  assert.equal(w.sockets.length, 2);
  assert.equal(w.socket.url.search, '?since=10&epoch=e&name=ann');
  w.socket.welcome(12);
  w.socket.say(message(10), message(11), message(12), message(13));
  assert.deepEqual(w.offsets(), [9, 10, 11, 12, 13]);
});

test('a socket that was left is not heard any more', () => {
  const w = opened();
  const old = w.socket;
  w.connection.rename('bea');
  assert.equal(w.socket.url.search, '?since=10&epoch=e&name=bea');
  assert.equal(old.closedWith, 1000);
  old.say(message(11));
  old.die();
  assert.deepEqual(w.offsets(), [9, 10]);
  assert.equal(w.connection.phase, 'connecting');
});

test('close codes that forbid it end the connection until asked to open again', () => {
  for (const code of [1002, 1003, 1007, 1009, 3500, 3999]) {
    assert.equal(mayReconnect(code), false, `${code} does not reconnect`);
    const w = opened();
    w.socket.die(code, 'why');
    w.pass(120_000);
    assert.equal(w.sockets.length, 1, `${code}: no new connection`);
    assert.equal(w.connection.phase, 'ended');
    w.connection.open();
    assert.equal(w.sockets.length, 2);
  }
  for (const code of [1000, 1001, 1006, 1011, 3000, 3001, 3004, 3008, 3010, 3012, 3013, 3499]) {
    assert.equal(mayReconnect(code), true, `${code} reconnects`);
  }
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

test('the pause has full jitter under a ceiling that doubles from 0.5 s to 15 s', () => {
  const ceilings = [0, 1, 2, 3, 4, 5, 6, 50].map((n) => backoff(n, () => 1));
  assert.deepEqual(ceilings, [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
  assert.equal(backoff(3, () => 0), 100);
  assert.equal(backoff(3, () => 0.5), 2000);
});

test('attempts that fail wait longer each time; a connection that lasts starts over', () => {
  const w = world({ random: () => 1 });
  w.connection.open();
  const pauses = [];
  for (let i = 0; i < 4; i++) {
    w.socket.die();
    pauses.push(w.timers[0].at - w.now);
    w.pass(pauses.at(-1));
  }
  assert.deepEqual(pauses, [500, 1000, 2000, 4000]);
  w.socket.welcome(0);
  w.pass(6_000);
  w.socket.die();
  assert.equal(w.timers[0].at - w.now, 500);
});

test('a silent server is asked, and left when it does not answer', () => {
  const w = opened();
  w.pass(35_000);
  assert.deepEqual(w.socket.sent, [{ ping: {} }]);
  w.socket.say({ pong: {} });
  w.pass(10_001);
  assert.equal(w.connection.phase, 'live');
  w.pass(35_000);
  w.pass(10_000);
  assert.equal(w.connection.phase === 'live', false, 'the second ping was not answered');
});

test('a connection that gets no welcome is given up', () => {
  const w = world();
  w.connection.open();
  w.pass(10_000);
  assert.equal(w.connection.phase, 'waiting');
});

test('waking reconnects at once, or asks a connection that was silent for a while', () => {
  const w = opened({ random: () => 1 });
  w.pass(20_000);
  w.connection.wake();
  assert.deepEqual(w.socket.sent, [{ ping: {} }]);
  w.pass(4_000);
  assert.equal(w.connection.phase, 'waiting');
  w.connection.wake();
  assert.equal(w.sockets.length, 2);
});

test('what is not acknowledged is sent again with the same key, in order, once the connection is back', () => {
  const w = opened();
  w.connection.publish('k1', 'one');
  w.socket.say({ ack: { id: 'k1', offset: 11 } });
  w.connection.publish('k2', 'two');
  w.socket.die();
  w.connection.publish('k3', 'three');
  w.pass(1_000);
  assert.deepEqual(w.socket.sent, [], 'nothing before the welcome');
  w.socket.welcome(12);
  assert.deepEqual(w.socket.sent.map((l) => l.publish), [{ data: 'two', id: 'k2' }, { data: 'three', id: 'k3' }]);
  w.socket.say({ ack: { id: 'k2', offset: 12, repeated: true } }, { ack: { id: 'k3', offset: 13 } });
  assert.deepEqual(w.told, [['ack', 'k1', 11], ['ack', 'k2', 12], ['ack', 'k3', 13]]);
  assert.equal(w.connection.outbox.unsent().length, 0);
});

test('an error that invites it is tried again; another is shown and waits for the reader', () => {
  const w = opened();
  w.connection.publish('k', 'x');
  w.socket.say({ error: { code: 120, message: 'storage', id: 'k', retry: true } });
  assert.deepEqual(w.told, []);
  w.pass(3_000);
  assert.equal(w.socket.sent.filter((l) => l.publish).length, 2);
  w.socket.say({ error: { code: 106, message: 'limit', id: 'k', retry: false } });
  assert.deepEqual(w.told, [['refused', 'k', 106]]);
  w.socket.die();
  w.pass(1_000);
  w.socket.welcome(10);
  assert.deepEqual(w.socket.sent, [], 'a refused message is not sent by itself');
  w.connection.retry('k');
  assert.deepEqual(w.socket.sent, [{ publish: { data: 'x', id: 'k' } }]);
});

test('a server that always says retry is not asked for ever', () => {
  const w = opened();
  w.connection.publish('k', 'x');
  for (let i = 0; i < 6; i++) {
    w.socket.say({ error: { code: 111, message: 'slow', id: 'k', retry: true } });
    w.pass(20_000);
    w.socket.say({ pong: {} });
  }
  assert.deepEqual(w.told, [['refused', 'k', 111]]);
});

test('the outbox is bounded', () => {
  const w = world();
  for (let i = 0; i < 50; i++) assert.notEqual(w.connection.publish(`k${i}`, i), null);
  assert.equal(w.connection.publish('k50', 50), null);
});

test('a reset before the welcome loads the last page and holds what comes meanwhile', async () => {
  const w = opened();
  w.socket.die();
  w.pass(1_000);
  w.socket.say({ reset: { epoch: 'f', offset: 3, reason: 'another life' } });
  w.socket.welcome(3, 'f');
  w.socket.say(message(4));
  const { history } = w.socket.sent[0];
  assert.equal(history.before, 4);
  w.socket.say({ history: { id: history.id, epoch: 'f', offset: 4, messages: [1, 2, 3].map((n) => message(n).message), more: false } });
  w.socket.say(message(5));
  await null;
  await null;
  await null;
  assert.deepEqual(w.told, [['reset', [1, 2, 3], 'another life']]);
  assert.deepEqual(w.offsets(), [9, 10, 4, 5]);
  w.socket.die();
  w.pass(1_000);
  assert.equal(w.socket.url.search, '?since=5&epoch=f&name=ann');
});

test('a connection lost while loading after a reset starts anew and says so', () => {
  const w = opened();
  w.socket.say({ reset: { epoch: 'e', offset: 99, reason: 'too slow' } }, message(100));
  w.socket.die();
  assert.deepEqual(w.told, [['reset', [], 'too slow']]);
  w.pass(1_000);
  assert.equal(w.socket.url.search, '?last=50&name=ann');
});

test('a gap is never shown: the connection comes back for what is missing', () => {
  const w = opened();
  w.socket.say(message(12));
  assert.deepEqual(w.offsets(), [9, 10]);
  w.pass(1_000);
  assert.equal(w.socket.url.searchParams.get('since'), '10');
  w.socket.welcome(12);
  w.socket.say(message(11), message(12));
  assert.deepEqual(w.offsets(), [9, 10, 11, 12]);
});

test('a gap that stays is said, once, and the stream goes on', () => {
  const w = opened();
  w.socket.say(message(12));
  w.pass(1_000);
  w.socket.welcome(12);
  w.socket.say(message(12), message(13));
  assert.deepEqual(w.told, [['reset', [], 'messages were missed']]);
  assert.deepEqual(w.offsets(), [9, 10, 12, 13]);
});

test('requests are answered by their id, refused by an error, and end with the connection', async () => {
  const w = opened();
  const info = w.connection.info();
  const page = w.connection.history({ before: 9, limit: 50 });
  w.socket.say({ info: { id: w.socket.sent[0].info.id, members: 3, nodes: 1 } });
  assert.equal((await info).members, 3);
  w.socket.say({ error: { code: 107, message: 'no', id: w.socket.sent[1].history.id, retry: false } });
  await assert.rejects(page, /no/);
  const lost = w.connection.info();
  w.socket.die();
  await assert.rejects(lost, /lost/);
  await assert.rejects(w.connection.info(), /no connection/);
});

test('lines that are no JSON objects, and unknown ones, change nothing', () => {
  const w = opened();
  w.socket.onmessage({ data: 'x\n\n5\nnull\n{"new":{}}\n[]' });
  w.socket.say(message(11));
  assert.deepEqual(w.offsets(), [9, 10, 11]);
  assert.equal(w.connection.phase, 'live');
});

test('an empty room is resumed from its beginning', () => {
  const w = world();
  w.connection.open();
  w.socket.welcome(0);
  w.socket.die();
  w.pass(1_000);
  assert.equal(w.socket.url.searchParams.get('since'), '0');
});
