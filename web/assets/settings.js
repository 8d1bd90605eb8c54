// What the page remembers between visits. Storage may be blocked or full: then it remembers nothing and goes on.

const PREFIX = 'barrage.';

function read(storage, key) {
  try {
    return globalThis[storage].getItem(PREFIX + key);
  } catch {
    return null;
  }
}

function write(storage, key, value) {
  try {
    globalThis[storage].setItem(PREFIX + key, value);
  } catch {
    // Remembering is a comfort, not a need.
  }
}

export const load = (key) => read('localStorage', key);
export const save = (key, value) => write('localStorage', key, value);

// Connection ids of this tab, so that a reload still knows its own messages. At most 20 are kept.
const MAX_CLIENTS = 20;

export function loadClients() {
  try {
    const list = JSON.parse(read('sessionStorage', 'clients') ?? '[]');
    return Array.isArray(list) ? list.filter((id) => typeof id === 'string') : [];
  } catch {
    return [];
  }
}

export function saveClients(list) {
  write('sessionStorage', 'clients', JSON.stringify(list.slice(-MAX_CLIENTS)));
}
