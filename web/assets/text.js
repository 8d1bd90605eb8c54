// Pure helpers: what a message says, what a name looks like, which names the server accepts.

const MAX_CHANNEL_BYTES = 255;
const MAX_NAME_BYTES = 255;
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;
const bytes = (s) => new TextEncoder().encode(s).length;
const wellFormed = (s) => !/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(s);

// textOf turns any JSON value into the text to show: a string is itself, an object with a text is that text,
// anything else its JSON.
export function textOf(data) {
  if (typeof data === 'string') return data;
  if (data !== null && typeof data === 'object' && typeof data.text === 'string') return data.text;
  return JSON.stringify(data) ?? '';
}

// hueOf gives a name its colour: the same on every screen, 0 to 359 degrees (FNV-1a over UTF-16 units, then mixed so
// that names that differ in the last letter are far apart).
export function hueOf(name) {
  let h = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  h ^= h >>> 13;
  return (h >>> 0) % 360;
}

// channelProblem says why the server would refuse a channel: 'empty', 'long', 'control', 'dots', or null.
// A browser cannot ask for the paths "." and "..": it resolves them first.
export function channelProblem(name) {
  if (name === '') return 'empty';
  if (name === '.' || name === '..') return 'dots';
  if (!wellFormed(name) || CONTROL.test(name)) return 'control';
  return bytes(name) > MAX_CHANNEL_BYTES ? 'long' : null;
}

// cleanName makes a display name that the server accepts out of anything typed.
export function cleanName(typed) {
  let name = '';
  for (const c of typed.trim().replace(/\s+/g, ' ')) {
    if (CONTROL.test(c) || !wellFormed(c)) continue;
    if (bytes(name + c) > MAX_NAME_BYTES) break;
    name += c;
  }
  return name;
}

// shorten cuts a text for the stage to one line of at most max characters, never inside a surrogate pair.
export function shorten(text, max) {
  const line = text.replace(/\s+/g, ' ').trim();
  const chars = Array.from(line.slice(0, max * 2 + 2));
  return chars.length <= max ? line : chars.slice(0, max - 1).join('') + '…';
}
