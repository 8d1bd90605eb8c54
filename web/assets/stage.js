// The stage: messages fly over it from right to left.
//
// Bullets are pooled elements moved by Web Animations: the compositor moves them, JavaScript only starts them. Their
// start is set on the document's timeline, the clock that the lanes reckon with, so what is drawn is what was reckoned.
// While the page is hidden, or the stage is switched off, nothing is kept and nothing runs.

import { Lanes, Waiting } from './lanes.js';
import { shorten } from './text.js';

const MAX_BULLETS = 160; // elements that exist at most
const MAX_CHARS = 80;
const STAND_MS = 4000;
const PUMP_MS = 50; // while some wait, lanes are looked at this often; frames between need no JavaScript

export class Stage {
  #element;
  #layer;
  #lanes = new Lanes(0);
  #waiting = new Waiting();
  #pool = [];
  #flying = new Map(); // element → animation
  #frame = 0;
  #timer = 0;
  #enabled = true;
  #reducedMotion;
  #measure = document.createElement('canvas').getContext('2d');
  #reportedDrops = 0;

  // element is the stage; layer, inside it, holds the bullets. onDrops(total) is told what never flew.
  constructor(element, layer, { onDrops }) {
    this.#element = element;
    this.#layer = layer;
    this.onDrops = onDrops;
    this.#reducedMotion = matchMedia('(prefers-reduced-motion: reduce)');
    this.#reducedMotion.addEventListener('change', () => this.clear());
    new ResizeObserver(() => this.#resize()).observe(element);
    document.addEventListener('visibilitychange', () => document.hidden && this.clear());
    this.#resize();
  }

  // enable switches the flying on or off.
  enable(on) {
    this.#enabled = on;
    if (!on) this.clear();
  }

  // add lets a text fly, or wait for a lane. Own messages go first.
  add(text, { own = false, hue = 0 } = {}) {
    if (!this.#enabled || document.hidden) return;
    const line = shorten(text, MAX_CHARS);
    if (line === '') return;
    this.#waiting.add(performance.now(), { text: line, own, hue, width: 0 }, own);
    this.#wake();
  }

  // clear takes everything off the stage.
  clear() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#frame = this.#timer = 0;
    this.#waiting.clear();
    this.#lanes.clear();
    for (const [element, animation] of this.#flying) {
      animation.onfinish = null;
      animation.cancel();
      this.#retire(element);
    }
    this.#flying.clear();
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.#element;
    const size = Math.round(Math.min(25, Math.max(15, width / 40)));
    this.width = width;
    if (size !== this.size) {
      this.size = size;
      this.clear();
      this.#layer.style.fontSize = `${size}px`;
      this.#measure.font = `600 ${size}px ${getComputedStyle(this.#layer).fontFamily}`;
    }
    this.laneHeight = Math.round(size * 1.72);
    this.top = Math.max(4, Math.round((height % this.laneHeight) / 2));
    this.#lanes.resize(Math.max(0, Math.floor((height - 4) / this.laneHeight)));
  }

  #wake() {
    if (this.#frame || this.#timer) return;
    this.#frame = requestAnimationFrame(() => this.#pump());
  }

  // pump starts what finds a lane, then rests.
  #pump() {
    this.#frame = 0;
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      if (this.#waiting.length) this.#wake();
    }, PUMP_MS);
    const now = performance.now();
    const at = document.timeline.currentTime;
    this.#waiting.drain(now, (bullet) => this.#launch(bullet, at));
    if (this.#waiting.dropped !== this.#reportedDrops) {
      this.#reportedDrops = this.#waiting.dropped;
      this.onDrops?.(this.#reportedDrops);
    }
  }

  // launch starts a bullet and says whether it could.
  #launch(bullet, at) {
    if (this.#flying.size >= MAX_BULLETS || this.width === 0) return false;
    if (!bullet.width) bullet.width = Math.ceil(this.#measure.measureText(bullet.text).width + this.size * 1.4);
    const duration = this.#duration(bullet.width);
    const still = this.#reducedMotion.matches;
    const place = still ? this.#lanes.stand(at, STAND_MS) : this.#lanes.place(at, bullet.width, this.width, duration);
    if (!place) return false;
    const element = this.#dress(bullet, place.lane);
    const frames = still
      ? stillFrames(Math.max(0, (this.width - bullet.width) / 2))
      : [{ transform: `translate3d(${this.width}px,0,0)` }, { transform: `translate3d(${-bullet.width}px,0,0)` }];
    const animation = element.animate(frames, { duration: still ? STAND_MS : duration, fill: 'both' });
    animation.startTime = at;
    animation.onfinish = () => {
      this.#flying.delete(element);
      animation.cancel();
      this.#retire(element);
    };
    this.#flying.set(element, animation);
    return true;
  }

  // duration is how long a bullet of a width crosses the stage: longer on a wide one, shorter when many wait. Wide
  // ones fly faster, but the more wait the less so: at one speed nobody catches up, and a lane takes more.
  #duration(width) {
    const pressure = Math.min(1, this.#waiting.pressure * 1.5);
    const calm = Math.min(11_000, Math.max(6_000, this.width * 8.5)) * (1 - 0.45 * pressure);
    const speed = (this.width + width * (1 - pressure)) / calm;
    return (this.width + width) / speed;
  }

  #dress(bullet, lane) {
    const element = this.#pool.pop() ?? this.#create();
    element.textContent = bullet.text;
    element.className = bullet.own ? 'bullet own' : 'bullet';
    element.dataset.lane = lane;
    element.style.width = `${bullet.width}px`;
    element.style.top = `${this.top + lane * this.laneHeight}px`;
    element.style.setProperty('--hue', bullet.hue);
    return element;
  }

  #create() {
    const element = document.createElement('div');
    this.#layer.append(element);
    return element;
  }

  #retire(element) {
    element.className = 'bullet idle';
    element.textContent = '';
    this.#pool.push(element);
  }
}

function stillFrames(x) {
  const transform = `translate3d(${x}px,0,0)`;
  return [{ transform, opacity: 0 }, { transform, opacity: 1, offset: 0.06 }, { transform, opacity: 1, offset: 0.9 }, { transform, opacity: 0 }];
}
