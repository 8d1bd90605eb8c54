// The name field and the input. Enter sends, except while an input method composes: there it chooses a word.

import { setLabel, t } from './i18n.js';
import { cleanName, hueOf } from './text.js';

const MAX_TEXT_BYTES = 16_000; // far below the server's 64 KiB, with room for JSON escapes

export class Composer {
  #form;
  #name;
  #text;
  #swatch;
  #problem;
  #composing = false;
  #own = ''; // the name that was typed, while another one is shown
  #user = ''; // who the server says one is

  // onSend(text) says whether the text was taken; onName(name) is told when the name changed.
  constructor({ form, name, text, swatch, problem }, { onSend, onName }) {
    this.#form = form;
    this.#name = name;
    this.#text = text;
    this.#swatch = swatch;
    this.#problem = problem;
    this.onSend = onSend;
    this.onName = onName;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (!this.#composing) this.#send();
    });
    text.addEventListener('compositionstart', () => (this.#composing = true));
    text.addEventListener('compositionend', () => (this.#composing = false));
    text.addEventListener('input', () => this.problem(''));
    text.addEventListener('keydown', (event) => this.#key(event));
    name.addEventListener('change', () => this.#renamed());
    name.addEventListener('input', () => this.#paint());
    name.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || composes(event)) return;
      event.preventDefault();
      this.#text.focus();
    });
  }

  // name is what was chosen here; shownName is what messages go out under.
  get name() {
    return this.#user ? this.#own : cleanName(this.#name.value);
  }

  set name(name) {
    this.#name.value = name;
    this.#paint();
  }

  get shownName() {
    return this.#user || this.name;
  }

  // identify shows the user that the server knows, in place of the chosen name, which is not used then; with '' the
  // name can be chosen again.
  identify(user) {
    if (user === this.#user) return;
    if (!this.#user) this.#own = this.name;
    this.#user = user;
    this.#name.readOnly = user !== '';
    setLabel(this.#name, user ? 'user' : 'name');
    this.#name.value = user || this.#own;
    this.#paint();
  }

  // enable lets one write, or not: where no channel is open.
  enable(on) {
    for (const e of this.#form.querySelectorAll('.say > *')) e.disabled = !on;
  }

  // problem shows what is wrong, or with '' nothing.
  problem(text) {
    this.#problem.textContent = text;
    this.#problem.hidden = text === '';
  }

  #key(event) {
    if (event.key !== 'Enter' || event.shiftKey) return;
    if (composes(event)) return; // the input method takes this Enter
    event.preventDefault();
    if (!event.repeat) this.#send();
  }

  #send() {
    const text = this.#text.value.trim();
    if (text === '') return;
    if (new TextEncoder().encode(text).length > MAX_TEXT_BYTES) {
      this.problem(t('tooLong'));
      return;
    }
    if (!this.onSend(text)) {
      this.problem(t('full'));
      return;
    }
    this.problem('');
    this.#text.value = '';
    this.#text.focus({ preventScroll: true });
  }

  #renamed() {
    this.#name.value = this.name;
    this.#paint();
    this.onName(this.name);
  }

  #paint() {
    this.#swatch.style.setProperty('--hue', hueOf(this.shownName));
  }
}

// composes says whether a key belongs to an input method. Safari ends the composition before it reports the key that
// ended it; that key has code 229.
function composes(event) {
  return event.isComposing || event.keyCode === 229;
}
