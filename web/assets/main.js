// The live room: puts the parts together. The channel is in the address, ?channel=…; without it, the lobby.

import { Chat } from './chat.js';
import { Composer } from './composer.js';
import { Barrage, newId } from './barrage.js';
import { Feed, LAST } from './feed.js';
import { Stage } from './stage.js';
import { Status } from './status.js';
import { language, pickLanguage, setLanguage, t } from './i18n.js';
import { load, loadClients, save, saveClients } from './settings.js';
import { channelProblem, cleanName, hueOf, textOf } from './text.js';

const DEFAULT_CHANNEL = 'lobby';
const $ = (id) => document.getElementById(id);

const clients = new Set(loadClients()); // connections of this tab, by which own messages are known
let room = null;

setLanguage(pickLanguage(load('language'), navigator.languages));

const stage = new Stage($('stage'), $('bullets'), { onDrops: (n) => status.dropped(n) });
const chat = new Chat(
  { scroller: $('scroller'), list: $('rows'), pending: $('pending'), top: $('top'), jump: $('jump') },
  {
    history: (range) => room.history(range),
    onRetry: post,
  },
);
chat.mark = mark;
const status = new Status({ askInfo: () => room.info(), isEmpty: () => chat.isEmpty });
const composer = new Composer(
  { form: $('composer'), name: $('name'), text: $('text'), swatch: $('swatch'), problem: $('problem') },
  { onSend: send, onName: rename },
);

// mark notes whether a message was written here.
function mark(message) {
  message.own = message.client !== undefined && clients.has(message.client);
}

function send(text) {
  if (chat.full) return false;
  const entry = { id: newId(), data: text, failed: null };
  chat.pend(entry, room.name);
  post(entry);
  return true;
}

// post publishes an entry, for the first time or again: under its id it is stored once.
function post(entry) {
  entry.failed = null;
  room.publish(entry.data, { id: entry.id }).then(
    (offset) => chat.acked(entry.id, offset),
    (error) => {
      entry.failed = error;
      chat.refused(entry);
    },
  );
}

function rename(name) {
  save('name', name);
  if (name === room.name) return;
  room.name = name;
  if (room.phase === 'live' || room.phase === 'connecting') room.connect();
}

function guestName() {
  return `${t('guest')}-${newId().slice(0, 4)}`;
}

function welcomed(welcome) {
  clients.delete(welcome.client);
  clients.add(welcome.client);
  saveClients([...clients]);
  status.node(welcome.node ?? '');
}

const shown = {
  onMessages(messages) {
    for (const m of messages) {
      mark(m);
      if (m.fresh) stage.add(textOf(m.data), { own: m.own, hue: hueOf(m.user ?? '') });
    }
    chat.add(messages);
    status.filled();
  },
  onReset(messages) {
    messages.forEach(mark);
    chat.reset(messages);
    status.render();
  },
};

// The channel

function channelFromAddress() {
  const channel = new URLSearchParams(location.search).get('channel') ?? '';
  return channelProblem(channel) === null ? channel : DEFAULT_CHANNEL;
}

// tokenFromAddress is what stands behind #token=: a fragment is sent to no server, and so is in no log.
function tokenFromAddress() {
  return new URLSearchParams(location.hash.slice(1)).get('token') ?? undefined;
}

function openChannel() {
  const channel = channelFromAddress();
  room?.close();
  stage.clear();
  chat.clear();
  status.room();
  room = new Barrage(location.origin, channel, { name: composer.name, last: LAST, token: tokenFromAddress() });
  room.on('welcome', welcomed);
  room.on('error', (error) => composer.problem(error.message));
  room.on('state', (state) => status.state(state));
  new Feed(room, shown);
  title();
  room.connect();
}

function title() {
  $('channel-name').textContent = room.channel;
  document.title = t('title', room.channel);
}

const PROBLEMS = { empty: 'channelEmpty', long: 'channelLong', control: 'channelControl', dots: 'channelDots' };

function wireChannelDialog() {
  const dialog = $('switch-channel');
  const problem = (text) => {
    $('switch-problem').textContent = text;
    $('switch-problem').hidden = text === '';
  };
  $('channel').addEventListener('click', () => {
    problem('');
    $('switch-name').value = room.channel;
    dialog.showModal();
    $('switch-name').select();
  });
  $('switch-cancel').addEventListener('click', () => dialog.close());
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  $('switch-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const channel = $('switch-name').value.trim();
    const wrong = channelProblem(channel);
    if (wrong) {
      problem(t(PROBLEMS[wrong]));
      return;
    }
    dialog.close();
    if (channel === room.channel) return;
    history.pushState(null, '', (channel === DEFAULT_CHANNEL ? '/' : `/?channel=${encodeURIComponent(channel)}`) + location.hash);
    openChannel();
  });
  addEventListener('popstate', () => channelFromAddress() !== room.channel && openChannel());
}

// Theme, language, switches

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  save('theme', root.dataset.theme);
  paintFrame();
}

// paintFrame gives the browser's own bars the colour of the page.
function paintFrame() {
  const colour = getComputedStyle(document.body).backgroundColor;
  for (const meta of document.querySelectorAll('meta[name="theme-color"]')) meta.content = colour;
}

function toggleLanguage() {
  setLanguage(language() === 'zh' ? 'en' : 'zh');
  save('language', language());
  chat.relabel();
  status.render();
  title();
}

function toggleDanmaku() {
  const on = $('danmaku').getAttribute('aria-checked') !== 'true';
  setDanmaku(on);
  save('danmaku', on ? 'on' : 'off');
}

function setDanmaku(on) {
  $('danmaku').setAttribute('aria-checked', String(on));
  stage.enable(on);
}

composer.name = cleanName(load('name') ?? '') || guestName();
save('name', composer.name);
setDanmaku(load('danmaku') !== 'off');
wireChannelDialog();
$('theme').addEventListener('click', toggleTheme);
$('language').addEventListener('click', toggleLanguage);
$('danmaku').addEventListener('click', toggleDanmaku);
$('reconnect').addEventListener('click', () => room.connect());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paintFrame);
addEventListener('pagehide', (event) => event.persisted || room.close());
addEventListener('pageshow', (event) => event.persisted && room.connect());
paintFrame();
openChannel();
