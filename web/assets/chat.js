// The chat column: a window of rows over the channel's history.
//
// The rows are a contiguous run of messages. While the reader follows the end, new rows come below and old ones leave
// above. While the reader is up in the history, nothing moves under their eyes: new messages are counted, and when the
// window is full the rows far from the eye leave. `tail` holds the newest messages in any case, so the end can be
// shown again at once. The number of rows and the tail are bounded, however long the room runs.

import { t, language } from './i18n.js';
import { hueOf, textOf } from './text.js';

const FOLLOW_ROWS = 200; // rows kept while following the end
const SLACK = 100; // rows above that before they leave, together: when rows leave, all others must be painted anew
const MAX_ROWS = 500; // rows kept while reading history
const MAX_PENDING = 50; // own messages that are on their way or could not be sent
const TAIL = 200; // newest messages kept in memory
const PAGE = 50; // messages per page of history
const NEAR_EDGE = 400; // pixels from an edge at which the next page is asked for
const AT_END = 48; // pixels from the end that still count as following
const FLUSH_MS = 120; // at most one change of the document in this time: more cannot be read
const RETRY_MS = 1000;
const MAX_TEXT = 4000; // characters of a message that are shown

export class Chat {
  #scroller;
  #list;
  #pendingList;
  #top;
  #jump;
  #rows = []; // {offset, element, message}; offset is 0 for a divider
  #tail = []; // newest messages, ascending
  #pending = new Map(); // id → {element, entry, offset, echoed}
  #following = true;
  #seenTop = 0; // scrollTop as last set or seen, to know which way the reader scrolled
  #unread = 0;
  #lastFlush = 0;
  #timer = 0;
  #loading = false;
  #resting = false; // after a page could not be loaded
  #beginning = false;

