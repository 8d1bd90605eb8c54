// Listeners that connect or close the client while they are called.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { message, opened, settled, world } from './world.mjs';

// lostEpoch is a world whose server comes back with another epoch, so that the welcome is preceded by a reset.
function lostEpoch(onReset) {
  const w = opened();
  w.client.on('reset', () => onReset(w.client));
  w.socket.die();
  w.pass(1_000);
  w.socket.welcome(3, 'f');
  return w;
}

test('close in a reset listener stays closed', () => {
  const w = lostEpoch((client) => client.close());
  assert.equal(w.client.phase, 'closed');
  assert.equal(w.phases.at(-1), 'closed');
  assert.deepEqual(w.timers, []);
  assert.deepEqual(w.client.position, { offset: 3, epoch: 'f' });
});

test('connect in a reset listener goes on from the new position, and publishes wait for the new welcome', () => {
  const w = lostEpoch((client) => client.connect());
  assert.equal(w.client.phase, 'connecting');
  assert.equal(w.sockets.length, 3);
  assert.equal(w.socket.url.search, '?since=3&epoch=f&name=ann');
  w.publish('k', 'x');
  assert.deepEqual(w.socket.sent, []);
  w.socket.welcome(3, 'f');
  assert.deepEqual(w.socket.asked('publish'), [{ data: 'x', id: 'k' }]);
});

test('close and connect count in a listener of every state and of the welcome', () => {
  for (const phase of ['connecting', 'live', 'waiting', 'ended', 'welcome']) {
    for (const end of ['close', 'connect']) {
      const w = world();
      let once = true;
      w.client.on(phase === 'welcome' ? 'welcome' : 'state', (state) => {
        if (once && (phase === 'welcome' || state.phase === phase)) {
          once = false;
          w.client[end]();
        }
      });
      const welcomes = [];
      const later = [];
      w.client.on('welcome', (welcome) => welcomes.push(welcome));
      w.client.on('state', (state) => later.push(state.phase));
      w.client.connect();
      const first = w.socket;
      if (first && once) first.welcome(0);
      if (once) first.die(phase === 'ended' ? 3500 : 1006);
      const want = end === 'close' ? 'closed' : 'connecting';
      assert.equal(once, false, `${phase} was told`);
      assert.equal(w.client.phase, want, `${end} in a listener of ${phase} counts`);
      assert.equal(later.at(-1), want, `${end} in a listener of ${phase}: others hear the newest state last`);
      const told = ['waiting', 'ended'].includes(phase) ? 1 : 0;
      assert.equal(welcomes.length, told, `${end} in a listener of ${phase}: no welcome for what is over`);
      if (end === 'close') assert.deepEqual(w.timers, [], `${phase}: nothing is planned after close`);
      else assert.equal(w.socket.closedWith, undefined, `${phase}: the last connection is the one in use`);
    }
  }
});

test('lines behind the one at which a listener connected belong to the old connection', () => {
  const w = opened();
  let once = true;
  w.client.on('message', () => {
    if (once) w.client.connect();
    once = false;
  });
  w.socket.say(message(11), message(12), { reset: { epoch: 'f', offset: 3, reason: 'old' } }, message(4));
  assert.deepEqual(w.offsets(), [9, 10, 11, 12], 'what came together is handed on');
  assert.deepEqual(w.told, [], 'the reset comes again on the new connection');
  assert.equal(w.client.phase, 'connecting');
  w.socket.welcome(12);
  w.socket.say(message(12), message(13));
  assert.deepEqual(w.offsets(), [9, 10, 11, 12, 13]);
});

test('close in a message listener leaves the position at that message', () => {
  const w = opened();
  w.client.on('message', () => w.client.close());
  w.socket.say(message(11), message(12));
  assert.deepEqual(w.offsets(), [9, 10, 11]);
  assert.deepEqual(w.client.position, { offset: 11, epoch: 'e' });
  w.client.connect();
  assert.equal(w.socket.url.searchParams.get('since'), '11');
});

