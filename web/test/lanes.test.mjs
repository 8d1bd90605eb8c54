import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lanes, Waiting } from '../assets/lanes.js';

// A small seeded generator (mulberry32), so that a failure can be repeated.
function chance(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

test('an empty stage takes one bullet per lane, then none', () => {
  const lanes = new Lanes(3);
  const taken = new Set();
  for (let i = 0; i < 3; i++) taken.add(lanes.place(0, 100, 800, 8000).lane);
  assert.equal(taken.size, 3, 'each bullet gets a lane of its own');
  assert.equal(lanes.place(0, 100, 800, 8000), null, 'a fourth one finds every lane busy');
});

test('a bullet follows as soon as the one before it has entered, with the gap', () => {
  const lanes = new Lanes(1, 20);
  const { speed } = lanes.place(0, 100, 800, 9000); // 0.1 px/ms
  assert.equal(speed, 0.1);
  assert.equal(lanes.place(1199, 100, 800, 9000), null, 'its tail is still within the gap');
  assert.notEqual(lanes.place(1200, 100, 800, 9000), null, 'now there is room');
});

test('a faster bullet waits until it cannot catch up', () => {
  const lanes = new Lanes(1, 0);
  lanes.place(0, 100, 800, 9000); // gone at 9000
  // 800 wide at (800+800)/8000 = 0.2 px/ms: its head needs 4000 ms to the left edge.
  assert.equal(lanes.place(4999, 800, 800, 8000), null, 'it would touch the one before it');
  assert.notEqual(lanes.place(5000, 800, 800, 8000), null, 'it arrives when the other has just left');
});

test('without lanes nothing is placed', () => {
  assert.equal(new Lanes(0).place(0, 10, 100, 1000), null);
  assert.equal(new Lanes(0).stand(0, 1000), null);
});

test('lanes that stay remember what flies in them when the stage changes its size', () => {
  const lanes = new Lanes(1);
  lanes.place(0, 100, 800, 9000);
  lanes.resize(2);
  assert.notEqual(lanes.place(0, 100, 800, 9000), null, 'the new lane is free');
  assert.equal(lanes.place(0, 100, 800, 9000), null, 'the old one is not');
  lanes.resize(1);
  assert.equal(lanes.place(10, 100, 800, 9000), null, 'and stays busy');
});

test('no two bullets of a lane ever come nearer than the gap, whatever the widths, speeds and sizes', () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = chance(seed);
    const gap = 24;
    const lanes = new Lanes(1 + Math.floor(random() * 12), gap);
    let stage = 300 + random() * 1200;
    const flown = [];
    let now = 0;
    for (let i = 0; i < 400; i++) {
      now += random() * 60;
      if (random() < 0.01) stage = 300 + random() * 1200;
      const width = 20 + random() ** 3 * 900;
      const place = lanes.place(now, width, stage, 4000 + random() * 6000);
      if (place) flown.push({ ...place, x: stage, width, at: now });
    }
    assert.ok(flown.length > lanes.lanes.length, `seed ${seed}: bullets flew`);
    const gone = (b) => b.at + (b.x + b.width) / b.speed;
    const left = (b, t) => b.x - b.speed * (t - b.at);
    for (let lane = 0; lane < lanes.lanes.length; lane++) {
      const own = flown.filter((b) => b.lane === lane);
      for (let i = 1; i < own.length; i++) {
        for (let j = Math.max(0, i - 4); j < i; j++) {
          // Both move linearly: the distance is least at one end of the time that both are on the stage.
          for (const t of [own[i].at, gone(own[j])]) {
            if (t < own[i].at || t > gone(own[j])) continue;
            const distance = left(own[i], t) - (left(own[j], t) + own[j].width);
            assert.ok(distance >= gap - 1e-6, `seed ${seed}, lane ${lane}: ${distance} px between bullets at ${t} ms`);
          }
        }
      }
    }
  }
});

test('standing bullets keep their lane for their whole time', () => {
  const lanes = new Lanes(1);
  assert.deepEqual(lanes.stand(0, 4000), { lane: 0, speed: 0 });
  assert.equal(lanes.stand(3999, 4000), null);
  assert.notEqual(lanes.stand(4000, 4000), null);
});

test('a quiet stage uses all its lanes in turn', () => {
  const lanes = new Lanes(8);
  const used = Array.from({ length: 8 }, (_, i) => lanes.place(i * 2500, 100, 800, 2000).lane);
  assert.equal(new Set(used).size, 8);
});

test('a full queue drops the oldest and counts it', () => {
  const waiting = new Waiting(3, 1000);
  for (let i = 1; i <= 5; i++) waiting.add(0, i);
  assert.equal(waiting.dropped, 2);
  const taken = [];
  waiting.drain(10, (v) => taken.push(v));
  assert.deepEqual(taken, [3, 4, 5]);
  assert.equal(waiting.length, 0);
});

test('own messages go first and push out the newest of a full queue', () => {
  const waiting = new Waiting(2, 1000);
  waiting.add(0, 'a');
  waiting.add(0, 'b');
  waiting.add(0, 'own', true);
  assert.deepEqual(waiting.items.map((i) => i.value), ['own', 'a']);
  assert.equal(waiting.dropped, 1);
});

test('what waited too long is dropped and counted; what finds no lane stays in order', () => {
  const waiting = new Waiting(10, 1000);
  waiting.add(0, 'stale');
  waiting.add(900, 'wide');
  waiting.add(950, 'narrow');
  const taken = [];
  waiting.drain(1500, (v) => v === 'narrow' && taken.push(v));
  assert.deepEqual(taken, ['narrow']);
  assert.deepEqual(waiting.items.map((i) => i.value), ['wide']);
  assert.equal(waiting.dropped, 1);
});
