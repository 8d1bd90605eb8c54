package sqlite

import (
	"context"
	"math"
	"time"

	"barrage/journal"
)

const (
	// trimStep is how many messages one transaction removes.
	trimStep = 1000
	// trimPage is how many channels are looked up at once.
	trimPage = 1000
)

// limits are a retention policy at one moment: what is removed from a channel is offsets up to head-count and
// messages before cutoff, in milliseconds.
type limits struct{ count, cutoff int64 }

func limitsOf(p journal.Retention, now time.Time) limits {
	l := limits{count: math.MaxInt64}
	if p.Count > 0 {
		l.count = p.Count
	}
	if p.Age > 0 {
		l.cutoff = now.Add(-p.Age).UnixMilli()
	}
	return l
}

// due is a channel that has something to remove.
type due struct{ id, head int64 }

// Trim implements journal.Journal. Each step is one transaction that removes at most 1,000 messages; appends go on
// between the steps.
func (j *Journal) Trim(ctx context.Context, p journal.Retention) (removed int64, err error) {
	if p.Everything() {
		return 0, nil
	}
	l := limitsOf(p, time.Now())
	for after := int64(0); ; {
		page, err := j.findDue(ctx, after, l)
		if err != nil {
			return removed, j.failed("trim", explain(err))
		}
		if len(page) == 0 {
			return removed, nil
		}
		after = page[len(page)-1].id
		for len(page) > 0 {
			var n int64
			if n, page, err = j.trimStep(ctx, page, l); err != nil {
				return removed, j.failed("trim", err)
			}
			removed += n
		}
	}
}

// findDue returns the next channels by id whose first message is to be removed.
func (j *Journal) findDue(ctx context.Context, after int64, l limits) ([]due, error) {
	rows, err := j.reads.QueryContext(ctx, `SELECT c.id, c.head FROM channels c CROSS JOIN messages m
		ON m.seq = (SELECT f.seq FROM messages f WHERE f.channel_id = c.id ORDER BY f."offset" LIMIT 1)
		WHERE c.id > ? AND (m."offset" <= c.head - ? OR m.time < ?) ORDER BY c.id LIMIT ?`,
		after, l.count, l.cutoff, trimPage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []due
	for rows.Next() {
		var d due
		if err := rows.Scan(&d.id, &d.head); err != nil {
			return nil, err
		}
		page = append(page, d)
	}
	return page, rows.Err()
}

// trimStep removes up to trimStep messages from the front of the channels given, and returns those that are not done.
func (j *Journal) trimStep(ctx context.Context, page []due, l limits) (removed int64, rest []due, err error) {
	if err := j.begin(ctx); err != nil {
		return 0, nil, err
	}
	defer j.end()
	err = j.transaction(func(ctx context.Context) error {
		for len(page) > 0 && removed < trimStep {
			room := trimStep - removed
			n, err := j.trimChannel(ctx, page[0], l, room)
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
func (j *Journal) trimChannel(ctx context.Context, d due, l limits, room int64) (int64, error) {
	result, err := j.writer.ExecContext(ctx, `DELETE FROM messages WHERE channel_id = ?1 AND "offset" <=
		(SELECT max("offset") FROM (SELECT "offset", time FROM messages WHERE channel_id = ?1 ORDER BY "offset" LIMIT ?2)
		 WHERE "offset" <= ?3 OR time < ?4)`, d.id, room, d.head-l.count, l.cutoff)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
