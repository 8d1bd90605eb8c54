package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"

	"barrage/journal"
	"barrage/proto"
)

// One statement is one snapshot. The only channel comes first, then its messages by their index; without messages
// there is one row of NULLs.
const (
	selectPage = `SELECT c.head, m."offset", m.time, m.user_id, m.client_id, m.data, m.attributes FROM channels c
		LEFT JOIN messages m ON m.channel_id = c.id AND m."offset" `
	selectForward  = selectPage + `>= ?2 WHERE c.name = ?1 ORDER BY m."offset" LIMIT ?3`
	selectBackward = selectPage + `<= ?2 WHERE c.name = ?1 ORDER BY m."offset" DESC LIMIT ?3`
)

// Read implements journal.Journal.
func (j *Journal) Read(ctx context.Context, channel string, r journal.Range) (journal.Page, error) {
	r = r.Bounded()
	query, from := selectForward, int64(r.From)
	if r.Backward {
		query = selectBackward
		if from == 0 {
			from = math.MaxInt64
		}
	}
	rows, err := j.reads.QueryContext(ctx, query, channel, from, r.Limit)
	if err != nil {
		return journal.Page{}, j.failed("read", explain(err))
	}
	defer rows.Close()
	page := journal.Page{Epoch: j.epoch}
	for size := 0; size < r.MaxBytes && rows.Next(); {
		var offset, time sql.NullInt64
		var user, client sql.NullString
		var data, attributes []byte
		if err := rows.Scan(&page.Head, &offset, &time, &user, &client, &data, &attributes); err != nil {
			return journal.Page{}, j.failed("read", explain(err))
		}
		if !offset.Valid {
			break
		}
		m := proto.Message{
			Offset: proto.Offset(offset.Int64), Time: time.Int64, User: user.String, Client: client.String, Data: data, Attributes: attributes,
		}
		size += m.Size()
		page.Messages = append(page.Messages, m)
	}
	if err := rows.Err(); err != nil {
		return journal.Page{}, j.failed("read", explain(err))
	}
	return page, nil
}

// Heads implements journal.Journal.
func (j *Journal) Heads(ctx context.Context, names []string) (journal.Heads, error) {
	heads := journal.Heads{Epoch: j.epoch, Offsets: make([]proto.Offset, len(names))}
	list, err := json.Marshal(names) // one parameter, because the number of parameters is limited
	if err != nil {
		return journal.Heads{}, j.failed("heads", err)
	}
	rows, err := j.reads.QueryContext(ctx,
		`SELECT n.key, c.head FROM json_each(?) n CROSS JOIN channels c WHERE c.name = n.value`, string(list))
	if err != nil {
		return journal.Heads{}, j.failed("heads", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var i int
		var head proto.Offset
		if err := rows.Scan(&i, &head); err != nil {
			return journal.Heads{}, j.failed("heads", explain(err))
		}
		if i < 0 || i >= len(names) {
			return journal.Heads{}, j.failed("heads", fmt.Errorf("SQLite answers with index %d of %d", i, len(names)))
		}
		heads.Offsets[i] = head
	}
	if err := rows.Err(); err != nil {
		return journal.Heads{}, j.failed("heads", explain(err))
	}
	return heads, nil
}
