// One user of the client in clients/js who joins a channel and asks for joins and leaves. Events go to standard output, one JSON
// array a line; a line of standard input, {"token": …} or {"do": "presence"} or {"do": "publish", "data": …}, is what it is to do.
//
//   node person.mjs URL CHANNEL

import { createInterface } from 'node:readline';
import WebSocket from 'ws';
import { Barrage } from '../../clients/js/barrage.js';

const [url, channel] = process.argv.slice(2);
const tell = (...line) => process.stdout.write(JSON.stringify(line) + '\n');
let give = null;

const client = new Barrage(url, channel, {
  WebSocket,
  members: true,
  token: () => new Promise((done) => { give = done; tell('token'); }),
});
client.on('welcome', (w) => tell('welcome', w.user));
client.on('message', (m) => tell('message', JSON.stringify(m.data)));
client.on('join', (m) => tell('join', m.user));
client.on('leave', (m) => tell('leave', m.user));
client.on('state', (s) => tell('state', `${s.phase} ${s.code ?? ''}`));
client.on('error', (e) => tell('error', `${e.code}`));
client.connect();

const input = createInterface({ input: process.stdin });
input.on('line', (line) => {
  const order = JSON.parse(line);
  if (order.token) give(order.token);
  if (order.do === 'publish') client.publish(order.data).then((offset) => tell('published', `${offset}`), (e) => tell('refused', `${e.code}`));
  if (order.do === 'presence') client.presence().then((p) => tell('presence', p.members.map((m) => m.user).sort().join(' ')), (e) => tell('refused', `${e.code}`));
});
input.on('close', () => client.close());
