// One channel over /ws/{channel}, across as many WebSockets as it takes.
//
// Promises: messages are handed on once each and in order; after a lost connection the stream goes on where it
// stopped; when that is impossible, onReset says so. What was published and not acknowledged is sent again with the
// same key. Everything outside comes in by `env` (sockets, timers, clock, chance), so it runs in a test without any.

import { Outbox } from './outbox.js';

export const LAST_ON_OPEN = 50;

const MIN_DELAY = 500; // milliseconds, as everything below
const MAX_DELAY = 15_000;
const UNAVAILABLE_PAUSE = 2_000;
const SHUTDOWN_SPREAD = 300;
const WELCOME_TIMEOUT = 10_000;
const REQUEST_TIMEOUT = 10_000;
const IDLE_LIMIT = 35_000;
const PONG_TIMEOUT = 10_000;
const WAKE_PONG_TIMEOUT = 4_000;
const STABLE_AFTER = 5_000;
const MAX_REQUESTS = 6; // the server takes 8 history requests at once
const MAX_HELD = 5_000; // messages held while a page is loaded after a reset; beyond it the connection starts over

const CLOSED_FOR_GOOD = new Set([1002, 1003, 1007, 1009]);

// backoff is the pause before attempt number n (from 0): full jitter under a ceiling that doubles.
export function backoff(attempt, random) {
  const ceiling = Math.min(MAX_DELAY, MIN_DELAY * 2 ** Math.min(attempt, 10));
  return Math.max(100, Math.round(random() * ceiling));
}

// mayReconnect follows the table of close codes in PROTOCOL.md.
export function mayReconnect(code) {
  return !CLOSED_FOR_GOOD.has(code) && !(code >= 3500 && code <= 3999);
}

const browserEnv = () => ({
  WebSocket: globalThis.WebSocket,
  setTimeout: (f, ms) => globalThis.setTimeout(f, ms),
  clearTimeout: (id) => globalThis.clearTimeout(id),
  now: () => Date.now(),
  random: () => Math.random(),
});

export class Connection {
  #env;
  #on;
  #base;
  #socket = null;
  #welcome = null; // of the current socket
  #position = null; // offset of the last message handed on; null before the first
  #epoch = '';
  #held = null; // messages that wait for the page after a reset
  #gapAt = null; // position at which a gap already made us reconnect once
  #attempt = 0;
  #heard = 0; // when the last frame came
  #frames = 0;
  #timers = new Map(); // name → id; a name has at most one timer
  #requests = new Map(); // id → {resolve, reject}
  #requestNumber = 0;

  // base is the address of the server, like ws://host:port. The handlers are onState({phase, at, code, reason}),
  // onWelcome(welcome), onMessages(list), onReset(list, reason), onAck(entry, offset), onRefused(entry, error),
  // onError(error). A message carries `live`: stored after this connection was made, not history or replay.
  constructor({ base, channel, name = '', handlers, env = {} }) {
    this.#base = base;
    this.channel = channel;
    this.name = name;
    this.outbox = new Outbox();
    this.#on = handlers;
    this.#env = { ...browserEnv(), ...env };
    this.phase = 'idle'; // connecting, live, waiting, ended (will not come back by itself), stopped
  }

