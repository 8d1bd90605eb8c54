// What the address of the page says: ?channel=… is the channel (without it, the lobby), #token=… is who one is. A fragment
// is sent to no server, and so is in no log.

import { channelProblem } from './text.js';

export const DEFAULT_CHANNEL = 'lobby';

// readAddress returns {channel, problem, token}: problem says why the server would refuse the channel, or is null; token
// is undefined when there is none.
export function readAddress({ search, hash }) {
  const channel = new URLSearchParams(search).get('channel') || DEFAULT_CHANNEL;
  const token = new URLSearchParams(hash.slice(1)).get('token')?.trim() || undefined;
  return { channel, problem: channelProblem(channel), token };
}

// addressOf is the address of a channel, under the same fragment.
export function addressOf(channel, { hash }) {
  return (channel === DEFAULT_CHANNEL ? '/' : `/?channel=${encodeURIComponent(channel)}`) + hash;
}
