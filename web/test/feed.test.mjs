import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Feed } from '../assets/feed.js';

// world is a feed of a room whose events the test tells, and whose pages it gives.
function world() {
  const listeners = {};
  const w = { told: [], pages: [] };
  const history = (range) => new Promise((give, fail) => w.pages.push({ range, give, fail }));
  w.room = { phase: 'live', on: (type, f) => (listeners[type] = f), history };
  w.say = (type, detail) => listeners[type](detail);
  new Feed(w.room, {
    onMessages: (list) => w.told.push(list.map((m) => `${m.offset}${m.fresh ? ' fresh' : ''}`)),
    onReset: (list) => w.told.push(['reset', ...list.map((m) => m.offset)]),
  });
  return w;
}

const messages = (...offsets) => offsets.map((offset) => ({ offset, data: offset }));
const settled = () => new Promise((done) => setImmediate(done));

test('history is told from what is fresh', () => {
  const w = world();
  w.say('welcome', { offset: 10 });
  w.say('messages', messages(9, 10, 11));
  assert.deepEqual(w.told, [['9', '10', '11 fresh']]);
});

test('after a reset the last page comes first, and what came meanwhile after it', async () => {
  const w = world();
  w.say('reset', { offset: 3 });
  w.say('welcome', { offset: 3 });
  w.say('messages', messages(4));
  assert.deepEqual(w.pages[0].range, { before: 4, limit: 50 });
  assert.deepEqual(w.told, []);
  w.pages[0].give({ messages: messages(1, 2, 3) });
  await settled();
  w.say('messages', messages(5));
  assert.deepEqual(w.told, [['reset', 1, 2, 3], ['4 fresh'], ['5 fresh']]);
});

test('without the page, and with a second reset meanwhile, the stream goes on', async () => {
  const w = world();
  w.say('welcome', { offset: 0 });
  w.say('reset', { offset: 3 });
  w.say('messages', messages(4));
  w.say('reset', { offset: 9 });
  w.say('messages', messages(10));
  w.pages[0].give({ messages: messages(3) });
  w.pages[1].fail(new Error('lost'));
  await settled();
  assert.deepEqual(w.told, [['reset'], ['10 fresh']]);
});

test('what is held is bounded', async () => {
  const w = world();
  w.say('welcome', { offset: 0 });
  w.say('reset', { offset: 0 });
  w.say('messages', messages(...Array.from({ length: 5_001 }, (_, i) => i + 1)));
  assert.deepEqual(w.told[0], ['reset']);
  assert.deepEqual([w.told[1][0], w.told[1].at(-1), w.told[1].length], ['4952 fresh', '5001 fresh', 50]);
  w.pages[0].give({ messages: [] });
  await settled();
  assert.equal(w.told.length, 2);
});

test('a room that was left is not filled', async () => {
  const w = world();
  w.say('reset', { offset: 3 });
  w.room.phase = 'closed';
  w.pages[0].give({ messages: messages(3) });
  await settled();
  assert.deepEqual(w.told, []);
});

test('messages of a live channel are numbered here and always fresh', () => {
  const w = world();
  w.say('welcome', { live: true });
  w.say('messages', messages(undefined, undefined));
  w.say('messages', messages(undefined));
  assert.deepEqual(w.told, [['1 fresh', '2 fresh'], ['3 fresh']]);
});