test('what came before a gap is handed on before the connection is left', () => {
  const w = opened();
  w.client.on('state', ({ phase }) => phase === 'waiting' && w.client.close());
  w.socket.say(message(11), message(13));
  assert.deepEqual(w.offsets(), [9, 10, 11]);
  assert.equal(w.client.phase, 'closed');
});

test('close or connect at a gap that stays is not undone, and what follows the gap is not lost', () => {
  for (const end of ['close', 'connect']) {
    const w = opened();
    w.client.on('reset', () => w.client[end]());
    w.socket.say(message(13));
    w.pass(1_000);
    w.socket.welcome(13);
    w.socket.say(message(13), message(14));
    assert.deepEqual(w.offsets(), [9, 10]);
    assert.deepEqual(w.client.position, { offset: 12, epoch: 'e' });
    assert.equal(w.client.phase, end === 'close' ? 'closed' : 'connecting');
  }
});

test('what a socket did not take is sent with the next chance', async () => {
  const w = opened();
  w.publish('a', 1);
  const { send } = w.socket;
  w.socket.send = () => {
    throw new Error('not now');
  };
  w.publish('b', 2);
  w.socket.send = send;
  w.socket.say({ ack: { id: 'a', offset: 11 } });
  assert.deepEqual(w.socket.asked('publish').map((p) => p.id), ['a', 'b']);
  w.socket.say({ ack: { id: 'b', offset: 12 } });
  await settled();
  assert.deepEqual(w.told, [['ack', 'a', 11], ['ack', 'b', 12]]);
});

test('close at any point settles what waits, leaves no timer and opens nothing later', async () => {
  const expires = (w) => Math.round(w.now / 1000) + 100;
  for (const [point, tokens, get] of [
    ['before connect', 0, () => {}],
    ['the first token is asked for', 1, (w) => w.client.connect()],
    ['the socket is opening', 1, (w) => (w.client.connect(), w.grant('t1'))],
    ['joined', 1, async (w) => (w.client.connect(), await w.grant('t1'), w.socket.welcome(0))],
    ['refused for a time', 1, async (w) => {
      w.client.connect();
      await w.grant('t1');
      w.socket.welcome(0);
      w.socket.say({ error: { code: 111, message: 'slow', id: 'k', retry: true, retry_after: 5_000 } });
    }],
    ['a token is renewed', 2, async (w) => (w.client.connect(), await w.grant('t1'), w.socket.welcome(0, 'e', { expires: expires(w) }), w.stay(90))],
    ['a renewed token is shown', 2, async (w) => {
      w.client.connect();
      await w.grant('t1');
      w.socket.welcome(0, 'e', { expires: expires(w) });
      w.stay(90);
      await w.grant('t2');
      assert.equal(w.socket.asked('refresh').length, 1);
    }],
    ['waiting', 1, async (w) => (w.client.connect(), await w.grant('t1'), w.socket.die())],
    ['after the server had ended it', 1, async (w) => (w.client.connect(), await w.grant('t1'), w.socket.die(4500))],
  ]) {
    const grants = [];
    const w = world({ token: () => new Promise((give, fail) => grants.push({ give, fail })) });
    w.grant = (token) => (grants.at(-1).give(token), settled());
    w.stay = (seconds) => {
      for (; seconds > 0; seconds--, w.socket.say({ pong: {} })) w.pass(1_000);
    };
    const pages = w.client.pages();
    const waiting = [w.publish('k', 1), pages.next().catch(() => 'page'), w.client.info().catch(() => 'info')];
    await get(w);
    assert.equal(grants.length, tokens, point);
    const sockets = w.sockets.length;
    w.client.close();
    await Promise.all(waiting);
    if (grants.length) grants.at(-1)[tokens === 1 ? 'give' : 'fail'](new Error('late')); // whatever comes late
    await settled();
    w.sockets.at(-1)?.welcome(1);
    w.sockets.at(-1)?.die();
    w.pass(600_000);
    assert.deepEqual(w.timers, [], `${point}: no timer is left`);
    assert.equal(w.sockets.length, sockets, `${point}: nothing is opened`);
    assert.equal(w.client.phase, 'closed', point);
  }
});
