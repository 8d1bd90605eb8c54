package postgres

import (
	"context"
	"math"

	"barrage/journal"
	"barrage/proto"

	"github.com/jackc/pgx/v5/pgxpool"
)

// One statement is one snapshot. There is one row of NULLs when no message is found. The server adds up the sizes, so
// that it sends no more than the page; the 64 is that of proto.Message.Size.
const (
	readStart = `SELECT e.value, coalesce(c.head, 0), m."offset", m.time, m.user_id, m.client_id, m.data, m.attributes
		FROM barrage_meta e LEFT JOIN barrage_channels c ON c.name = $1
		LEFT JOIN LATERAL (SELECT * FROM (
			SELECT x.*, sum(x.size) OVER (ORDER BY x."offset" `
	readMiddle = ` ROWS UNBOUNDED PRECEDING) - x.size AS before FROM (
				SELECT "offset", time, user_id, client_id, data, attributes,
					64 + octet_length(user_id) + octet_length(client_id) + octet_length(data)
						+ coalesce(octet_length(attributes), 0) AS size
				FROM barrage_messages WHERE channel_id = c.id AND "offset" `
	readEnd = ` LIMIT $3) x) y WHERE y.before < $4) m ON true
		WHERE e.name = 'epoch' ORDER BY m."offset" `

	readForward  = readStart + readMiddle + `>= $2 ORDER BY "offset"` + readEnd
	readBackward = readStart + `DESC` + readMiddle + `<= $2 ORDER BY "offset" DESC` + readEnd + `DESC`
)

// Read implements journal.Journal.
func (j *Journal) Read(ctx context.Context, channel string, r journal.Range) (journal.Page, error) {
	r = r.Bounded()
	query, from := readForward, int64(r.From)
	if r.Backward {
		query = readBackward
		if from == 0 {
			from = math.MaxInt64
		}
	}
	var page journal.Page
	err := j.query(ctx, func(ctx context.Context, c *pgxpool.Conn) (err error) {
		page, err = readPage(ctx, c, query, channel, from, r.Limit, int64(r.MaxBytes))
		if err == nil && page.Epoch == "" {
			err = j.lostEpoch()
		}
		return err
	})
	if err != nil {
		return journal.Page{}, j.failed("read", err)
	}
	return page, j.failed("read", nil)
}

func readPage(ctx context.Context, c *pgxpool.Conn, query string, args ...any) (journal.Page, error) {
	var page journal.Page
	rows, err := c.Query(ctx, query, args...)
	if err != nil {
		return page, err
	}
	defer rows.Close()
	for rows.Next() {
		var head int64
		var offset, time *int64
		var user, client *string
		var data, attributes []byte
		if err := rows.Scan(&page.Epoch, &head, &offset, &time, &user, &client, &data, &attributes); err != nil {
			return page, err
		}
		page.Head = proto.Offset(head)
		if offset != nil {
			page.Messages = append(page.Messages, proto.Message{
				Offset: proto.Offset(*offset), Time: *time, User: *user, Client: *client, Data: data, Attributes: attributes,
			})
		}
	}
	return page, rows.Err()
}

// Heads implements journal.Journal.
func (j *Journal) Heads(ctx context.Context, names []string) (journal.Heads, error) {
	var heads journal.Heads
	if names == nil {
		names = []string{}
	}
	err := j.query(ctx, func(ctx context.Context, c *pgxpool.Conn) error {
		var epoch *string
		var offsets []int64
		err := c.QueryRow(ctx, `SELECT (SELECT value FROM barrage_meta WHERE name = 'epoch'), ARRAY(
			SELECT coalesce(c.head, 0) FROM unnest($1::text[]) WITH ORDINALITY AS n(name, ord)
			LEFT JOIN barrage_channels c ON c.name = n.name ORDER BY n.ord)`, names).Scan(&epoch, &offsets)
		if err != nil {
			return err
		}
		if epoch == nil {
			return j.lostEpoch()
		}
		heads = journal.Heads{Epoch: proto.Epoch(*epoch), Offsets: make([]proto.Offset, len(offsets))}
		for i, at := range offsets {
			heads.Offsets[i] = proto.Offset(at)
		}
		return nil
	})
	if err != nil {
		return journal.Heads{}, j.failed("heads", err)
	}
	return heads, j.failed("heads", nil)
}
