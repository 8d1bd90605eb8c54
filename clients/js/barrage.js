// One channel of a Barrage cluster over /ws/{channel}, across as many WebSockets as it takes.
//
// Promises: messages are handed on once each and in order; after a lost connection the stream goes on where it stopped,
// on any node; when that is impossible a `reset` says so. A publish that is not acknowledged is sent again under the same
// idempotency key, so that it is stored once. Everything outside (sockets, timers, clock, chance) comes in by the
// options, so it runs in a test without any. The protocol is in PROTOCOL.md of the project.

const MIN_DELAY = 500; // milliseconds, as everything below
const MAX_DELAY = 15_000;
const UNAVAILABLE_PAUSE = 2_000;
const SHUTDOWN_SPREAD = 300;
const WELCOME_TIMEOUT = 10_000;
const ANSWER_TIMEOUT = 10_000;
const IDLE_LIMIT = 35_000;
const PONG_TIMEOUT = 10_000;
const WAKE_PONG_TIMEOUT = 4_000;
const STABLE_AFTER = 5_000;
const CLOCK_IS_WRONG = 30_000; // between renewals of a token that this clock takes for expired
const MAX_TIMER = 2 ** 31 - 1;
const WINDOW = 32; // commands on their way at once; a server takes 64 publishes
const MAX_READS = 6; // and 8 requests for history
const ASK_EVERY = 3; // a new token after so many connections in a row that failed
const MAX_ATTEMPTS = 6; // of a publish that the server keeps refusing for the moment

const CLOSED_FOR_GOOD = [1002, 1003, 1007, 1009]; // 1009 unless a call that was too large explains it
const TOO_LARGE = 1009;
const SHUTDOWN = 3001;
const EXPIRED = 3005;
const BAD_TOKEN = 3500;

/**
 * @typedef {object} Message
 * @property {number} [offset] its place in the channel: 1, 2, 3, …; a live channel has none
 * @property {number} time when it was stored, in Unix milliseconds
 * @property {string} [user] who published it
 * @property {string} [client] by which connection
 * @property {any} data any JSON value
 * @property {any} [info] what the publisher's connection token says of them
 * @property {any} [chan_info] what their subscription token says of them
 * @property {Record<string, string>} [tags] set by the server API
 *
 * @typedef {object} Welcome
 * @property {string} node the node that serves this connection
 * @property {string} client the id of this connection
 * @property {string} channel
 * @property {string} [epoch] which life of the journal the offsets belong to
 * @property {number} [offset] the channel's head
 * @property {boolean} [live] the channel stores nothing: no offsets, no history
 * @property {string} [user] who the token says you are
 * @property {number} [expires] when the token ends, in Unix seconds
 * @property {number} [max_payload] the largest message the server takes, in bytes; an older one does not tell
 *
 * @typedef {object} Reset
 * @property {string} [epoch]
 * @property {number} offset the stream goes on after it
 * @property {string} reason
 *
 * @typedef {object} Member
 * @property {string} user
 * @property {string} client
 * @property {any} [info]
 * @property {any} [chan_info]
 *
 * @typedef {object} Presence
 * @property {Member[]} members
 * @property {number} clients connections in the channel
 * @property {number} users distinct users
 * @property {boolean} [exact] false when `users` is an estimate
 * @property {boolean} [sampled] `members` is a part of them
 *
 * @typedef {object} Info
 * @property {number} members connections in the channel
 * @property {number} nodes on how many nodes
 * @property {number} [users] distinct users
 * @property {boolean} [exact] false when `users` is an estimate
 *
 * @typedef {object} Range
 * @property {number} [since] messages after this offset
 * @property {number} [before] messages before this offset; without both, the last ones
 * @property {number} [limit] 1 to 1000; 100 without it
 *
 * @typedef {object} Page
 * @property {Message[]} messages ascending
 * @property {boolean} more another page follows in the direction asked for
 * @property {number} offset the channel's head
 * @property {string} epoch
 *
 * @typedef {object} State
 * @property {Phase} phase
 * @property {number} [at] waiting: when the next attempt comes, in Unix milliseconds
 * @property {number} [code] waiting, ended: the close code
 * @property {string} [reason]
 *
 * `live`: joined. `waiting`: comes back by itself. `ended`: the server said that coming back is pointless; only
 * `connect()` tries again. `closed`: by `close()`.
 * @typedef {'idle' | 'connecting' | 'live' | 'waiting' | 'ended' | 'closed'} Phase
 *
 * `message` and `messages` carry the same: one at a time, and what came together. `skipped`: this connection was too
 * slow for a live channel. `error`: what belongs to no call, such as a token that could not be renewed.
 * @typedef {{state: State, welcome: Welcome, message: Message, messages: Message[], reset: Reset, join: Member,
 *   leave: Member, skipped: {count: number}, error: BarrageError}} Events
 *
 * @typedef {(url: string, protocols?: string[]) => Pick<WebSocket, 'send' | 'close' | 'onmessage' | 'onclose'>} Dial
 *
 * @typedef {object} Options
 * @property {string} [name] display name of an anonymous user
 * @property {string | (() => string | Promise<string>)} [token] who you are. A function is asked when there is no
 *   token yet, before it expires, and when connections are refused; an ordinary reconnect uses the last one again
 * @property {number} [last] begin with the last messages, at most 1000
 * @property {number} [since] begin after this offset
 * @property {string} [epoch] which `since` belongs to
 * @property {boolean} [echo] false leaves out your own messages
 * @property {boolean} [members] true asks for `join` and `leave`
 * @property {number} [outbox] how many publishes may wait for their acknowledgement; 100 without it
 * @property {any} [WebSocket] a constructor, where there is no global one
 * @property {(f: () => void, ms: number) => any} [setTimeout]
 * @property {(id: any) => void} [clearTimeout]
 * @property {() => number} [now] Unix milliseconds, for the ends of tokens and what is told
 * @property {() => number} [elapsed] milliseconds of a clock that nobody sets, for how long something took
 * @property {() => number} [random] 0 up to 1
 */

