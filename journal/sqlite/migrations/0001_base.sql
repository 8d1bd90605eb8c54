-- Channels are never removed: their heads must not go back. time is that of the last message.
CREATE TABLE channels (
  id   INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  head INTEGER NOT NULL DEFAULT 0,
  time INTEGER NOT NULL DEFAULT 0
) STRICT;

-- A table with rowid and a unique index takes 1.4 to 1.7 times the writes of one WITHOUT ROWID.
CREATE TABLE messages (
  seq        INTEGER PRIMARY KEY,
  channel_id INTEGER NOT NULL,
  "offset"   INTEGER NOT NULL,
  time       INTEGER NOT NULL,
  user_id    TEXT NOT NULL,
  client_id  TEXT NOT NULL,
  idem       TEXT,
  data       BLOB NOT NULL,
  UNIQUE (channel_id, "offset")
) STRICT;

CREATE UNIQUE INDEX messages_idem ON messages (channel_id, idem) WHERE idem IS NOT NULL;
