import assert from 'node:assert/strict';
import { test } from 'node:test';
import { channelProblem, cleanName, hueOf, shorten, textOf } from '../assets/text.js';
import { pickLanguage, texts } from '../assets/i18n.js';

test('any JSON becomes a text', () => {
  for (const [data, want] of [
    ['hello', 'hello'], ['', ''], [{ text: 'inside' }, 'inside'], [{ text: 5 }, '{"text":5}'], [[1, 2], '[1,2]'],
    [7, '7'], [null, 'null'], [true, 'true'], [undefined, ''],
  ]) assert.equal(textOf(data), want);
});

test('a name has one colour everywhere', () => {
  assert.equal(hueOf('ann'), hueOf('ann'));
  assert.notEqual(hueOf('user1'), hueOf('user2'));
  for (const name of ['', 'a', '小雨', '😂']) assert.ok(hueOf(name) >= 0 && hueOf(name) < 360);
});

test('channels that the server refuses are named before asking', () => {
  assert.equal(channelProblem('lobby'), null);
  assert.equal(channelProblem('房间/a b#?%'), null);
  assert.equal(channelProblem(''), 'empty');
  assert.equal(channelProblem('..'), 'dots');
  assert.equal(channelProblem('a\u0007'), 'control');
  assert.equal(channelProblem('\ud800'), 'control');
  assert.equal(channelProblem('x'.repeat(255)), null);
  assert.equal(channelProblem('房'.repeat(86)), 'long');
});

test('a name is cleaned, not refused', () => {
  assert.equal(cleanName('  Ada \n Lovelace '), 'Ada Lovelace');
  assert.equal(cleanName('a\u0000b\u0085'), 'ab');
  assert.equal(cleanName('\ud800x'), 'x');
  assert.equal(new TextEncoder().encode(cleanName('😀'.repeat(100))).length, 252);
});

test('long texts are cut for the stage, never inside a character', () => {
  assert.equal(shorten('short', 10), 'short');
  assert.equal(shorten('a\n\n b', 10), 'a b');
  assert.equal(shorten('😀'.repeat(20), 5), '😀😀😀😀…');
});

test('the language is the chosen one, else the first the browser prefers that there is', () => {
  assert.equal(pickLanguage('zh', ['en']), 'zh');
  assert.equal(pickLanguage(null, ['fr-FR', 'zh-TW', 'en']), 'zh');
  assert.equal(pickLanguage('xx', ['fr']), 'en');
});

test('both languages have the same texts', () => {
  assert.deepEqual(Object.keys(texts.zh).sort(), Object.keys(texts.en).sort());
  for (const key of Object.keys(texts.en)) assert.equal(typeof texts.zh[key], typeof texts.en[key], key);
});
