// The live room: puts the parts together. The channel is in the address, ?channel=…; without it, the lobby.

import { Chat } from './chat.js';
import { Composer } from './composer.js';
import { Connection } from './connection.js';
import { Stage } from './stage.js';
import { Status } from './status.js';
import { language, pickLanguage, setLanguage, t } from './i18n.js';
import { load, loadClients, save, saveClients } from './settings.js';
import { channelProblem, cleanName, hueOf, newId, textOf } from './text.js';

const DEFAULT_CHANNEL = 'lobby';
const $ = (id) => document.getElementById(id);
const base = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}`;

const clients = new Set(loadClients()); // connections of this tab, by which own messages are known
let connection = null;

setLanguage(pickLanguage(load('language'), navigator.languages));

const stage = new Stage($('stage'), $('bullets'), { onDrops: (n) => status.dropped(n) });
const chat = new Chat(
  { scroller: $('scroller'), list: $('rows'), pending: $('pending'), top: $('top'), jump: $('jump') },
  {
    history: (range) => connection.history(range),
    onRetry: (id) => connection.retry(id),
    onDismiss: (id) => connection.outbox.dismiss(id),
  },
);
chat.mark = mark;
const status = new Status({ askInfo: () => connection.info(), isEmpty: () => chat.isEmpty });
const composer = new Composer(
  { form: $('composer'), name: $('name'), text: $('text'), swatch: $('swatch'), problem: $('problem') },
  { onSend: send, onName: rename },
);

// mark notes whether a message was written here.
function mark(message) {
  message.own = message.client !== undefined && clients.has(message.client);
}

function send(text) {
  const entry = connection.publish(newId(), text);
  if (entry) chat.pend(entry, connection.name);
  return entry !== null;
}

function rename(name) {
  save('name', name);
  connection.rename(name);
}

function guestName() {
  return `${t('guest')}-${newId().slice(0, 4)}`;
}

const handlers = {
  onState: (state) => status.state(state),
  onWelcome(welcome) {
    clients.delete(welcome.client);
    clients.add(welcome.client);
    saveClients([...clients]);
    status.node(welcome.node ?? '');
  },
  onMessages(messages) {
    for (const m of messages) {
      mark(m);
      if (m.live) stage.add(textOf(m.data), { own: m.own, hue: hueOf(m.user ?? '') });
    }
    chat.add(messages);
    status.filled();
  },
  onReset(messages) {
    messages.forEach(mark);
    chat.reset(messages);
    status.render();
  },
  onAck: (entry, offset) => chat.acked(entry.id, offset),
  onRefused: (entry) => chat.refused(entry),
  onError: (error) => composer.problem(error.message),
};

// The channel

function channelFromAddress() {
  const channel = new URLSearchParams(location.search).get('channel') ?? '';
  return channelProblem(channel) === null ? channel : DEFAULT_CHANNEL;
}

function openChannel() {
  const channel = channelFromAddress();
  connection?.stop();
  stage.clear();
  chat.clear();
  status.room();
  connection = new Connection({ base, channel, name: composer.name, handlers });
  title();
  connection.open();
}

function title() {
  $('channel-name').textContent = connection.channel;
  document.title = t('title', connection.channel);
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
    $('switch-name').value = connection.channel;
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
    if (channel === connection.channel) return;
    history.pushState(null, '', channel === DEFAULT_CHANNEL ? '/' : `/?channel=${encodeURIComponent(channel)}`);
    openChannel();
  });
  addEventListener('popstate', () => channelFromAddress() !== connection.channel && openChannel());
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
$('reconnect').addEventListener('click', () => connection.open());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paintFrame);
addEventListener('online', () => connection.wake());
document.addEventListener('visibilitychange', () => document.hidden || connection.wake());
addEventListener('pagehide', (event) => event.persisted || connection.stop());
addEventListener('pageshow', (event) => event.persisted && connection.open());
paintFrame();
openChannel();