  // open connects now, whatever it was waiting for.
  open() {
    this.#detach(1000);
    this.#state('connecting');
    let socket;
    try {
      socket = new this.#env.WebSocket(this.#url());
    } catch (error) {
      this.#closed(1006, String(error?.message ?? error));
      return;
    }
    this.#socket = socket;
    this.#heard = this.#env.now();
    socket.onmessage = (event) => {
      if (socket === this.#socket) this.#receive(event.data);
    };
    socket.onclose = (event) => {
      if (socket === this.#socket) this.#closed(event.code, event.reason);
    };
    this.#after('welcome', WELCOME_TIMEOUT, () => this.#lost('no welcome'));
  }

  // stop ends it for good.
  stop() {
    this.#detach(1000);
    this.#state('stopped');
  }

  // rename comes back under another name, from where it was.
  rename(name) {
    if (name === this.name) return;
    this.name = name;
    if (this.phase === 'live' || this.phase === 'connecting') this.open();
  }

  // wake is called when the network came back or the page is looked at again.
  wake() {
    if (this.phase === 'waiting') this.open();
    else if (this.phase === 'live' && this.#env.now() - this.#heard > PONG_TIMEOUT) this.#probe(WAKE_PONG_TIMEOUT);
  }

  // publish sends data or keeps it until there is a connection. It returns the entry, or null when too many wait.
  publish(id, data) {
    const entry = this.outbox.add(id, data);
    if (entry) this.#sendEntry(entry);
    return entry;
  }

  // retry sends a failed entry again.
  retry(id) {
    const entry = this.outbox.retry(id);
    if (entry) this.#sendEntry(entry);
  }

  // history resolves to {messages, more, offset, epoch}; it rejects when the connection is lost or the server refuses.
  history(range) {
    return this.#request('history', range);
  }

  // info resolves to {members, nodes}.
  info() {
    return this.#request('info', {});
  }

  #url() {
    const query = new URLSearchParams();
    if (this.#position === null) {
      query.set('last', String(LAST_ON_OPEN));
    } else {
      query.set('since', String(this.#position));
      if (this.#epoch) query.set('epoch', this.#epoch);
    }
    if (this.name) query.set('name', this.name);
    return `${this.#base}/ws/${encodeURIComponent(this.channel)}?${query}`;
  }

  #state(phase, more = {}) {
    this.phase = phase;
    this.#on.onState?.({ phase, ...more });
  }

  // Timers

  #after(name, ms, f) {
    this.#cancel(name);
    this.#timers.set(name, this.#env.setTimeout(() => {
      this.#timers.delete(name);
      f();
    }, ms));
  }

  #cancel(name) {
    if (!this.#timers.has(name)) return;
    this.#env.clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  // Life of a socket

  // detach leaves the current socket behind: nothing of it is heard any more.
  #detach(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#welcome = null;
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
    if (this.#held) {
      // Lost while loading the page after a reset: begin anew.
      const { reason } = this.#held.reset;
      this.#held = null;
      this.#position = null;
      this.#on.onReset?.([], reason);
    }
    const requests = [...this.#requests.values()];
    this.#requests.clear();
    for (const { reject } of requests) reject(new Error('the connection was lost'));
    if (!socket) return;
    try {
      socket.close(code);
    } catch {
      // It was closed already.
    }
  }

  #lost(reason) {
    this.#detach(1000);
    this.#closed(1006, reason);
  }

  #closed(code, reason) {
    this.#detach(1000);
    if (!mayReconnect(code)) {
      this.#state('ended', { code, reason });
      return;
    }
    let delay = backoff(this.#attempt, this.#env.random);
    if (code === 3001) delay = Math.round(this.#env.random() * SHUTDOWN_SPREAD);
    if (code === 3013) delay += UNAVAILABLE_PAUSE;
    this.#attempt++;
    this.#after('reconnect', delay, () => this.open());
    this.#state('waiting', { at: this.#env.now() + delay, code, reason });
  }

  // watch looks after a silent connection: when nothing came for long, a ping must be answered.
  #watch() {
    const idle = this.#env.now() - this.#heard;
    if (idle >= IDLE_LIMIT) this.#probe(PONG_TIMEOUT);
    else this.#after('watch', IDLE_LIMIT - idle, () => this.#watch());
  }

