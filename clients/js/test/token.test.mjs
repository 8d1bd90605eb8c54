import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settled, world } from './world.mjs';

// granter hands out t1, t2, … and counts.
function granter() {
  const token = async () => `t${++token.asked}`;
  token.asked = 0;
  return token;
}

const shown = (w) => w.sockets.map((s) => s.protocols.join(' '));
const seconds = (w, n) => Math.round(w.now / 1000) + n;

test('a token goes as a subprotocol, never into the address', () => {
  const w = world({ token: 'a.b.c' });
  w.client.connect();
  assert.deepEqual(w.socket.protocols, ['barrage', 'barrage.bearer.a.b.c']);
  assert.equal(w.socket.url.href.includes('a.b.c'), false);
});

test('a function is asked once; an ordinary reconnect shows the same token', async () => {
  const token = granter();
  const w = world({ token });
  w.client.connect();
  assert.equal(w.sockets.length, 0, 'no connection before the token');
  await settled();
  w.socket.welcome(0, 'e', { user: 'ann', expires: seconds(w, 3600) });
  w.socket.die(3001);
  w.pass(300);
  assert.deepEqual(shown(w), ['barrage barrage.bearer.t1', 'barrage barrage.bearer.t1']);
  assert.equal(token.asked, 1);
});

test('before it expires a token is renewed without losing the connection', async () => {
  const token = granter();
  const w = world({ token });
  w.client.connect();
  await settled();
  w.socket.welcome(0, 'e', { expires: seconds(w, 100) });
  const stay = (ms) => {
    for (; ms > 0; ms -= 10_000) {
      w.pass(Math.min(ms, 10_000));
      w.socket.say({ pong: {} });
    }
  };
  stay(74_000);
  assert.equal(token.asked, 1, 'not long before');
  stay(16_000);
  await settled();
  const { id, ...rest } = w.socket.asked('refresh')[0];
  assert.deepEqual(rest, { token: 't2' });
  w.socket.say({ refreshed: { id, expires: seconds(w, 100) } });
  await settled();
  stay(90_000);
  await settled();
  assert.equal(w.socket.asked('refresh')[1].token, 't3');
  assert.equal(w.sockets.length, 1);
});

test('what expired is not shown again: not after 3005, not after a sleep, not by this clock', async () => {
  const token = granter();
  const w = world({ token });
  w.client.connect();
  await settled();
  w.socket.welcome(0, 'e', { expires: seconds(w, 100) });
  w.socket.die(3005);
  w.pass(500);
  await settled();
  assert.equal(token.asked, 2);
  w.socket.welcome(0, 'e', { expires: seconds(w, 100) });
  w.now += 3_600_000;
  w.socket.die();
  w.pass(500);
  await settled();
  assert.equal(token.asked, 3);
  assert.deepEqual(shown(w).map((s) => s.slice(-2)), ['t1', 't2', 't3']);
});

test('a token that was good and is not any more is replaced once; a new one that is refused ends it', async () => {
  const token = granter();
  const w = world({ token });
  w.client.connect();
  await settled();
  w.socket.welcome(0);
  w.socket.die();
  w.pass(500);
  w.socket.die(3500, 'invalid token');
  assert.equal(w.client.phase, 'waiting');
  w.pass(1_000);
  await settled();
  assert.deepEqual(shown(w).map((s) => s.slice(-2)), ['t1', 't1', 't2']);
  w.socket.die(3500, 'invalid token');
  assert.equal(w.client.phase, 'ended');
});

test('handshakes that fail ask for a new token now and then, not each time', async () => {
  const token = granter();
  const w = world({ token });
  w.client.connect();
  await settled();
  for (let i = 0; i < 9; i++) {
    w.socket.die();
    w.pass(w.due());
    await settled();
  }
  assert.equal(w.sockets.length, 10);
  assert.equal(token.asked, 4);
});