/**
 * Why a call failed. `code` is a number of the server's table of errors, or one of these: `full` (too many publishes
 * wait), `busy` (too many questions at once, or the id is on its way), `too_large` (for the server; nothing was stored),
 * `timeout`, `ended`, `closed`, `token`.
 */
export class BarrageError extends Error {
  /**
   * @param {number | string} code
   * @param {string} message
   * @param {boolean} [retry] whether the same call can succeed later; a publish with the same id is safe to repeat
   */
  constructor(code, message, retry = false) {
    super(message);
    this.name = 'BarrageError';
    this.code = code;
    this.retry = retry;
  }
}

/**
 * The pause before attempt number n (from 0), in milliseconds: full jitter under a ceiling that doubles.
 * @param {number} attempt
 * @param {() => number} random
 */
export function backoff(attempt, random) {
  const ceiling = Math.min(MAX_DELAY, MIN_DELAY * 2 ** Math.min(attempt, 10));
  return Math.max(100, Math.round(random() * ceiling));
}

/**
 * Whether a close code invites to come back.
 * @param {number} code
 */
export function mayReconnect(code) {
  return !CLOSED_FOR_GOOD.includes(code) && !(code >= 3500 && code < 4000) && !(code >= 4500 && code < 5000);
}

/** A random idempotency key. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

/**
 * @typedef {object} Call
 * @property {string} kind
 * @property {string} line what is sent
 * @property {number} size of that, in bytes
 * @property {boolean} sent on the current connection
 * @property {number} refusals
 * @property {any} timer
 * @property {(answer: any) => void} resolve
 * @property {(error: Error) => void} reject
 */

export class Barrage {
  /** @type {Options} */ #options;
  /** @type {Map<string, Set<(detail: any) => void>>} */ #listeners = new Map();
  /** @type {string[]} */ #urls;
  #turn = 0; // which URL is next
  #life = 0; // counts connections and attempts, so that what belongs to an old one is known
  /** @type {any} */ #socket = null;
  /** @type {Phase} */ #phase = 'idle';
  /** @type {number | null} */ #offset = null; // of the last message handed on
  #epoch = '';
  /** @type {number | null} */ #gapAt = null; // position at which a gap already made us reconnect once
  #attempt = 0;
  #heard = 0; // when the last frame came, as everything that lasts by the clock that nobody sets
  #heardAt = 0; // the same by the other clock, which goes on while a machine sleeps
  #frames = 0;
  /** @type {Map<string, any>} */ #timers = new Map(); // of this life, by name; a name has at most one timer
  /** @type {Map<string, Call>} */ #calls = new Map(); // what has no answer yet, by id, in order
  #window = WINDOW;
  #most = 0; // the largest message that this connection's server takes, in bytes; 0 when it did not tell
  #rest = 0; // until when nothing is sent on this connection, after a refusal
  #told = 0; // until when nothing is sent on any, because a server said so
  #asked = -1; // #frames at the last ping
  #token = ''; // the last one of the function
  #expires = 0; // when it ends, by this clock; 0 when that is not known
  #reused = false; // the token of this connection served an earlier one
  /** @type {(() => void) | null} */ #deaf = null; // ends listening to the page; null while it does not

