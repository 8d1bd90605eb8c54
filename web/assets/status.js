// The line under the stage: connection state, viewers, node, what did not fly; and the hint on an empty stage.

import { t, language } from './i18n.js';

const INFO_EVERY = 15_000; // milliseconds between questions for the number of viewers, plus up to a third of chance
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

  // askInfo() fetches {members, nodes}; isEmpty() says whether the room has nothing to show.
  constructor({ askInfo, isEmpty }) {
    this.askInfo = askInfo;
    this.isEmpty = isEmpty;
    for (const event of ['online', 'offline']) addEventListener(event, () => this.render());
    document.addEventListener('visibilitychange', () => this.#plan(0));
  }

  // state takes a new state of the connection.
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
    const offline = !navigator.onLine && phase !== 'live';
    const text = offline ? t('offline') : phase === 'waiting' ? t('waiting', Math.ceil((at - Date.now()) / 1000)) : t(phase);
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
    this.#announce(offline ? 'offline' : phase, text, reason);
  }

  // hint says something on a stage on which nothing flies: the room is empty, or not reached.
  #hint(phase) {
    const lost = phase === 'waiting' || phase === 'ended';
    if (phase === 'live') this.#empty = this.isEmpty();
    $('hint').hidden = !lost && !(phase === 'live' && this.#empty);
    set($('hint-title'), t(lost ? 'offlineTitle' : 'empty'));
    set($('hint-text'), t(lost ? 'offlineHint' : 'emptyHint'));
    if (phase === 'ended') {
      set($('hint-title'), t('ended'));
      set($('hint-text'), this.#state.reason || '');
    }
  }

  // announce tells a screen reader of changes of the phase only, not of every second.
  #announce(phase, text, reason) {
    if (phase === this.#announced || phase === 'connecting') return;
    this.#announced = phase;
    $('announce').textContent = phase === 'waiting' ? t('offlineTitle') : phase === 'ended' && reason ? `${text}: ${reason}` : text;
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
