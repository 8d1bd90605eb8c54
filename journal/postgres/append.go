package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"barrage/journal"
	"barrage/proto"
)

const appendSQL = `SELECT r_epoch, r_head, r_time, r_offset, r_first_time, r_repeated
	FROM barrage_append_messages($1, $2, $3, $4, $5, $6, $7, $8, $9)`

// Append implements journal.Journal.
func (j *Journal) Append(ctx context.Context, drafts []journal.Draft) (journal.Appended, error) {
	if err := journal.CheckBatch(drafts); err != nil {
		return journal.Appended{}, j.failed("append", err)
	}
	if len(drafts) == 0 {
		heads, err := j.Heads(ctx, nil)
		return journal.Appended{Epoch: heads.Epoch}, err
	}
	ctx, cancel := j.bound(ctx, callTimeout)
	defer cancel()
	b := columns(drafts)
	appended, err := j.append(ctx, b)
	if pgconn.SafeToRetry(err) && ctx.Err() == nil {
		appended, err = j.append(ctx, b)
	}
	return appended, j.failed("append", err)
}

// binaryFormat says that all parameters, or all results, are in the binary format.
var binaryFormat = []int16{pgx.BinaryFormatCode}

// append makes one attempt. The statement is sent below pgx's conversions, which cost more than everything else here.
func (j *Journal) append(ctx context.Context, b *batch) (journal.Appended, error) {
	c, err := j.connect(ctx)
	if err != nil {
		return journal.Appended{}, err
	}
	defer c.Release()
	var result *pgconn.ResultReader
	if c.Conn().Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		// What fails while preparing has stored nothing. A statement is prepared once for each connection.
		prepared, err := c.Conn().Prepare(ctx, appendSQL, appendSQL)
		if err != nil {
			return journal.Appended{}, j.explain(err)
		}
		result = c.Conn().PgConn().ExecPrepared(ctx, prepared.Name, b.parameters(), binaryFormat, binaryFormat)
	} else {
		result = c.Conn().PgConn().ExecParams(ctx, appendSQL, b.parameters(), parameterTypes, binaryFormat, binaryFormat)
	}
	var where located
	read := result.Read()
	if err = read.Err; err == nil {
		err = where.scan(c.Conn().TypeMap(), read)
	}
	if err != nil {
		return journal.Appended{}, j.explainAppend(err)
	}
	return journal.Appended{Epoch: proto.Epoch(where.epoch), Stored: where.stored(b)}, nil
}

// located is what barrage_append_messages returns.
type located struct {
	epoch       string
	heads, time []int64
	// offsets are nil unless a key was known.
	offsets, firstTimes []int64
	repeated            []bool
}

// scan reads the only row of a result.
func (l *located) scan(types *pgtype.Map, r *pgconn.Result) error {
	if len(r.Rows) != 1 {
		return pgx.ErrNoRows
	}
	for i, to := range []any{&l.epoch, &l.heads, &l.time, &l.offsets, &l.firstTimes, &l.repeated} {
		if err := types.Scan(r.FieldDescriptions[i].DataTypeOID, pgx.BinaryFormatCode, r.Rows[0][i], to); err != nil {
			return err
		}
	}
	return nil
}

// stored tells where each draft of a batch is.
func (l *located) stored(b *batch) []journal.Stored {
	out := make([]journal.Stored, len(b.from))
	for i, at := range b.from {
		if l.offsets != nil {
			out[i] = journal.Stored{Offset: proto.Offset(l.offsets[at]), Time: l.firstTimes[at], Repeated: l.repeated[at]}
		} else {
			channel := b.place[at] - 1
			out[i] = journal.Stored{
				Offset: proto.Offset(l.heads[channel] - b.counts[channel] + int64(b.seq[at])), Time: l.time[channel],
			}
		}
		out[i].Repeated = out[i].Repeated || b.folded != nil && b.folded[i]
	}
	return out
}