  /**
   * @param {string | string[]} url the cluster, like wss://example.com; each attempt takes the next of several
   * @param {string} channel
   * @param {Options} [options]
   */
  constructor(url, channel, options = {}) {
    this.channel = channel;
    /** The display name; a change counts from the next `connect()`. */
    this.name = options.name ?? '';
    this.#options = {
      setTimeout: (f, ms) => globalThis.setTimeout(f, ms),
      clearTimeout: (id) => globalThis.clearTimeout(id),
      now: Date.now,
      elapsed: () => performance.now(),
      random: Math.random,
      ...options,
    };
    this.#offset = options.since ?? null;
    this.#epoch = options.epoch ?? '';
    this.#urls = [url].flat().map((base) => {
      const root = new URL(base, globalThis.location?.href).href.replace(/^http/, 'ws').replace(/\/*([?#].*)?$/, '');
      return `${root}/ws/${encodeURIComponent(channel)}`;
    });
  }

  /** @returns {Phase} */
  get phase() {
    return this.#phase;
  }

  /** Where the stream stands, to go on from there later by `since` and `epoch`; null when it is not known yet. */
  get position() {
    return this.#offset === null ? null : { offset: this.#offset, epoch: this.#epoch };
  }

  /** Whether `publish` would be refused because too many wait. */
  get full() {
    return this.#count((kind) => kind === 'publish') >= (this.#options.outbox ?? 100);
  }

  /**
   * Calls a function for each event of a type; the result ends that.
   * @template {keyof Events} T
   * @param {T} type
   * @param {(detail: Events[T]) => void} listener
   * @returns {() => void}
   */
  on(type, listener) {
    const set = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, set.add(listener));
    return () => set.delete(listener);
  }

