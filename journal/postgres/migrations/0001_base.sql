-- Channels are never removed: their heads must not go back. time is that of the last message, in Unix milliseconds.
-- A head is updated by every batch, so the table leaves room in its pages and is vacuumed early.
CREATE TABLE barrage_channels (
  id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- each batch uses up a value for each of its channels
  name text COLLATE "C" NOT NULL UNIQUE,
  head bigint NOT NULL DEFAULT 0,
  time bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE barrage_messages (
  channel_id bigint NOT NULL,
  "offset"   bigint NOT NULL,
  time       bigint NOT NULL,
  user_id    text NOT NULL,
  client_id  text NOT NULL,
  idem       text COLLATE "C",
  data       bytea NOT NULL,
  PRIMARY KEY (channel_id, "offset")
) WITH (autovacuum_vacuum_insert_scale_factor = 0.2);

CREATE UNIQUE INDEX barrage_messages_idem ON barrage_messages (channel_id, idem) WHERE idem IS NOT NULL;

-- barrage_append stores one batch. To be called in READ COMMITTED, in a transaction of its own.
--   p_name, p_cnt: the channels, distinct and sorted bytewise (locks are taken in this order), and their numbers of drafts
--   p_idx, p_seq and the rest: for each draft the place of its channel in p_name, from 1, its number among the drafts
--     of its channel, from 1, and its columns; a channel and key occur at most once
--   p_keys: whether any draft has a key
-- For each draft r_offset and r_time tell where it is, r_repeated (null for none) whether its key was known.
-- The row lock on a channel's head orders its offsets with its commits: n+1 is never visible before n.
CREATE FUNCTION barrage_append(p_name text[], p_cnt bigint[], p_idx int[], p_seq int[], p_user text[], p_client text[],
  p_idem text[], p_data bytea[], p_keys boolean,
  OUT r_epoch text, OUT r_offset bigint[], OUT r_time bigint[], OUT r_repeated boolean[])
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
  v_id bigint[]; v_head bigint[]; v_time bigint[];
  v_first bigint[]; v_first_time bigint[]; v_repeated bigint := 0;
BEGIN
  SELECT value INTO r_epoch FROM barrage_meta WHERE name = 'epoch';
  IF r_epoch IS NULL THEN
    RAISE undefined_table USING MESSAGE = 'barrage_meta has no epoch';
  END IF;

  -- Move the heads as if no key were known. The times are taken under the lock, and never go back.
  WITH up AS (
    INSERT INTO barrage_channels AS c (name, head, time)
    SELECT t.name, t.n, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
    FROM unnest(p_name, p_cnt) WITH ORDINALITY AS t(name, n, ord) ORDER BY t.ord
    ON CONFLICT (name) DO UPDATE SET head = c.head + EXCLUDED.head,
      time = greatest(c.time, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    RETURNING c.id, c.name, c.head, c.time)
  SELECT array_agg(id ORDER BY name), array_agg(head ORDER BY name), array_agg(time ORDER BY name)
  INTO v_id, v_head, v_time FROM up;

  -- Look for known keys in a statement of its own: it sees what was committed before the lock was granted. LATERAL with
  -- LIMIT keeps the plan to the index, also when it was made while the table was empty.
  IF p_keys THEN
    SELECT array_agg(m."offset" ORDER BY t.ord), array_agg(m.time ORDER BY t.ord), count(m."offset")
    INTO v_first, v_first_time, v_repeated
    FROM unnest(p_idx, p_idem) WITH ORDINALITY AS t(idx, idem, ord)
    LEFT JOIN LATERAL (SELECT x."offset", x.time FROM barrage_messages x
      WHERE x.channel_id = v_id[t.idx] AND x.idem = t.idem LIMIT 1) m ON true;
  END IF;

  IF v_repeated = 0 THEN
    INSERT INTO barrage_messages (channel_id, "offset", time, user_id, client_id, idem, data)
    SELECT v_id[t.idx], v_head[t.idx] - p_cnt[t.idx] + t.seq, v_time[t.idx], t.usr, t.cli, t.idem, t.data
    FROM unnest(p_idx, p_seq, p_user, p_client, p_idem, p_data) AS t(idx, seq, usr, cli, idem, data);
    SELECT array_agg(v_head[t.idx] - p_cnt[t.idx] + t.seq ORDER BY t.ord), array_agg(v_time[t.idx] ORDER BY t.ord)
    INTO r_offset, r_time FROM unnest(p_idx, p_seq) WITH ORDINALITY AS t(idx, seq, ord);
    RETURN;
  END IF;

  UPDATE barrage_channels c SET head = c.head - s.k
  FROM (SELECT v_id[t.idx] AS id, count(*) AS k FROM unnest(p_idx, v_first) AS t(idx, first)
    WHERE t.first IS NOT NULL GROUP BY 1) s
  WHERE c.id = s.id;
  WITH f AS MATERIALIZED (
    SELECT t.*, CASE WHEN t.first IS NOT NULL THEN t.first ELSE v_head[t.idx] - p_cnt[t.idx]
      + count(*) FILTER (WHERE t.first IS NULL) OVER (PARTITION BY t.idx ORDER BY t.ord) END AS off
    FROM unnest(p_idx, p_user, p_client, p_idem, p_data, v_first, v_first_time) WITH ORDINALITY
      AS t(idx, usr, cli, idem, data, first, first_time, ord)),
  ins AS (
    INSERT INTO barrage_messages (channel_id, "offset", time, user_id, client_id, idem, data)
    SELECT v_id[idx], off, v_time[idx], usr, cli, idem, data FROM f WHERE first IS NULL)
  SELECT array_agg(off ORDER BY ord), array_agg(coalesce(first_time, v_time[idx]) ORDER BY ord),
    array_agg(first IS NOT NULL ORDER BY ord)
  INTO r_offset, r_time, r_repeated FROM f;
END $$;
