// Clients of the published JavaScript SDK that subscribe to one channel, and write what happens to them to standard output, one JSON
// array a line: [client, "message", offset, data] or [client, event, code]. They end with standard input.
//
//   node crowd.mjs URL CHANNEL CLIENTS [json|protobuf|sse|http_stream|http_stream_protobuf]
//
// URL is http://…; the last argument says by which transport, json and protobuf being over WebSocket.

import { createInterface } from 'node:readline';
import { Centrifuge as JSONCentrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';

const [url, channel, count, format] = process.argv.slice(2);
const protobuf = format.endsWith('protobuf');
const emulated = { sse: 'sse', http_stream: 'http_stream', http_stream_protobuf: 'http_stream' }[format];
const endpoint = emulated
  ? [{ transport: emulated, endpoint: `${url}/connection/${emulated}` }]
  : `${url.replace(/^http/, 'ws')}/connection/websocket`;
const Centrifuge = protobuf ? ProtobufCentrifuge : JSONCentrifuge;
const tell = (...line) => process.stdout.write(JSON.stringify(line) + '\n');
const clients = [];

for (let i = 0; i < Number(count); i++) {
  const client = new Centrifuge(endpoint, {
    websocket: WebSocket,
    eventsource: EventSource,
    emulationEndpoint: `${url}/emulation`,
    minReconnectDelay: 100,
    maxReconnectDelay: 2000,
    ...(protobuf ? { protocol: 'protobuf' } : {}),
  });
  const decode = (data) => (protobuf ? JSON.parse(new TextDecoder().decode(data)) : data);
  client.on('connecting', (c) => tell(i, 'connecting', c.code));
  client.on('disconnected', (c) => tell(i, 'disconnected', c.code));
  client.on('error', (c) => tell(i, 'error', c.error.code));
  const sub = client.newSubscription(channel);
  sub.on('publication', (p) => tell(i, 'message', p.offset, decode(p.data)));
  sub.on('subscribed', (c) => tell(i, c.wasRecovering && !c.recovered ? 'unrecovered' : 'subscribed', c.streamPosition?.offset ?? -1));
  sub.on('subscribing', (c) => tell(i, 'subscribing', c.code));
  sub.on('unsubscribed', (c) => tell(i, 'unsubscribed', c.code));
  sub.subscribe();
  client.connect();
  clients.push({ client, sub });
}

// Lines of standard input are messages, {"data": …}, that the first client publishes, one after the other; the answer is
// [0, "published", data] or [0, "refused", code, data].
let last = Promise.resolve();
const input = createInterface({ input: process.stdin });
input.on('line', (line) => {
  const data = JSON.parse(line).data;
  const wire = protobuf ? new TextEncoder().encode(JSON.stringify(data)) : data;
  last = last.then(() => clients[0].sub.publish(wire)).then(
    () => tell(0, 'published', data),
    (e) => tell(0, 'refused', e.code, data),
  );
});
input.on('close', () => {
  for (const c of clients) c.client.disconnect();
  last.then(() => process.exit(0));
});
