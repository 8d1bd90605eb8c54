// A client with fake sockets and fake clocks, for the tests beside this file.

import { Barrage } from '../barrage.js';

// world makes one; what the client says is noted in `told`, its messages in `messages`. Time goes by only in pass(), for both clocks;
// a test that changes `now` sets the clock of the world, or lets it sleep.
export function world({ random = () => 0.5, url = 'ws://host', channel = 'room', ...options } = {}) {
  const w = { now: 1_000_000_000, elapsed: 1_000, timers: [], sockets: [], told: [], messages: [], phases: [] };
  class FakeSocket {
    constructor(address, protocols) {
      this.url = new URL(address);
      this.protocols = protocols;
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
    welcome(offset, epoch = 'e', more = {}) {
      this.say({ welcome: { node: 'a', client: 'c', channel: 'room', epoch, offset, ...more } });
    }
    die(code = 1006, reason = '') {
      this.onclose?.({ code, reason });
    }
    // asked are the commands of one kind that came.
    asked(kind) {
      return this.sent.filter((l) => l[kind]).map((l) => l[kind]);
    }
  }
  let timer = 0;
  const env = {
    WebSocket: FakeSocket,
    setTimeout: (f, ms) => (w.timers.push({ id: ++timer, at: w.elapsed + ms, f }), timer),
    clearTimeout: (id) => (w.timers = w.timers.filter((t) => t.id !== id)),
    now: () => w.now,
    elapsed: () => w.elapsed,
    random,
  };
  // due is how long it takes until the timer that was set first.
  w.due = () => w.timers[0].at - w.elapsed;
  const advance = (to) => {
    w.now += to - w.elapsed;
    w.elapsed = to;
  };
  w.pass = (ms) => {
    const until = w.elapsed + ms;
    for (;;) {
      const next = w.timers.filter((t) => t.at <= until).sort((a, b) => a.at - b.at || a.id - b.id)[0];
      if (!next) break;
      w.timers = w.timers.filter((t) => t !== next);
      advance(next.at);
      next.f();
    }
    advance(until);
  };
  w.client = new Barrage(url, channel, { last: 50, name: 'ann', ...env, ...options });
  w.client.on('state', (s) => w.phases.push(s.phase));
  w.client.on('message', (m) => w.messages.push(m));
  w.client.on('reset', (r) => w.told.push(['reset', r.offset, r.reason]));
  w.client.on('error', (e) => w.told.push(['error', e.code]));
  w.client.on('join', (m) => w.told.push(['join', m.client]));
  w.client.on('leave', (m) => w.told.push(['leave', m.client]));
  w.client.on('skipped', (s) => w.told.push(['skipped', s.count]));
  w.offsets = () => w.messages.map((m) => m.offset);
  // publish notes in told how it ends.
  w.publish = (id, data) =>
    w.client.publish(data, { id }).then(
      (offset) => w.told.push(['ack', id, offset]),
      (error) => w.told.push(['refused', id, error.code]),
    );
  Object.defineProperty(w, 'socket', { get: () => w.sockets.at(-1) });
  return w;
}

export const message = (offset) => ({ message: { offset, time: 1, data: `m${offset}` } });

// opened is a world that is live with messages up to 10.
export function opened(options) {
  const w = world(options);
  w.client.connect();
  w.socket.welcome(10);
  w.socket.say(message(9), message(10));
  return w;
}

// settled lets promises run to their end.
export const settled = () => new Promise((done) => setImmediate(done));