  /** Connects now, whatever it was waiting for; a connection that is there is left for a new one. */
  connect() {
    const { token } = this.#options;
    this.#detach();
    this.#listen();
    const life = this.#life;
    this.#state('connecting');
    if (life !== this.#life) return this; // a listener decided otherwise
    this.#after('welcome', WELCOME_TIMEOUT, () => this.#closed(1006, 'no welcome'));
    if (this.#expires && this.#now() > this.#expires) this.#token = '';
    this.#reused = this.#token !== '';
    if (typeof token !== 'function') this.#open(token);
    else if (this.#reused) this.#open(this.#token);
    else this.#ask(token);
    return this;
  }

  /** Ends it. What was not acknowledged fails with the code `closed`; it may have been stored. */
  close() {
    this.#end('closed', {}, 'the client was closed');
  }

  /** Called by itself when the network came back or the page is looked at again: makes sure of the connection. */
  wake() {
    const silent = Math.max(this.#elapsed() - this.#heard, this.#now() - this.#heardAt);
    if (this.#phase === 'waiting') this.connect();
    else if (this.#phase === 'live' && silent > PONG_TIMEOUT) this.#probe(WAKE_PONG_TIMEOUT);
  }

  /**
   * Publishes any JSON value, once, however often the connection is lost meanwhile. Resolves to the message's offset when
   * it is stored (0 in a live channel), and fails with a BarrageError: at once when too many wait, unsent when it is too large for
   * the server, or with the server's refusal.
   * @param {any} data
   * @param {{id?: string}} [options] id: an idempotency key of your own, at most 128 bytes
   * @returns {Promise<number>}
   */
  publish(data, { id = newId() } = {}) {
    if (this.full) return Promise.reject(new BarrageError('full', 'too many messages wait to be acknowledged', true));
    return this.#call('publish', { data }, id).then((ack) => ack.offset ?? 0);
  }

  /**
   * One page of the past. It does not move the stream.
   * @param {Range} [range]
   * @returns {Promise<Page>}
   */
  history(range = {}) {
    return this.#read('history', range);
  }

  /**
   * Page after page: on from `since`, or back from `before` or from the end.
   * @param {Range} [range]
   * @returns {AsyncGenerator<Page, void, void>}
   */
  async *pages(range = {}) {
    for (let next = range; ; ) {
      const page = await this.history(next);
      yield page;
      const { messages } = page;
      if (!page.more || !messages.length) return;
      next = range.since !== undefined ? { ...range, since: messages[messages.length - 1].offset } : { ...range, before: messages[0].offset };
    }
  }

  /**
   * How large the audience is.
   * @returns {Promise<Info>}
   */
  info() {
    return this.#read('info', {});
  }

  /**
   * Who is there.
   * @returns {Promise<Presence>}
   */
  presence() {
    return this.#read('presence', {});
  }

  // Small things

  #now() {
    return /** @type {() => number} */ (this.#options.now)();
  }

  #elapsed() {
    return /** @type {() => number} */ (this.#options.elapsed)();
  }

  #random() {
    return /** @type {() => number} */ (this.#options.random)();
  }

  /** @param {() => void} f @param {number} ms */
  #later(f, ms) {
    return this.#options.setTimeout?.(f, ms);
  }

  // emit calls the listeners. Any of them may call connect() or close(): who emits compares the life before and after.
  /** @param {keyof Events} type @param {any} detail */
  #emit(type, detail) {
    const life = this.#life;
    for (const listener of this.#listeners.get(type) ?? []) {
      // What a listener ended is no news for the others, who heard of the newer state already.
      if (life !== this.#life && (type === 'state' || type === 'welcome')) return;
      try {
        listener(detail);
      } catch (error) {
        // A listener's mistake is reported, and must not stop the stream.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  /** @param {Phase} phase @param {Partial<State>} [more] */
  #state(phase, more) {
    this.#phase = phase;
    this.#emit('state', { phase, ...more });
  }

  /** @param {string} name @param {number} ms @param {() => void} f */
  #after(name, ms, f) {
    this.#cancel(name);
    this.#timers.set(name, this.#later(() => {
      this.#timers.delete(name);
      f();
    }, ms));
  }

  /** @param {string} name */
  #cancel(name) {
    this.#options.clearTimeout?.(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #listen() {
    const { addEventListener, removeEventListener, document } = globalThis;
    if (this.#deaf || !addEventListener) return;
    const wake = () => document?.hidden || this.wake();
    const offline = () => this.#phase === 'live' && this.#probe(WAKE_PONG_TIMEOUT);
    addEventListener('online', wake);
    addEventListener('offline', offline);
    document?.addEventListener('visibilitychange', wake);
    this.#deaf = () => {
      removeEventListener('online', wake);
      removeEventListener('offline', offline);
      document?.removeEventListener('visibilitychange', wake);
    };
  }

  // Life of a socket

  /** @param {() => string | Promise<string>} get */
  async #ask(get) {
    const life = this.#life;
    try {
      const token = await get();
      if (life !== this.#life) return;
      this.#token = token ?? '';
      this.#expires = 0; // the welcome says it
      this.#open(this.#token);
    } catch (error) {
      if (life !== this.#life) return;
      const failed = tokenError(error);
      this.#emit('error', failed);
      if (life === this.#life) this.#closed(1006, failed.message);
    }
  }

  /** @param {string} [token] */
  #open(token) {
    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    const protocols = token ? ['barrage', `barrage.bearer.${token}`] : [];
    /** @type {any} */
    let socket;
    try {
      socket = new Socket(this.#url(), protocols);
    } catch (error) {
      // Not the network: an address or a token that no socket takes, or no sockets at all.
      const reason = /** @type {any} */ (error)?.message ?? String(error);
      this.#end('ended', { code: 1006, reason }, reason);
      return;
    }
    this.#socket = socket;
    this.#hear();
    socket.onmessage = (/** @type {any} */ event) => {
      if (socket === this.#socket) this.#receive(event.data);
    };
    socket.onclose = (/** @type {any} */ event) => {
      if (socket === this.#socket) this.#closed(event.code, event.reason);
    };
    socket.onerror = () => {}; // a close follows
  }

  #url() {
    const { last, echo, members } = this.#options;
    const query = new URLSearchParams();
    if (this.#offset !== null) {
      query.set('since', String(this.#offset));
      if (this.#epoch) query.set('epoch', this.#epoch);
    } else if (last) query.set('last', String(last));
    if (this.name) query.set('name', this.name);
    if (echo === false) query.set('echo', '0');
    if (members) query.set('members', '1');
    const text = query.toString();
    return this.#urls[this.#turn++ % this.#urls.length] + (text && `?${text}`);
  }

  // detach leaves the current socket behind: nothing of it is heard any more.
  #detach() {
    const socket = this.#socket;
    this.#socket = null;
    this.#life++;
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
    for (const call of this.#calls.values()) call.sent = false;
    try {
      socket?.close(1000);
    } catch {
      // It was closed already.
    }
  }

  /** @param {'ended' | 'closed'} phase @param {Partial<State>} more @param {string} reason */
  #end(phase, more, reason) {
    this.#detach();
    this.#deaf?.(); // so that the page does not keep hold of it
    this.#deaf = null;
    this.#phase = phase;
    for (const id of [...this.#calls.keys()]) this.#settle(id)?.reject(new BarrageError(phase, reason));
    this.#state(phase, more);
  }

  /** @param {number} code @param {string} reason */
  #closed(code, reason) {
    const renewable = typeof this.#options.token === 'function';
    // A page is not told why a handshake failed. Not at each one: a node's end must not become a storm of questions.
    const doubt = this.#phase !== 'live' && this.#attempt % ASK_EVERY === ASK_EVERY - 1;
    if (doubt || code === EXPIRED || code === BAD_TOKEN) this.#token = '';
    // A token that is no function is the same the next time. One that was taken may be good still: the server API can end a connection so.
    const forGood = code === EXPIRED ? !renewable && this.#options.token && this.#phase !== 'live' : !mayReconnect(code);
    if (forGood && !(code === BAD_TOKEN && renewable && this.#reused) && !(code === TOO_LARGE && this.#blame())) {
      this.#end('ended', { code, reason }, reason || `the server closed with ${code}`);
      return;
    }
    this.#detach();
    let delay = backoff(this.#attempt, () => this.#random());
    // At once, but a cluster that only ever shuts down is no reason for a storm.
    if (code === SHUTDOWN && !this.#attempt) delay = Math.round(this.#random() * SHUTDOWN_SPREAD);
    if (code === 3013) delay += UNAVAILABLE_PAUSE;
    this.#attempt++;
    this.#after('reconnect', delay, () => this.connect());
    this.#state('waiting', { at: this.#now() + delay, code, reason });
  }

  // blame fails the call for which the server closed with 1009, if there is one: of those that it did not answer one was too
  // large, and so is the largest.
  #blame() {
    const sent = [...this.#calls].filter(([, call]) => call.sent);
    const [largest] = sent.sort(([, a], [, b]) => b.size - a.size);
    if (largest) this.#settle(largest[0])?.reject(tooLarge(largest[1]));
    return largest;
  }

  #hear() {
    this.#heard = this.#elapsed();
    this.#heardAt = this.#now();
  }

  // watch looks after a silent connection: when nothing came for long, a ping must be answered.
  #watch() {
    const idle = this.#elapsed() - this.#heard;
    if (idle >= IDLE_LIMIT) this.#probe(PONG_TIMEOUT);
    else this.#after('watch', IDLE_LIMIT - idle, () => this.#watch());
  }

  /** @param {number} limit */
  #probe(limit) {
    const frames = this.#frames;
    if (this.#asked === frames) return; // nothing came since: a page that is looked at again and again must not put it off
    this.#asked = frames;
    this.#send('{"ping":{}}');
    this.#after('watch', limit, () => {
      if (this.#frames > frames) this.#watch();
      else this.#closed(1006, 'no answer to a ping');
    });
  }

  // The token

  /** @param {number} [expires] */
  #plan(expires = 0) {
    const left = expires * 1000 - this.#now();
    // The server took it just now: a clock that takes it for expired is wrong, and no judge of when it ends.
    this.#expires = left > 0 ? expires * 1000 : 0;
    if (!expires || typeof this.#options.token !== 'function') return;
    const delay = left > 0 ? Math.max(1000, left * (0.75 + this.#random() * 0.15)) : CLOCK_IS_WRONG;
    this.#after('renew', Math.min(delay, MAX_TIMER), () => this.#renew());
  }

  async #renew() {
    const get = /** @type {() => string | Promise<string>} */ (this.#options.token);
    const life = this.#life;
    try {
      const token = await get();
      if (life !== this.#life) return;
      const { expires } = await this.#call('refresh', { token });
      this.#token = token;
      this.#expires = 0; // that was the old one's
      if (life === this.#life) this.#plan(expires);
    } catch (error) {
      if (life !== this.#life) return;
      this.#token = '';
      this.#after('renew', 5000, () => this.#renew());
      this.#emit('error', tokenError(error));
    }
  }

  // Calls

  /** @param {(kind: string) => boolean} test */
  #count(test) {
    let n = 0;
    for (const { kind } of this.#calls.values()) if (test(kind)) n++;
    return n;
  }

  /** @param {string} kind @param {object} args @returns {Promise<any>} */
  #read(kind, args) {
    const reads = this.#count((other) => other !== 'publish');
    return reads < MAX_READS ? this.#call(kind, args) : Promise.reject(new BarrageError('busy', 'too many questions at once', true));
  }

  /** @param {string} kind @param {object} args @param {string} [id] @returns {Promise<any>} */
  #call(kind, args, id = newId()) {
    return new Promise((resolve, reject) => {
      if (this.#phase === 'ended' || this.#phase === 'closed') throw new BarrageError(this.#phase, 'there is no connection');
      if (this.#calls.has(id)) throw new BarrageError('busy', 'this id is on its way');
      const line = JSON.stringify({ [kind]: { ...args, id } });
      /** @type {Call} */
      const call = { kind, line, size: new TextEncoder().encode(line).length, sent: false, refusals: 0, timer: 0, resolve, reject };
      this.#calls.set(id, call);
      if (kind !== 'publish') {
        call.timer = this.#later(() => this.#settle(id)?.reject(new BarrageError('timeout', 'no answer in time', true)), ANSWER_TIMEOUT);
      }
      this.#flush();
    });
  }

  // settle takes a call out; the caller gives it its answer.
  /** @param {string} id */
  #settle(id) {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    this.#options.clearTimeout?.(call?.timer);
    return call;
  }

  // flush sends what waits, in order, as far as the window goes. After a refusal it rests for a while.
  #flush() {
    if (this.#phase !== 'live') return;
    if (this.#most) {
      for (const [id, call] of this.#calls) if (call.size > this.#most) this.#settle(id)?.reject(tooLarge(call, this.#most));
    }
    if (this.#timers.has('hold')) return;
    const calls = [...this.#calls.values()];
    let free = this.#window - calls.filter((call) => call.sent).length;
    for (const call of calls) {
      if (call.sent) continue;
      if (free-- <= 0) break;
      call.sent = true;
      if (!this.#send(call.line)) {
        call.sent = false;
        break;
      }
    }
  }

  // send is false when the socket takes nothing: it is about to close, and its close event brings us back.
  /** @param {string} line */
  #send(line) {
    try {
      this.#socket.send(line);
      return true;
    } catch {
      return false;
    }
  }

  // Receiving

  // receive handles one frame: its messages are handed on together, in their place among the other lines.
  /** @param {any} frame */
  #receive(frame) {
    this.#hear();
    this.#frames++;
    const socket = this.#socket;
    /** @type {Message[]} */
    let batch = [];
    const flush = () => {
      if (!batch.length) return;
      const messages = batch;
      batch = [];
      this.#emit('messages', messages);
      for (const message of messages) {
        if (this.#phase === 'closed') return; // the position stays at what was handed on
        this.#offset = message.offset ?? this.#offset;
        this.#emit('message', message);
      }
    };
    for (const text of String(frame).split('\n')) {
      const line = parse(text);
      if (line?.message) {
        if (this.#accept(line.message, flush)) batch.push(line.message);
      } else if (line) {
        flush();
        if (socket === this.#socket) this.#handle(line);
      }
      if (socket !== this.#socket) break; // this line, or a listener, ended the connection
    }
    flush();
  }

  // accept decides what becomes of a message: handed on (true), dropped as known, or taken as a gap.
  /** @param {Message} message @param {() => void} flush hands on what came before */
  #accept({ offset }, flush) {
    if (offset === undefined) return true; // live
    const at = this.#offset;
    if (at !== null && offset <= at) return false;
    if (at !== null && offset !== at + 1 && this.#options.echo !== false) {
      const life = this.#life;
      flush();
      if (life !== this.#life) return false;
      if (this.#gapAt !== at) {
        this.#gapAt = at;
        this.#closed(1006, 'messages were missed');
        return false;
      }
      // The same gap again: the server cannot fill it. Say so and go on.
      this.#reset({ epoch: this.#epoch, offset: offset - 1, reason: 'messages were missed' });
      if (life !== this.#life) return false; // the next connection brings it
    }
    this.#offset = offset;
    return true;
  }

  /** @param {any} line */
  #handle(line) {
    const { welcome, reset, ack, error, refreshed } = line;
    if (welcome) this.#welcomed(welcome);
    else if (reset) this.#reset(reset);
    else if (error) this.#refused(error);
    else if (ack && this.#options.echo === false && ack.offset === (this.#offset ?? 0) + 1) this.#offset = ack.offset;
    const answer = ack ?? refreshed ?? line.history ?? line.info ?? line.presence;
    const call = answer && this.#settle(answer.id);
    if (call) {
      this.#window = Math.min(WINDOW, this.#window + 1);
      call.resolve(answer);
      this.#flush();
    }
    for (const type of /** @type {const} */ (['join', 'leave', 'skipped'])) if (line[type]) this.#emit(type, line[type]);
  }

  /** @param {Welcome} welcome */
  #welcomed(welcome) {
    const { epoch = '', offset = 0, live } = welcome;
    const life = this.#life;
    this.#cancel('welcome');
    const lost = !live && this.#offset !== null && this.#epoch !== '' && this.#epoch !== epoch;
    if (lost) this.#reset({ epoch, offset, reason: 'the epoch changed' });
    if (life !== this.#life) return;
    this.#epoch = epoch;
    if (!live && this.#offset === null && (!this.#options.last || offset === 0)) this.#offset = offset;
    this.#window = WINDOW;
    this.#most = welcome.max_payload ?? 0;
    this.#rest = 0;
    this.#pause(this.#told - this.#elapsed());
    this.#after('stable', STABLE_AFTER, () => {
      this.#attempt = 0;
    });
    this.#plan(welcome.expires);
    this.#watch();
    this.#state('live');
    if (life === this.#life) this.#emit('welcome', welcome);
    this.#flush();
  }

  /** @param {Reset} reset */
  #reset(reset) {
    this.#offset = reset.offset;
    this.#epoch = reset.epoch ?? '';
    this.#emit('reset', reset);
  }

  // pause sends nothing for so long, and then one call, to see how it is. Of several pauses the longest counts.
  /** @param {number} ms */
  #pause(ms) {
    if (ms <= 0) return;
    const now = this.#elapsed();
    this.#window = 1;
    this.#rest = Math.max(this.#rest, now + ms);
    this.#after('hold', this.#rest - now, () => this.#flush());
  }

  /** @param {{id: string, code: number, message: string, retry?: boolean, retry_after?: number}} error */
  #refused({ id, code, message, retry = false, retry_after: after = 0 }) {
    const call = this.#calls.get(id);
    const failed = new BarrageError(code, message, retry);
    if (!call) {
      this.#emit('error', failed);
    } else if (retry && (after > 0 || ++call.refusals < MAX_ATTEMPTS)) {
      // Everything waits, so that what was refused keeps its place.
      call.sent = false;
      const pause = after > 0 ? after * (1 + this.#random() / 4) : MIN_DELAY + backoff(call.refusals - 1, () => this.#random());
      this.#pause(pause);
      if (after > 0) this.#told = this.#rest;
    } else {
      this.#settle(id)?.reject(failed);
      this.#flush();
    }
  }
}

/** @param {any} error */
function tokenError(error) {
  return error instanceof BarrageError ? error : new BarrageError('token', `no token: ${error?.message ?? error}`, true);
}

/** @param {Call} call @param {number} [limit] which is not known when the server only closed */
function tooLarge({ size }, limit) {
  return new BarrageError('too_large', `${size} bytes are too many for the server${limit ? `, which takes ${limit}` : ''}`);
}

/** @param {string} text @returns {any} */
function parse(text) {
  try {
    const line = JSON.parse(text);
    return typeof line === 'object' ? line : null;
  } catch {
    return null;
  }
}
