package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Remove implements journal.Journal. Each step is one statement that removes at most 1,000 messages; it takes no lock that appends
// wait for. Several nodes may remove and trim at once.
func (j *Journal) Remove(ctx context.Context, channel string) error {
	ctx, cancel := j.bound(ctx, trimTimeout)
	defer cancel()
	c, err := j.connect(ctx)
	if err != nil {
		return j.failed("remove", err)
	}
	defer c.Release()
	return j.failed("remove", j.explain(remove(ctx, c, channel)))
}

func remove(ctx context.Context, c *pgxpool.Conn, channel string) error {
	var id, head, first int64
	err := c.QueryRow(ctx, `SELECT c.id, c.head, m."offset" FROM barrage_channels c CROSS JOIN LATERAL (
			SELECT x."offset" FROM barrage_messages x WHERE x.channel_id = c.id ORDER BY x."offset" LIMIT 1) m
		WHERE c.name = $1`, channel).Scan(&id, &head, &first)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	// The offsets of a channel have no gaps, so each stretch is as many messages.
	for ; err == nil && first <= head; first += trimStep {
		err = twice(func() error {
			_, err := c.Exec(ctx, `DELETE FROM barrage_messages WHERE channel_id = $1 AND "offset" BETWEEN $2 AND $3`,
				id, first, min(first+trimStep-1, head))
			return err
		})
	}
	return err
}
