// What was written here and is not acknowledged yet. Pure: no socket, no clock.
//
// An entry keeps its idempotency key for its whole life, so sending it again is always safe. It leaves the outbox by an
// acknowledgement, or stays as failed until it is retried or dismissed.

// Below the server's limit of 64 publishes in flight. Full means: publish refuses, the text stays in the input.
export const OUTBOX_LIMIT = 50;
const MAX_ATTEMPTS = 6;

export class Outbox {
  constructor() {
    this.entries = new Map(); // id → {id, data, attempts, failed: null | error}; in the order of writing
  }

  // add takes a new entry, or returns null when the outbox is full.
  add(id, data) {
    if (this.entries.size >= OUTBOX_LIMIT) return null;
    const entry = { id, data, attempts: 0, failed: null };
    this.entries.set(id, entry);
    return entry;
  }

  has(id) {
    return this.entries.has(id);
  }

  // unsent lists what must be sent after a reconnect, oldest first.
  unsent() {
    return [...this.entries.values()].filter((e) => !e.failed);
  }

  // acked removes an entry and returns it (null when it is unknown).
  acked(id) {
    const entry = this.entries.get(id) ?? null;
    this.entries.delete(id);
    return entry;
  }

  // refused notes an error of the server and says whether to try once more: only when the server invites it, and not
  // for ever.
  refused(id, error) {
    const entry = this.entries.get(id);
    entry.attempts++;
    if (error.retry && entry.attempts < MAX_ATTEMPTS) return true;
    entry.failed = error;
    return false;
  }

  // retry takes a failed entry back into the queue.
  retry(id) {
    const entry = this.entries.get(id);
    if (!entry) return null;
    entry.failed = null;
    entry.attempts = 0;
    return entry;
  }

  dismiss(id) {
    this.entries.delete(id);
  }
}
