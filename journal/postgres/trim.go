package postgres

import (
	"context"
	"fmt"
	"math"
	"time"

	"barrage/journal"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// trimStep is about how many messages one statement removes.
	trimStep = 1000
	// trimChannels is from how many channels one statement removes at most.
	trimChannels = 100
	// trimPage is how many channels are looked up at once.
	trimPage = 1000
	// trimTimeout bounds a whole Trim: what is left then is the next one's.
	trimTimeout = 10 * time.Minute
)

// trimLock names the advisory lock that one trimmer at a time holds; it vanishes with the connection.
const trimLock = `(hashtextextended('barrage trim ' || coalesce(current_schema(), ''), 0))`

// limits are a retention policy at one moment, as the statements take it: what is removed from a channel is offsets up to
// head-keep and messages before cutoff, in milliseconds of the database's clock.
type limits struct {
	keep, cutoff   int64 // of channels that belong to none of names
	names          []string
	keeps, cutoffs []int64
}

func limitsOf(p journal.Policy, now int64) (l limits) {
	l.keep, l.cutoff = p.Default.Limits(now)
	l.names, l.keeps, l.cutoffs = []string{}, []int64{}, []int64{}
	for name, r := range p.Named {
		keep, cutoff := r.Limits(now)
		l.names, l.keeps, l.cutoffs = append(l.names, name), append(l.keeps, keep), append(l.cutoffs, cutoff)
	}
	return l
}

// isDue says whether message f of channel c is to be removed; the limits are parameters 3 to 7. Looking the namespace up in a short
// array leaves the plan as it is without any: one pass over the channels by id.
const (
	isDue     = `(f."offset" <= c.head - coalesce(($6::bigint[])[` + namespace + `], $3) OR f.time < coalesce(($7::bigint[])[` + namespace + `], $4))`
	namespace = `array_position($5::text[], CASE WHEN strpos(c.name, ':') > 0 THEN split_part(c.name, ':', 1) END)`
)

// Trim implements journal.Journal. Each step is one statement that removes about 1,000 messages; it takes no lock that
// appends wait for.
func (j *Journal) Trim(ctx context.Context, p journal.Policy) (removed int64, err error) {
	if p.Everything() {
		return 0, nil
	}
	ctx, cancel := j.bound(ctx, trimTimeout)
	defer cancel()
	c, err := j.connect(ctx)
	if err != nil {
		return 0, j.failed("trim", err)
	}
	defer c.Release()
	var mine bool
	if err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock"+trimLock).Scan(&mine); err != nil || !mine {
		return 0, j.failed("trim", j.explain(err))
	}
	defer unlock(c)
	removed, err = trim(ctx, c, p)
	return removed, j.failed("trim", j.explain(err))
}

// unlock gives up the trim lock, or the whole connection when that fails.
func unlock(c *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	if _, err := c.Exec(ctx, "SELECT pg_advisory_unlock"+trimLock); err != nil {
		_ = c.Conn().Close(ctx) // it is broken already
	}
}

func trim(ctx context.Context, c *pgxpool.Conn, p journal.Policy) (removed int64, err error) {
	var now int64
	if err := c.QueryRow(ctx, "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint").Scan(&now); err != nil {
		return 0, err
	}
	l := limitsOf(p, now)
	for after := int64(math.MinInt64); ; {
		due, err := findDue(ctx, c, after, l)
		if err != nil || len(due) == 0 {
			return removed, err
		}
		after = due[len(due)-1]
		for len(due) > 0 {
			var n int64
			var rest []int64
			err := twice(func() (err error) {
				n, rest, err = trimSome(ctx, c, due, l)
				return err
			})
			if err != nil {
				return removed, err
			}
			removed, due = removed+n, rest
		}
	}
}

// findDue returns the next channels by id whose first message is to be removed.
func findDue(ctx context.Context, c *pgxpool.Conn, after int64, l limits) ([]int64, error) {
	rows, err := c.Query(ctx, `SELECT c.id FROM barrage_channels c CROSS JOIN LATERAL (
			SELECT m."offset", m.time FROM barrage_messages m WHERE m.channel_id = c.id ORDER BY m."offset" LIMIT 1) f
		WHERE c.id > $1 AND `+isDue+` ORDER BY c.id LIMIT $2`,
		after, trimPage, l.keep, l.cutoff, l.names, l.keeps, l.cutoffs)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// trimSome removes messages from the front of some of the channels given, and returns those that are not done.
func trimSome(ctx context.Context, c *pgxpool.Conn, due []int64, l limits) (removed int64, rest []int64, err error) {
	some := due[:min(len(due), trimChannels)]
	each := int64(trimStep / len(some))
	// Times do not decrease along offsets, so what is chosen is a run at the front.
	rows, err := c.Query(ctx, `WITH gone AS (DELETE FROM barrage_messages WHERE ctid = ANY(ARRAY(
			SELECT f.ctid FROM unnest($1::bigint[]) AS d(id) JOIN barrage_channels c ON c.id = d.id CROSS JOIN LATERAL (
				SELECT m.ctid, m."offset", m.time FROM barrage_messages m WHERE m.channel_id = c.id
				ORDER BY m."offset" LIMIT $2) f
			WHERE `+isDue+`)) RETURNING channel_id)
		SELECT channel_id, count(*) FROM gone GROUP BY channel_id`, some, each, l.keep, l.cutoff, l.names, l.keeps, l.cutoffs)
	if err != nil {
		return 0, nil, err
	}
	var id, n int64
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		removed += n
		if n == each {
			rest = append(rest, id)
		}
		return nil
	})
	if err != nil {
		return 0, nil, fmt.Errorf("remove messages: %w", err)
	}
	return removed, append(rest, due[len(some):]...), nil
}
