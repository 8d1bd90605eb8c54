// Never run: the compiler reads it, to see that the published types say what the client does.

import { Barrage, BarrageError, backoff, mayReconnect, newId } from 'barrage-client';
import type { Events, Message, Options, Page, Phase, Presence } from 'barrage-client';

const options: Options = { last: 50, token: async () => 'a.b.c', members: true };
const room = new Barrage(['wss://a.example', 'wss://b.example'], 'lobby', options);
const off: () => void = room.on('message', (m) => {
  const offset: number | undefined = m.offset;
  const tags: Record<string, string> | undefined = m.tags;
  return [offset, tags];
});
room.on('messages', (list) => list.map((m: Message) => m.data));
room.on('state', ({ phase, at }) => [phase satisfies Phase, at?.toFixed()]);
room.on('join', (member) => member.client.length);
room.on('error', (error) => error instanceof BarrageError && error.retry);
// @ts-expect-error there is no such event
room.on('mesage', () => {});
// @ts-expect-error a number is no token
new Barrage('wss://a.example', 'lobby', { token: 7 });
// @ts-expect-error the phase is told, not set
room.phase = 'live';

const offset: number = await room.connect().publish({ any: ['json'] }, { id: newId() });
const page: Page = await room.history({ before: offset, limit: 10 });
for await (const { messages, more } of room.pages({ since: 0 })) console.log(messages.length, more);
const who: Presence = await room.presence();
const position: { offset: number; epoch: string } | null = room.position;
const pause: number = backoff(1, Math.random);
console.log(page, who.members[0]?.user, position, pause, mayReconnect(3001), (await room.info()).users);
off();
room.close();
export type Welcome = Events['welcome'];