  // elements: {scroller, list, pending, top, jump}. history(range) fetches a page. onRetry(entry) is the reader's wish to
  // send once more what could not be sent.
  constructor({ scroller, list, pending, top, jump }, { history, onRetry }) {
    this.#scroller = scroller;
    this.#list = list;
    this.#pendingList = pending;
    this.#top = top;
    this.#jump = jump;
    this.history = history;
    this.onRetry = onRetry;
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    jump.addEventListener('click', () => this.toEnd());
    new ResizeObserver(() => {
      this.#noticeScroll();
      if (this.#following) this.#stick();
    }).observe(scroller);
    document.addEventListener('visibilitychange', () => document.hidden || this.#schedule());
  }

  // clear empties the column, for another channel; keepPending leaves what could not be sent: it is the same channel.
  clear({ keepPending = false } = {}) {
    this.#replace([]);
    this.#tail = [];
    this.#beginning = false;
    this.#unread = 0;
    this.#following = true;
    for (const [id, p] of this.#pending) {
      if (keepPending && !p.offset) continue;
      p.element.remove();
      this.#pending.delete(id);
    }
    this.#update();
  }

  // get isEmpty says whether there is nothing to read.
  get isEmpty() {
    return this.#tail.length === 0 && this.#pending.size === 0;
  }

  // add takes new messages, in order. A message has own: true when it was written here.
  add(messages) {
    for (const message of messages) {
      this.#tail.push(message);
      if (this.#pending.size) this.#arrived(message);
    }
    this.#tail.splice(0, this.#tail.length - TAIL);
    if (!this.#following) this.#unread += messages.length;
    this.#schedule();
  }

  // reset starts over with the last messages, below a divider that says that some are missing.
  reset(messages) {
    this.#tail = messages.slice(-TAIL);
    for (const [id, p] of this.#pending) if (p.offset) this.#settle(id);
    this.#replace(this.#tail);
    this.#insertDivider();
    this.#beginning = false;
    this.#following = true;
    this.#unread = 0;
    this.#update();
    this.#stick();
  }

  // toEnd shows the newest messages and follows them.
  toEnd() {
    this.#seenTop = this.#scroller.scrollTop;
    this.#following = true;
    this.#unread = 0;
    this.#flush();
    this.#stick();
  }

  // relabel writes the rows again, after a change of language.
  relabel() {
    for (const row of this.#rows) {
      if (!row.message) row.element.firstChild.textContent = t('missing');
      else fillRow(row.element, row.message);
    }
    for (const p of this.#pending.values()) this.#fillPending(p);
    this.#update();
  }

  // Messages on their way

  // full says whether too many wait, or failed, to take another one.
  get full() {
    return this.#pending.size >= MAX_PENDING;
  }

  // pend shows an entry {id, data, failed: null | error} that is not acknowledged yet.
  pend(entry, user) {
    const element = document.createElement('li');
    this.#pending.set(entry.id, { element, entry, user, offset: 0, echoed: false });
    this.#fillPending(this.#pending.get(entry.id));
    this.#pendingList.append(element);
    this.toEnd();
  }

  // acked takes an entry out once its message is shown: an acknowledgement may come before or after it.
  acked(id, offset) {
    const p = this.#pending.get(id);
    if (!p) return;
    p.offset = offset;
    if (p.echoed || (this.#tail.at(-1)?.offset ?? 0) >= offset) this.#settle(id);
  }

  // refused shows that an entry could not be sent.
  refused(entry) {
    const p = this.#pending.get(entry.id);
    if (!p) return;
    p.echoed = false;
    this.#fillPending(p);
    this.toEnd();
  }

  // arrived settles the entry that became this message or, before its acknowledgement, hides the one that it seems to
  // be the echo of, so that it is not seen twice for a moment.
  #arrived(message) {
    for (const [id, p] of this.#pending) {
      if (p.offset === message.offset) {
        this.#settle(id);
        return;
      }
    }
    if (!message.own) return;
    for (const p of this.#pending.values()) {
      if (p.echoed || p.entry.failed || p.offset || textOf(p.entry.data) !== textOf(message.data)) continue;
      p.echoed = true;
      this.#fillPending(p);
      return;
    }
  }

  #settle(id) {
    const p = this.#pending.get(id);
    this.#pending.delete(id);
    // The row leaves together with the coming of the message's own row.
    p.element.dataset.done = '';
    this.#schedule();
  }

  #fillPending(p) {
    const failed = p.entry.failed;
    fillRow(p.element, { user: p.user, data: p.entry.data, time: null, own: true });
    p.element.className = failed ? 'row own pending failed' : 'row own pending';
    p.element.hidden = p.echoed;
    const note = document.createElement('span');
    note.className = 'note';
    note.textContent = failed ? `${t('failed')}: ${failed.message}` : t('sending');
    p.element.append(note);
    if (failed) p.element.append(this.#button('retry', p), this.#button('dismiss', p));
  }

  #button(key, p) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'link';
    button.textContent = t(key);
    button.addEventListener('click', () => {
      if (key === 'dismiss') {
        this.#pending.delete(p.entry.id);
        p.element.remove();
      } else {
        this.onRetry(p.entry);
        this.#fillPending(p);
      }
    });
    return button;
  }

  // The window

  get #first() {
    return this.#rows.find((r) => r.offset)?.offset ?? 0;
  }

  get #last() {
    return this.#rows.at(-1)?.offset ?? 0;
  }

  // attached says whether the rows reach the newest message.
  get #attached() {
    return this.#last >= (this.#tail.at(-1)?.offset ?? 0);
  }

  #schedule() {
    if (this.#timer || document.hidden) return;
    const wait = Math.max(0, this.#lastFlush + FLUSH_MS - performance.now());
    this.#timer = setTimeout(() => requestAnimationFrame(() => this.#flush()), wait);
  }

  // flush brings the rows up to date with the tail, as far as the reader's place allows.
  #flush() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#lastFlush = performance.now();
    this.#noticeScroll();
    const last = this.#last;
    const fresh = this.#tail.filter((m) => m.offset > last);
    if (fresh.length) {
      const joins = this.#rows.length === 0 || fresh[0].offset === last + 1;
      if (this.#following && !joins) this.#replace(this.#tail);
      else if (this.#following) this.#append(fresh);
      else if (joins) this.#append(fresh.slice(0, Math.max(0, MAX_ROWS - this.#rows.length)));
    }
    for (const e of this.#pendingList.querySelectorAll('[data-done]')) e.remove();
    if (this.#following) {
      if (this.#rows.length > FOLLOW_ROWS + SLACK) this.#trimTop(FOLLOW_ROWS);
      this.#stick();
      if (this.#scroller.scrollTop < NEAR_EDGE) this.#loadOlder();
    }
    this.#update();
  }

  #replace(messages) {
    this.#rows = messages.map(makeRow);
    this.#list.replaceChildren(...this.#rows.map((r) => r.element));
    this.#beginning = false;
  }

  #append(messages) {
    const rows = messages.map(makeRow);
    this.#rows.push(...rows);
    this.#list.append(...rows.map((r) => r.element));
  }

  #insertDivider() {
    const element = document.createElement('li');
    element.className = 'divider';
    const label = document.createElement('span');
    label.textContent = t('missing');
    element.append(label);
    this.#rows.unshift({ offset: 0, element, message: null });
    this.#list.prepend(element);
  }

  #trimTop(limit) {
    const gone = this.#rows.splice(0, Math.max(0, this.#rows.length - limit));
    for (const { element } of gone) element.remove();
    if (gone.length) this.#beginning = false;
  }

  #trimBottom(limit) {
    for (const { element } of this.#rows.splice(limit)) element.remove();
  }

  // Scrolling

  #stick() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#seenTop = this.#scroller.scrollTop;
  }

  // noticeScroll decides whether the reader follows: scrolling up by a little ends it at once, even in a busy room;
  // scrolling down to the end begins it again. It returns the distances to both edges.
  #noticeScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    const up = scrollTop < this.#seenTop - 1;
    this.#seenTop = scrollTop;
    if (up && below > 4) this.#following = false;
    else if (!up && below < AT_END && this.#attached) this.#following = true;
    if (this.#following) this.#unread = 0;
    return { above: scrollTop, below };
  }

  #scrolled() {
    const before = this.#following;
    const { above, below } = this.#noticeScroll();
    if (this.#following !== before) {
      if (this.#following) this.#unread = 0;
      this.#update();
    }
    if (above < NEAR_EDGE) this.#loadOlder();
    else if (below < NEAR_EDGE && !this.#attached) this.#loadNewer();
  }

  // keepPlace runs change and leaves what the reader looks at where it is.
  #keepPlace(change) {
    const anchor = this.#anchor();
    const before = anchor?.getBoundingClientRect().top;
    change();
    if (anchor?.isConnected) this.#scroller.scrollTop += anchor.getBoundingClientRect().top - before;
    this.#seenTop = this.#scroller.scrollTop;
  }

  #anchor() {
    const top = this.#scroller.getBoundingClientRect().top;
    return this.#rows.find((r) => r.element.getBoundingClientRect().bottom > top)?.element;
  }

  async #loadOlder() {
    const before = this.#first;
    if (!before || before === 1 || this.#beginning) return;
    const page = await this.#page({ before, limit: PAGE });
    if (!page || this.#first !== before) return;
    const messages = page.messages.filter((m) => m.offset < before);
    this.#keepPlace(() => {
      const rows = messages.map(makeRow);
      this.#rows.unshift(...rows);
      this.#list.prepend(...rows.map((r) => r.element));
      this.#beginning = !page.more || messages.length === 0;
      if (!this.#following) this.#trimBottom(MAX_ROWS);
      this.#update();
    });
  }

  async #loadNewer() {
    const since = this.#last;
    const page = await this.#page({ since, limit: PAGE });
    if (!page || this.#last !== since || page.messages[0]?.offset !== since + 1) return;
    this.#keepPlace(() => {
      this.#append(page.messages);
      this.#trimTop(MAX_ROWS);
      this.#update();
    });
  }

