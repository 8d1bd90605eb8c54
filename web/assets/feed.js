// What the page makes of a channel's stream: which messages are fresh, and a new beginning after a reset.
//
// After a reset the last messages are fetched, and what comes meanwhile is held, so that the two meet without gap or
// repeat. A message is `fresh` when it was published after this connection was made: no history, no replay.

export const LAST = 50; // messages to begin with
const MAX_HELD = 5_000; // held while a page is fetched; beyond it the newest are shown without what came before

export class Feed {
  #room;
  #on;
  #head = 0; // of the channel, when this connection was made
  #count = 0; // numbers the messages of a live channel, which have no offsets of their own
  #held = null; // messages that wait for the page after a reset

  // room is the client of the channel. The handlers are onMessages(list) and onReset(list).
  constructor(room, handlers) {
    this.#room = room;
    this.#on = handlers;
    room.on('welcome', (welcome) => (this.#head = welcome.offset ?? 0));
    room.on('messages', (messages) => this.#messages(messages));
    room.on('reset', (reset) => this.#reset(reset));
  }

  #messages(messages) {
    for (const m of messages) {
      m.fresh = m.offset === undefined || m.offset > this.#head;
      m.offset ??= ++this.#count;
    }
    if (!this.#held) {
      this.#on.onMessages(messages);
      return;
    }
    this.#held.push(...messages);
    if (this.#held.length <= MAX_HELD) return;
    this.#held.splice(0, this.#held.length - LAST);
    this.#resume([]);
  }

  async #reset({ offset }) {
    const held = (this.#held = []);
    let messages = [];
    try {
      ({ messages } = await this.#room.history({ before: offset + 1, limit: LAST }));
    } catch {
      // Without it: what is new is shown all the same.
    }
    if (this.#held === held && this.#room.phase !== 'closed') this.#resume(messages);
  }

  #resume(messages) {
    const held = this.#held;
    this.#held = null;
    this.#on.onReset(messages);
    if (held.length) this.#on.onMessages(held);
  }
}
