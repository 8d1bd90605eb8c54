-- What receivers are told of a message besides its data, one JSON object; null for nothing. Adding the column rewrites nothing; it waits
-- for the statements under way, and those that come after wait for it.
ALTER TABLE barrage_messages ADD COLUMN attributes bytea;

-- barrage_append_messages stores one batch. It is barrage_append_batch, which stays for nodes of the version before, with
--   p_attributes: the drafts' attributes, null for a draft that has none, and null as a whole when none has any
CREATE FUNCTION barrage_append_messages(p_name text[], p_cnt bigint[], p_idx int[], p_seq int[], p_user text[], p_client text[],
  p_idem text[], p_data bytea[], p_attributes bytea[],
  OUT r_epoch text, OUT r_head bigint[], OUT r_time bigint[],
  OUT r_offset bigint[], OUT r_first_time bigint[], OUT r_repeated boolean[])
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
  v_id bigint[]; v_first bigint[]; v_repeated bigint := 0;
  v_one bigint; v_head bigint; v_time bigint;
BEGIN
  SELECT value INTO r_epoch FROM barrage_meta WHERE name = 'epoch';
  IF r_epoch IS NULL THEN
    RAISE undefined_table USING MESSAGE = 'barrage_meta has no epoch';
  END IF;

  -- One channel, no keys. The time is taken under the lock, and never goes back.
  IF p_idx IS NULL THEN
    INSERT INTO barrage_channels AS c (name, head, time)
    VALUES (p_name[1], p_cnt[1], floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    ON CONFLICT (name) DO UPDATE SET head = c.head + EXCLUDED.head,
      time = greatest(c.time, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    RETURNING c.id, c.head, c.time INTO v_one, v_head, v_time;
    INSERT INTO barrage_messages (channel_id, "offset", time, user_id, client_id, data, attributes)
    SELECT v_one, v_head - p_cnt[1] + t.ord, v_time, t.usr, t.cli, t.data, t.attributes
    FROM unnest(p_user, p_client, p_data, p_attributes) WITH ORDINALITY AS t(usr, cli, data, attributes, ord);
    r_head := ARRAY[v_head];
    r_time := ARRAY[v_time];
    RETURN;
  END IF;

  -- Move the heads as if no key were known.
  WITH up AS (
    INSERT INTO barrage_channels AS c (name, head, time)
    SELECT t.name, t.n, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
    FROM unnest(p_name, p_cnt) WITH ORDINALITY AS t(name, n, ord) ORDER BY t.ord
    ON CONFLICT (name) DO UPDATE SET head = c.head + EXCLUDED.head,
      time = greatest(c.time, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    RETURNING c.id, c.name, c.head, c.time)
  SELECT array_agg(id ORDER BY name), array_agg(head ORDER BY name), array_agg(time ORDER BY name)
  INTO v_id, r_head, r_time FROM up;

  -- Look for known keys in a statement of its own: it sees what was committed before the lock was granted. LATERAL with
  -- LIMIT keeps the plan to the index, also when it was made while the table was empty.
  IF p_idem IS NOT NULL THEN
    SELECT array_agg(m."offset" ORDER BY t.ord), array_agg(m.time ORDER BY t.ord), count(m."offset")
    INTO v_first, r_first_time, v_repeated
    FROM unnest(p_idx, p_idem) WITH ORDINALITY AS t(idx, idem, ord)
    LEFT JOIN LATERAL (SELECT x."offset", x.time FROM barrage_messages x
      WHERE x.channel_id = v_id[t.idx] AND x.idem = t.idem LIMIT 1) m ON true;
  END IF;

  IF v_repeated = 0 THEN
    r_first_time := NULL;
    INSERT INTO barrage_messages (channel_id, "offset", time, user_id, client_id, idem, data, attributes)
    SELECT v_id[t.idx], r_head[t.idx] - p_cnt[t.idx] + t.seq, r_time[t.idx], t.usr, t.cli, t.idem, t.data, t.attributes
    FROM unnest(p_idx, p_seq, p_user, p_client, p_idem, p_data, p_attributes) AS t(idx, seq, usr, cli, idem, data, attributes);
    RETURN;
  END IF;

  UPDATE barrage_channels c SET head = c.head - s.k
  FROM (SELECT v_id[t.idx] AS id, count(*) AS k FROM unnest(p_idx, v_first) AS t(idx, first)
    WHERE t.first IS NOT NULL GROUP BY 1) s
  WHERE c.id = s.id;
  WITH f AS MATERIALIZED (
    SELECT t.*, CASE WHEN t.first IS NOT NULL THEN t.first ELSE r_head[t.idx] - p_cnt[t.idx]
      + count(*) FILTER (WHERE t.first IS NULL) OVER (PARTITION BY t.idx ORDER BY t.ord) END AS off
    FROM unnest(p_idx, p_user, p_client, p_idem, p_data, p_attributes, v_first, r_first_time) WITH ORDINALITY
      AS t(idx, usr, cli, idem, data, attributes, first, first_time, ord)),
  ins AS (
    INSERT INTO barrage_messages (channel_id, "offset", time, user_id, client_id, idem, data, attributes)
    SELECT v_id[idx], off, r_time[idx], usr, cli, idem, data, attributes FROM f WHERE first IS NULL)
  SELECT array_agg(off ORDER BY ord), array_agg(coalesce(first_time, r_time[idx]) ORDER BY ord),
    array_agg(first IS NOT NULL ORDER BY ord)
  INTO r_offset, r_first_time, r_repeated FROM f;
END $$;
