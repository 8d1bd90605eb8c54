// The line under the stage: connection state, viewers, node, what did not fly; and the hint on an empty stage.

import { t, language } from './i18n.js';

const INFO_EVERY = 15_000; // milliseconds between questions for the number of viewers, plus up to a third of chance
const CLOSED = { 3005: 'tokenExpired', 3500: 'tokenInvalid', 3503: 'forced', 3504: 'connections', 3507: 'denied' };
const $ = (id) => document.getElementById(id);

export class Status {
  #state = { phase: 'connecting' };
  #node = '';
  #members = null;
  #dropped = 0;
  #tick = 0;
  #infoTimer = 0;
  #announced = '';
  #empty = false;

  // askInfo() fetches {members, nodes}; isEmpty() says whether the room has nothing to show; hasToken() whether the page
  // was given one.
  constructor({ askInfo, isEmpty, hasToken }) {
    this.askInfo = askInfo;
    this.isEmpty = isEmpty;
    this.hasToken = hasToken;
    for (const event of ['online', 'offline']) addEventListener(event, () => this.render());
    document.addEventListener('visibilitychange', () => this.#plan(0));
  }

  // state takes a new state of the connection, or {phase: 'invalid', problem}: the channel cannot be opened at all.
  state(state) {
    this.#state = state;
    clearInterval(this.#tick);
    if (state.phase === 'waiting') this.#tick = setInterval(() => this.render(), 250);
    if (state.phase === 'live') this.#plan(300);
    else clearTimeout(this.#infoTimer);
    this.render();
  }

  node(name) {
    this.#node = name;
    this.render();
  }

  dropped(total) {
    this.#dropped = total;
    this.render();
  }

  // room forgets what was known of the last channel.
  room() {
    this.#members = null;
    this.#node = '';
    this.render();
  }

  // filled takes the hint of an empty room away.
  filled() {
    if (this.#empty) this.render();
  }

  render() {
    const { phase, at, reason } = this.#state;
    const offline = !navigator.onLine && phase !== 'live' && phase !== 'invalid';
    const text = offline ? t('offline') : phase === 'waiting' ? t('waiting', Math.ceil((at - Date.now()) / 1000)) : t(phase === 'invalid' ? 'ended' : phase);
    $('status').dataset.phase = offline ? 'offline' : phase;
    set($('status-text'), text);
    $('status').title = reason || '';
    const button = $('reconnect');
    button.hidden = phase !== 'ended' && phase !== 'waiting';
    set(button, t(phase === 'ended' ? 'reconnect' : 'reconnectNow'));
    const known = this.#members !== null && phase === 'live';
    $('viewers').hidden = !known;
    if (known) set($('viewers-text'), t('viewers', number(this.#members)));
    $('node').hidden = !this.#node || phase !== 'live';
    set($('node'), t('node', this.#node));
    $('dropped').hidden = this.#dropped === 0;
    set($('dropped'), t('dropped', number(this.#dropped)));
    if ($('dropped').title !== t('droppedHint')) $('dropped').title = t('droppedHint');
    this.#hint(phase);
    this.#announce(offline ? 'offline' : phase, text);
  }

  // hint says something on a stage on which nothing flies: the room is empty, or not reached.
  #hint(phase) {
    if (phase === 'live') this.#empty = this.isEmpty();
    const [title, text, said = ''] = this.#hintTexts(phase);
    $('hint').hidden = !title;
    set($('hint-title'), title ?? '');
    set($('hint-text'), text ?? '');
    set($('hint-said'), said);
    $('hint-lobby').hidden = phase !== 'invalid';
  }

  // hintTexts are what is the matter, what can be done, and what the server said, in its own words.
  #hintTexts(phase) {
    const { problem, reason } = this.#state;
    switch (phase) {
      case 'live':
        return this.#empty ? [t('empty'), t('emptyHint')] : [];
      case 'waiting':
        return [t('offlineTitle'), t('offlineHint')];
      case 'invalid':
        return [t('invalid'), t(problem)];
      case 'ended': {
        const key = this.#whyEnded();
        return key ? [t(key), t(`${key}Hint`), reason] : [t('ended'), '', reason];
      }
    }
    return [];
  }

  // whyEnded is the key of the text that explains the end, if there is one.
  #whyEnded() {
    const { code } = this.#state;
    if (code === 3500 && !this.hasToken()) return 'tokenMissing';
    if (code === 1006 && this.hasToken()) return 'tokenInvalid'; // no socket takes it, so no server saw it
    return CLOSED[code];
  }

  // announce tells a screen reader of changes of the phase only, not of every second.
  #announce(phase, text) {
    if (phase === this.#announced || phase === 'connecting') return;
    this.#announced = phase;
    const told = phase === 'ended' || phase === 'invalid' ? [text, ...this.#hintTexts(phase)] : [phase === 'waiting' ? t('offlineTitle') : text];
    $('announce').textContent = told.filter(Boolean).join('. ');
  }

  #plan(wait) {
    clearTimeout(this.#infoTimer);
    if (document.hidden || this.#state.phase !== 'live') return;
    this.#infoTimer = setTimeout(async () => {
      try {
        const { members } = await this.askInfo();
        this.#members = Number.isFinite(members) ? members : null;
      } catch {
        // Not known now; the next question may be answered.
      }
      this.render();
      this.#plan(INFO_EVERY + Math.random() * (INFO_EVERY / 3));
    }, wait);
  }
}

const formats = new Map(); // made once per language: making one is slow

function number(n) {
  if (!formats.has(language())) formats.set(language(), new Intl.NumberFormat(language()));
  return formats.get(language()).format(n);
}

// set writes a text only when it changed: the line is rendered often.
function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
