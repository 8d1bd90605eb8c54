package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"barrage/journal"
)

const (
	// trimStep is how many messages one transaction removes.
	trimStep = 1000
	// trimPage is how many channels are looked up at once.
	trimPage = 1000
)

// due is a channel that has something to remove: offsets up to head-keep and messages before cutoff, in milliseconds.
type due struct{ id, head, keep, cutoff int64 }

// Trim implements journal.Journal. Each step is one transaction that removes at most 1,000 messages; appends go on
// between the steps.
func (j *Journal) Trim(ctx context.Context, p journal.Policy) (removed int64, err error) {
	if p.Everything() {
		return 0, nil
	}
	now := time.Now().UnixMilli()
	for after := int64(0); ; {
		page, err := j.findDue(ctx, after, p, now)
		if err != nil {
			return removed, j.failed("trim", explain(err))
		}
		if len(page) == 0 {
			return removed, nil
		}
		after = page[len(page)-1].id
		n, err := j.trimAll(ctx, page)
		if removed += n; err != nil {
			return removed, j.failed("trim", err)
		}
	}
}

// Remove implements journal.Journal, in steps like Trim.
func (j *Journal) Remove(ctx context.Context, channel string) error {
	var all due
	err := j.reads.QueryRowContext(ctx, `SELECT id, head FROM channels WHERE name = ?`, channel).Scan(&all.id, &all.head)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return j.failed("remove", explain(err))
	}
	if _, err := j.trimAll(ctx, []due{all}); err != nil {
		return j.failed("remove", err)
	}
	return nil
}

// trimAll removes what is due, step by step.
func (j *Journal) trimAll(ctx context.Context, page []due) (removed int64, err error) {
	for len(page) > 0 {
		var n int64
		if n, page, err = j.trimStep(ctx, page); err != nil {
			return removed, err
		}
		removed += n
	}
	return removed, nil
}

// selectDue looks each channel's namespace up in a small table, so that one pass over the channels serves them all.
const selectDue = `WITH named(name, keep, cutoff) AS MATERIALIZED (
		SELECT key, value ->> 0, value ->> 1 FROM json_each(?4))
	SELECT c.id, c.head, coalesce(n.keep, ?2), coalesce(n.cutoff, ?3) FROM channels c
	LEFT JOIN named n ON n.name = CASE WHEN instr(c.name, ':') > 0 THEN substr(c.name, 1, instr(c.name, ':') - 1) END
	CROSS JOIN messages m
		ON m.seq = (SELECT f.seq FROM messages f WHERE f.channel_id = c.id ORDER BY f."offset" LIMIT 1)
	WHERE c.id > ?1 AND (m."offset" <= c.head - coalesce(n.keep, ?2) OR m.time < coalesce(n.cutoff, ?3))
	ORDER BY c.id LIMIT ?5`

// findDue returns the next channels by id whose first message is to be removed.
func (j *Journal) findDue(ctx context.Context, after int64, p journal.Policy, now int64) ([]due, error) {
	limits := make(map[string][2]int64, len(p.Named))
	for name, r := range p.Named {
		keep, cutoff := r.Limits(now)
		limits[name] = [2]int64{keep, cutoff}
	}
	named, err := json.Marshal(limits)
	if err != nil {
		return nil, err
	}
	keep, cutoff := p.Default.Limits(now)
	rows, err := j.reads.QueryContext(ctx, selectDue, after, keep, cutoff, string(named), trimPage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []due
	for rows.Next() {
		var d due
		if err := rows.Scan(&d.id, &d.head, &d.keep, &d.cutoff); err != nil {
			return nil, err
		}
		page = append(page, d)
	}
	return page, rows.Err()
}

// trimStep removes up to trimStep messages from the front of the channels given, and returns those that are not done.
func (j *Journal) trimStep(ctx context.Context, page []due) (removed int64, rest []due, err error) {
	if err := j.begin(ctx); err != nil {
		return 0, nil, err
	}
	defer j.end()
	err = j.transaction(func(ctx context.Context) error {
		for len(page) > 0 && removed < trimStep {
			room := trimStep - removed
			n, err := j.trimChannel(ctx, page[0], room)
			if err != nil {
				return err
			}
			if removed += n; n < room {
				page = page[1:]
			}
		}
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	return removed, page, nil
}

// trimChannel removes up to room messages from the front of one channel, all of them or none after the first that stays.
func (j *Journal) trimChannel(ctx context.Context, d due, room int64) (int64, error) {
	result, err := j.writer.ExecContext(ctx, `DELETE FROM messages WHERE channel_id = ?1 AND "offset" <=
		(SELECT max("offset") FROM (SELECT "offset", time FROM messages WHERE channel_id = ?1 ORDER BY "offset" LIMIT ?2)
		 WHERE "offset" <= ?3 OR time < ?4)`, d.id, room, d.head-d.keep, d.cutoff)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