  // page fetches one page at a time; after a failure it rests for a second and looks again.
  async #page(range) {
    if (this.#loading || this.#resting) return null;
    const tail = this.#tail;
    this.#loading = true;
    this.#update();
    try {
      const page = await this.history(range);
      for (const m of page.messages) this.mark?.(m);
      return tail === this.#tail ? page : null;
    } catch {
      this.#resting = true;
      setTimeout(() => {
        this.#resting = false;
        this.#scrolled();
      }, RETRY_MS);
      return null;
    } finally {
      this.#loading = false;
      this.#update();
    }
  }

  // What surrounds the rows

  #update() {
    const begins = this.#beginning || this.#first === 1;
    set(this.#top, this.#loading ? t('loading') : begins ? t('beginning') : '');
    if (this.#jump.hidden !== this.#following) this.#jump.hidden = this.#following;
    if (!this.#following) set(this.#jump.firstElementChild, this.#unread ? t('newMessages', this.#unread) : t('latest'));
  }
}

// set writes a text only when it changed: writing the same one again costs a layout.
function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function makeRow(message) {
  const element = document.createElement('li');
  fillRow(element, message);
  return { offset: message.offset, element, message };
}

// fillRow writes a message as text, whatever it holds.
function fillRow(element, message) {
  element.className = message.own ? 'row own' : 'row';
  const time = document.createElement('time');
  if (message.time) {
    const date = new Date(message.time);
    time.dateTime = date.toISOString();
    time.textContent = clock(date);
    time.title = date.toLocaleString(language());
  }
  const name = document.createElement('b');
  name.className = 'name';
  name.textContent = message.user || t('anonymous');
  name.style.setProperty('--hue', hueOf(message.user || ''));
  const text = document.createElement('span');
  text.className = 'text';
  text.dir = 'auto';
  text.textContent = textOf(message.data).slice(0, MAX_TEXT);
  element.replaceChildren(time, name, ' ');
  if (message.own) {
    const you = document.createElement('i');
    you.className = 'you';
    you.textContent = t('you');
    element.append(you, ' ');
  }
  element.append(text);
}

const formats = new Map();

// clock is hours and minutes, with the day when it is not today's.
function clock(date) {
  const today = date.toDateString() === new Date().toDateString();
  const key = `${language()} ${today}`;
  if (!formats.has(key)) {
    const day = today ? {} : { month: 'numeric', day: 'numeric' };
    formats.set(key, new Intl.DateTimeFormat(language(), { hour: '2-digit', minute: '2-digit', hourCycle: 'h23', ...day }));
  }
  return formats.get(key).format(date);
}
