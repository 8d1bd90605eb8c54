// lost.mjs BEFORE AFTER CHANNEL follows a channel on the first node, which then ends, and goes on with the second, whose journal knows
// nothing of it. It writes "seen" when it has seen its own three messages, and in the end what it heard as JSON.

import WebSocket from 'ws';
import { Barrage } from 'barrage-client';

const [before, after, channel] = process.argv.slice(2);
const client = new Barrage([before, after], channel, { WebSocket });
const heard = [];
const large = [];
client.on('message', ({ offset }) => heard.push(`message ${offset}`));
client.on('reset', ({ offset }) => heard.push(`reset ${offset}`));
const joined = () => new Promise((done) => client.on('welcome', done));
// publish waits until the message came back, too.
const publish = (data) => Promise.all([new Promise((done) => client.on('message', (m) => m.data === data && done())), client.publish(data)]);
// refused notes how a publish of a megabyte ends.
const refused = () => client.publish('x'.repeat(1 << 20)).catch((error) => large.push(error.code));

let welcome = joined();
client.connect();
const { epoch, max_payload: limit } = await welcome;
await refused();
for (let i = 0; i < 3; i++) await publish(i);
welcome = joined();
console.log('seen');
const next = await welcome;
heard.push('welcome');
await publish('new');
await refused();
client.close();
console.log(JSON.stringify({ heard, large, limit, renewed: next.epoch !== epoch }));
