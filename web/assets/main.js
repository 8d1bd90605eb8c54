// The live room: puts the parts together. The channel and the token are in the address (address.js); when it changes, the
// page follows.

import { addressOf, readAddress } from './address.js';
import { Chat } from './chat.js';
import { Composer } from './composer.js';
import { Barrage, newId } from './barrage.js';
import { Feed, LAST } from './feed.js';
import { Stage } from './stage.js';
import { Status } from './status.js';
import { language, pickLanguage, setLanguage, t } from './i18n.js';
import { load, loadClients, save, saveClients } from './settings.js';
import { channelProblem, cleanName, hueOf, shorten, textOf } from './text.js';

const $ = (id) => document.getElementById(id);

const clients = new Set(loadClients()); // connections of this tab, by which own messages are known
let room = null; // the client of the open channel; null while the address names none that could be opened
let here = {}; // what the address said when it was opened

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
const status = new Status({ askInfo: () => room.info(), isEmpty: () => chat.isEmpty, hasToken: () => here.token !== undefined });
const composer = new Composer(
  { form: $('composer'), name: $('name'), text: $('text'), swatch: $('swatch'), problem: $('problem') },
  { onSend: send, onName: rename },
);

// mark notes whether a message was written here.
function mark(message) {
  message.own = message.client !== undefined && clients.has(message.client);
}

function send(text) {
  if (!room || chat.full) return false;
  const entry = { id: newId(), data: text, failed: null };
  chat.pend(entry, composer.shownName);
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
  if (!room || name === room.name) return;
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
  composer.identify(welcome.user ?? '');
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

// openChannel opens what the address names, anew.
function openChannel() {
  const before = here;
  here = readAddress(location);
  room?.close();
  room = null;
  stage.clear();
  chat.clear({ keepPending: here.channel === before.channel });
  composer.problem('');
  composer.enable(!here.problem);
  if (!here.token) composer.identify('');
  status.room();
  title();
  if (here.problem) {
    status.state({ phase: 'invalid', problem: PROBLEMS[here.problem] });
    return;
  }
  room = new Barrage(location.origin, here.channel, { name: composer.name, last: LAST, token: here.token });
  room.on('welcome', welcomed);
  room.on('error', (error) => composer.problem(error.message));
  room.on('state', changed);
  new Feed(room, shown);
  room.connect();
}

function changed(state) {
  if (state.phase === 'closed') return; // by the page itself, which says more
  status.state(state);
}

// follow opens what the address names now, when that is something else.
function follow() {
  pointHome();
  const { channel, token } = readAddress(location);
  if (channel !== here.channel || token !== here.token) openChannel();
}

// pointHome lets the ways to the lobby keep the token.
function pointHome() {
  for (const id of ['home', 'hint-lobby']) $(id).href = `/${location.hash}`;
}

function title() {
  const name = shorten(here.channel, 80);
  $('channel-name').textContent = name;
  document.title = t('title', name);
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
    $('switch-name').value = here.channel;
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
    if (channel === here.channel) return;
    history.pushState(null, '', addressOf(channel, location));
    openChannel();
  });
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
$('reconnect').addEventListener('click', () => room?.connect());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paintFrame);
for (const event of ['popstate', 'hashchange']) addEventListener(event, follow);
addEventListener('pagehide', (event) => event.persisted || room?.close());
addEventListener('pageshow', (event) => event.persisted && room?.connect());
paintFrame();
pointHome();
openChannel();