  #probe(limit) {
    const frames = this.#frames;
    this.#send({ ping: {} });
    this.#after('watch', limit, () => {
      if (this.#frames > frames) this.#watch();
      else this.#lost('no answer to a ping');
    });
  }

  // Sending

  #send(line) {
    try {
      this.#socket?.send(JSON.stringify(line));
    } catch {
      // A socket that is about to close; its close event brings us back.
    }
  }

  #sendEntry(entry) {
    if (this.phase === 'live') this.#send({ publish: { data: entry.data, id: entry.id } });
  }

  #request(kind, args) {
    if (this.phase !== 'live') return Promise.reject(new Error('there is no connection'));
    if (this.#requests.size >= MAX_REQUESTS) return Promise.reject(new Error('too many requests at once'));
    const id = `${kind}-${++this.#requestNumber}`;
    return new Promise((resolve, reject) => {
      const settle = (f) => (value) => {
        this.#requests.delete(id);
        this.#cancel(id);
        f(value);
      };
      this.#requests.set(id, { resolve: settle(resolve), reject: settle(reject) });
      this.#after(id, REQUEST_TIMEOUT, () => this.#requests.get(id)?.reject(new Error('no answer in time')));
      this.#send({ [kind]: { ...args, id } });
    });
  }

  // Receiving

  // receive handles one frame: its messages are handed on together, in their place among the other lines.
  #receive(frame) {
    this.#heard = this.#env.now();
    this.#frames++;
    const socket = this.#socket;
    let batch = [];
    const flush = () => {
      if (batch.length) this.#on.onMessages?.(batch);
      batch = [];
    };
    for (const text of String(frame).split('\n')) {
      const line = parse(text);
      if (line === null) continue;
      if (line.message) {
        if (this.#accept(line.message)) batch.push(line.message);
      } else {
        flush();
        this.#handle(line);
      }
      if (socket !== this.#socket) break; // this line ended the connection
    }
    flush();
  }

  // accept decides what becomes of a message: handed on (true), dropped as known, held, or taken as a gap.
  #accept(message) {
    if (this.#held) {
      this.#held.push(message);
      if (this.#held.length > MAX_HELD) this.#lost('too much came at once');
      return false;
    }
    if (this.#position !== null) {
      if (message.offset <= this.#position) return false;
      if (message.offset !== this.#position + 1 && this.#gapAt !== this.#position) {
        this.#gapAt = this.#position;
        this.#lost('messages were missed');
        return false;
      }
      // The same gap again: the server cannot fill it. Say so and go on.
      if (message.offset !== this.#position + 1) this.#on.onReset?.([], 'messages were missed');
    }
    this.#position = message.offset;
    message.live = this.#welcome !== null && message.offset > this.#welcome.offset;
    return true;
  }

  #handle(line) {
    if (line.welcome) this.#welcomed(line.welcome);
    else if (line.reset) this.#reset(line.reset);
    else if (line.ack) this.#acked(line.ack);
    else if (line.error) this.#refused(line.error);
    else if (line.history) this.#requests.get(line.history.id)?.resolve(line.history);
    else if (line.info) this.#requests.get(line.info.id)?.resolve(line.info);
  }

  #welcomed(welcome) {
    this.#cancel('welcome');
    this.#welcome = welcome;
    this.#epoch = welcome.epoch ?? '';
    if (this.#position === null && welcome.offset === 0 && !this.#held) this.#position = 0;
    this.#after('stable', STABLE_AFTER, () => {
      this.#attempt = 0;
    });
    this.#state('live');
    this.#on.onWelcome?.(welcome);
    if (this.#held) this.#reload();
    for (const entry of this.outbox.unsent()) this.#sendEntry(entry);
    this.#watch();
  }

  // reset holds what comes live until the last page before it is loaded, so that the two meet without gap or repeat.
  #reset(reset) {
    this.#held = [];
    this.#held.reset = reset;
    this.#epoch = reset.epoch ?? '';
    if (this.phase === 'live') this.#reload();
  }

  #reload() {
    const held = this.#held;
    const { offset, reason } = held.reset;
    const finish = (messages) => {
      if (this.#held !== held) return;
      this.#held = null;
      this.#position = offset;
      this.#on.onReset?.(messages, reason);
      const ready = held.filter((m) => this.#accept(m));
      if (ready.length) this.#on.onMessages?.(ready);
    };
    this.history({ before: offset + 1, limit: LAST_ON_OPEN }).then((page) => finish(page.messages ?? []), () => finish([]));
  }

  #acked(ack) {
    const entry = this.outbox.acked(ack.id);
    if (entry) this.#on.onAck?.(entry, ack.offset);
  }

  #refused(error) {
    if (this.outbox.has(error.id)) {
      const entry = this.outbox.entries.get(error.id);
      if (this.outbox.refused(error.id, error)) {
        const again = () => this.outbox.has(entry.id) && this.#sendEntry(entry);
        this.#after(`again-${entry.id}`, 500 + backoff(entry.attempts, this.#env.random), again);
      } else {
        this.#on.onRefused?.(entry, error);
      }
    } else if (this.#requests.has(error.id)) {
      this.#requests.get(error.id).reject(new Error(error.message));
    } else {
      this.#on.onError?.(error);
    }
  }
}

function parse(text) {
  if (text.trim() === '') return null;
  try {
    const line = JSON.parse(text);
    return line !== null && typeof line === 'object' ? line : null;
  } catch {
    return null;
  }
}