test('after its end a token is replaced once, however many connections fail before the next welcome', async () => {
  const token = granter();
  const w = world({ token });
  w.client.connect();
  await settled();
  w.socket.welcome(0, 'e', { expires: seconds(w, 100) });
  w.now += 3_600_000;
  for (let i = 0; i < 2; i++) {
    w.socket.die();
    w.pass(w.due());
    await settled();
  }
  w.client.connect();
  await settled();
  assert.deepEqual(shown(w).map((s) => s.slice(-2)), ['t1', 't2', 't2', 't2']);
});

test('a token that was renewed on a connection that ended meanwhile outlives the one before it', async () => {
  const token = granter();
  const w = world({ token });
  w.client.connect();
  await settled();
  w.socket.welcome(0, 'e', { expires: seconds(w, 10) });
  w.pass(9_000);
  await settled();
  w.socket.die(3001);
  w.pass(300);
  await settled();
  w.socket.welcome(0, 'e', { expires: seconds(w, 1) });
  w.socket.say({ refreshed: { id: w.socket.asked('refresh')[0].id, expires: seconds(w, 3600) } });
  await settled();
  w.now += 60_000;
  w.socket.die(3001);
  w.pass(w.due());
  await settled();
  assert.deepEqual(shown(w).map((s) => s.slice(-2)), ['t1', 't1', 't2']);
  assert.equal(token.asked, 2);
});

test('a clock that takes a good token for expired does not ask for another at each reconnect', async () => {
  const token = granter();
  const w = world({ token });
  w.client.connect();
  for (let i = 0; i < 4; i++) {
    await settled();
    w.socket.welcome(0, 'e', { expires: seconds(w, -3600) });
    w.socket.die(3001);
    w.pass(w.due());
  }
  await settled();
  assert.equal(token.asked, 1);
});

test('a token that cannot be had is said, and tried again with the usual pauses', async () => {
  let fail = true;
  const w = world({ token: () => (fail ? Promise.reject(new Error('log in first')) : 't') });
  w.client.connect();
  await settled();
  assert.deepEqual(w.told, [['error', 'token']]);
  assert.equal(w.client.phase, 'waiting');
  fail = false;
  w.pass(1_000);
  await settled();
  assert.deepEqual(shown(w), ['barrage barrage.bearer.t']);
});

test('a renewal that fails is said and tried again; a clock that is wrong does not ask at every moment', async () => {
  let asked = 0;
  const w = world({ token: () => (++asked === 2 ? Promise.reject(new Error('away')) : `t${asked}`) });
  w.client.connect();
  await settled();
  w.socket.welcome(0, 'e', { expires: seconds(w, 10) });
  w.pass(9_000);
  await settled();
  assert.deepEqual(w.told, [['error', 'token']]);
  w.pass(5_000);
  await settled();
  const { id } = w.socket.asked('refresh')[0];
  w.socket.say({ refreshed: { id, expires: seconds(w, -50) } });
  await settled();
  w.pass(29_000);
  await settled();
  assert.equal(w.socket.asked('refresh').length, 1);
  w.pass(1_000);
  await settled();
  assert.equal(w.socket.asked('refresh').length, 2);
});

test('a token that comes too late, for a connection that was given up, opens nothing', async () => {
  let give;
  const w = world({ token: () => new Promise((done) => (give = done)) });
  w.client.connect();
  await settled();
  w.client.close();
  give('t');
  await settled();
  assert.equal(w.sockets.length, 0);
});

test('a token that has expired and cannot be replaced ends it', () => {
  const w = world({ token: 'a.b.c' });
  w.client.connect();
  w.socket.welcome(0);
  w.socket.die(3005, 'expired');
  w.pass(2000);
  assert.equal(w.sockets.length, 2, 'a connection that was open may have been ended so by the server API: the token is shown again');
  w.socket.die(3005, 'expired');
  w.pass(120_000);
  assert.equal(w.client.phase, 'ended');
  assert.equal(w.sockets.length, 2, 'the same token is not shown for ever');
});
