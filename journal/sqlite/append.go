package sqlite

import (
	"context"
	"database/sql"
	"time"

	"barrage/journal"
	"barrage/proto"
)

// statements are prepared once on the writing connection.
type statements struct {
	advance, retreat, insert, original *sql.Stmt
}

func (s *statements) prepare(ctx context.Context, conn *sql.Conn) (err error) {
	for _, p := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&s.advance, `INSERT INTO channels (name, head, time) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE
			SET head = head + excluded.head, time = max(time, excluded.time) RETURNING id, head, time`},
		{&s.retreat, `UPDATE channels SET head = head - ? WHERE id = ?`},
		{&s.insert, `INSERT INTO messages (channel_id, "offset", time, user_id, client_id, idem, data, attributes)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (channel_id, idem) WHERE idem IS NOT NULL DO NOTHING`},
		{&s.original, `SELECT "offset", time FROM messages WHERE channel_id = ? AND idem = ?`},
	} {
		if *p.to, err = conn.PrepareContext(ctx, p.sql); err != nil {
			return err
		}
	}
	return nil
}

func (s *statements) close() {
	for _, stmt := range []*sql.Stmt{s.advance, s.retreat, s.insert, s.original} {
		if stmt != nil {
			_ = stmt.Close() // the connection is closed next
		}
	}
}

// part is one channel's share of a batch.
type part struct {
	drafts   int64
	id       int64
	next     int64 // the offset of the next draft that is stored
	time     int64
	repeated int64
}

// Append implements journal.Journal.
func (j *Journal) Append(ctx context.Context, drafts []journal.Draft) (journal.Appended, error) {
	err := journal.CheckBatch(drafts)
	if err == nil {
		err = j.begin(ctx)
	}
	if err != nil {
		return journal.Appended{}, j.failed("append", err)
	}
	defer j.end()
	stored := make([]journal.Stored, len(drafts))
	err = j.transaction(func(ctx context.Context) error { return j.append(ctx, drafts, stored) })
	if err != nil {
		return journal.Appended{}, j.failed("append", err)
	}
	return journal.Appended{Epoch: j.epoch, Stored: stored}, nil
}

// append stores drafts within a transaction: it moves each channel's head as if no key were repeated, stores, and moves
// the heads back by the repeated ones.
func (j *Journal) append(ctx context.Context, drafts []journal.Draft, stored []journal.Stored) error {
	parts := make(map[string]*part)
	for i := range drafts {
		p := parts[drafts[i].Channel]
		if p == nil {
			p = &part{}
			parts[drafts[i].Channel] = p
		}
		p.drafts++
	}
	now := time.Now().UnixMilli()
	for name, p := range parts {
		var head int64
		if err := j.stmts.advance.QueryRowContext(ctx, name, p.drafts, now).Scan(&p.id, &head, &p.time); err != nil {
			return err
		}
		p.next = head - p.drafts + 1
	}
	for i := range drafts {
		var err error
		if stored[i], err = j.store(ctx, parts[drafts[i].Channel], &drafts[i]); err != nil {
			return err
		}
	}
	for _, p := range parts {
		if p.repeated == 0 {
			continue
		}
		if _, err := j.stmts.retreat.ExecContext(ctx, p.repeated, p.id); err != nil {
			return err
		}
	}
	return nil
}

// store stores one draft, or finds the message that has its key.
func (j *Journal) store(ctx context.Context, p *part, d *journal.Draft) (journal.Stored, error) {
	var key, attributes any
	if d.Key != "" {
		key = d.Key
	}
	if len(d.Attributes) > 0 {
		attributes = d.Attributes
	}
	data := d.Data
	if data == nil {
		data = []byte{} // nil would be NULL
	}
	result, err := j.stmts.insert.ExecContext(ctx, p.id, p.next, p.time, d.User, d.Client, key, data, attributes)
	if err != nil {
		return journal.Stored{}, err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		p.next++
		return journal.Stored{Offset: proto.Offset(p.next - 1), Time: p.time}, err
	}
	p.repeated++
	first := journal.Stored{Repeated: true}
	err = j.stmts.original.QueryRowContext(ctx, p.id, d.Key).Scan(&first.Offset, &first.Time)
	return first, err
}
