// Where a bullet may fly. Pure: times, widths and places are arguments (milliseconds, pixels).
//
// A bullet enters at the right edge of the stage and moves left at a constant speed until its tail has left. Its
// speed grows with its width, so a wide one may catch up with a narrow one before it. A lane takes a new bullet only
// when it keeps the gap to the last one from its first moment until that one is gone. The one before the last is
// then safe as well: it leaves earlier still.

export class Lanes {
  // gap is the least distance between two bullets of a lane, in pixels.
  constructor(count = 0, gap = 28) {
    this.gap = gap;
    this.lanes = []; // the last bullet of each lane: {x, width, speed, at}, or {until} for one that stands still
    this.resize(count);
  }

  // resize changes the number of lanes; what flies in the lanes that stay is remembered.
  resize(count) {
    while (this.lanes.length < count) this.lanes.push(null);
    this.lanes.length = count;
  }

  // clear forgets everything that flies.
  clear() {
    this.lanes.fill(null);
  }

  // place finds a lane for a bullet of the given width that enters a stage of stageWidth at now and needs duration to
  // cross it. It returns {lane, speed} in pixels per millisecond, or null when every lane is busy.
  place(now, width, stageWidth, duration) {
    const speed = (stageWidth + width) / duration;
    const lane = this.#longestFree((last) => last === null || this.#fits(last, now, stageWidth, speed), now);
    if (lane < 0) return null;
    this.lanes[lane] = { x: stageWidth, width, speed, at: now };
    return { lane, speed };
  }

  // stand finds a lane for a bullet that does not move and stays for duration: for those who asked for less motion.
  stand(now, duration) {
    const lane = this.#longestFree((last) => last === null || goneAt(last) <= now, now);
    if (lane < 0) return null;
    this.lanes[lane] = { until: now + duration };
    return { lane, speed: 0 };
  }

  #fits(last, now, stageWidth, speed) {
    if ('until' in last) return last.until <= now;
    const gone = goneAt(last);
    if (gone <= now) return true;
    const tail = last.x + last.width - last.speed * (now - last.at);
    if (tail + this.gap > stageWidth) return false;
    return stageWidth - speed * (gone - now) >= this.gap;
  }

  // longestFree prefers the lane whose last bullet is gone longest, so that the whole stage is used; of several
  // untouched ones it takes them scattered over the stage.
  #longestFree(free, now) {
    let best = -1;
    let bestScore = Infinity;
    this.lanes.forEach((last, lane) => {
      if (!free(last)) return;
      const score = last === null ? scatter(lane) - 1e15 : goneAt(last) - now;
      if (score < bestScore) [best, bestScore] = [lane, score];
    });
    return best;
  }
}

// goneAt is when the tail of a bullet has left the stage.
function goneAt(b) {
  return 'until' in b ? b.until : b.at + (b.x + b.width) / b.speed;
}

// scatter orders lanes by the golden section: neighbours in order are far apart on the stage.
function scatter(lane) {
  return (lane * 0.6180339887 + 0.38) % 1;
}

// Waiting is the short queue before the lanes. Full means: the oldest is dropped and counted. So does waiting longer
// than maxWait: a comment that flies long after it was said confuses. Only the stage drops; the chat shows everything.
export class Waiting {
  constructor(limit = 40, maxWait = 3000) {
    this.limit = limit;
    this.maxWait = maxWait;
    this.items = []; // {at, value}, oldest first
    this.dropped = 0;
  }

  get length() {
    return this.items.length;
  }

  // pressure is how full the queue is, 0 to 1.
  get pressure() {
    return this.items.length / this.limit;
  }

  add(now, value, first = false) {
    if (first) this.items.unshift({ at: now, value });
    else this.items.push({ at: now, value });
    while (this.items.length > this.limit) {
      this.items.splice(first ? this.items.length - 1 : 0, 1);
      this.dropped++;
    }
  }

  // drain offers every waiting value to take, oldest first, and keeps those for which it returns false.
  drain(now, take) {
    this.items = this.items.filter(({ at, value }) => {
      if (now - at > this.maxWait) {
        this.dropped++;
        return false;
      }
      return !take(value);
    });
  }

  // clear empties the queue without counting: nobody was looking.
  clear() {
    this.items = [];
  }
}
