import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, readAddress } from '../assets/address.js';

const read = (address) => readAddress(new URL(address, 'http://localhost'));

test('the address names the channel and holds the token', () => {
  assert.deepEqual(read('/'), { channel: 'lobby', problem: null, token: undefined });
  assert.deepEqual(read('/?channel='), { channel: 'lobby', problem: null, token: undefined });
  assert.deepEqual(read('/?channel=%E6%88%BF#token=a.b-c_d'), { channel: '房', problem: null, token: 'a.b-c_d' });
  assert.equal(read('/#x=1&token=t').token, 't');
  assert.equal(read('/#token=%20t%0A').token, 't');
  for (const none of ['/#', '/#token', '/#token=', '/#token=%20', '/?token=t']) assert.equal(read(none).token, undefined, none);
});

test('a name that is not valid stays itself: it never becomes the lobby', () => {
  const long = 'x'.repeat(300);
  assert.deepEqual(read(`/?channel=${long}`), { channel: long, problem: 'long', token: undefined });
  assert.equal(read('/?channel=..').problem, 'dots');
  assert.equal(read('/?channel=a%0Ab').problem, 'control');
});

test('a channel has an address that keeps the token', () => {
  for (const address of ['/#token=t', '/?channel=b%2F%C3%A4%3F#token=t', '/', '/?channel=a']) {
    const { channel } = read(address);
    assert.equal(addressOf(channel, new URL(address, 'http://localhost')), address);
  }
});
