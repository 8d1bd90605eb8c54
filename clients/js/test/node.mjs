// node.mjs URL CHANNEL COUNT plays the scenario in Node.js: it writes "half", then the outcome as JSON.

import WebSocket from 'ws';
import { Barrage } from 'barrage-client';
import { play } from './scenario.mjs';

const [url, channel, count] = process.argv.slice(2);
const outcome = await play(Barrage, url, channel, Number(count), () => console.log('half'), { WebSocket });
console.log(JSON.stringify(outcome));
