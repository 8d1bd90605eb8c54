package postgres

import (
	"cmp"
	"context"
	"slices"

	"barrage/journal"
	"barrage/proto"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const appendSQL = `SELECT r_epoch, r_offset, r_time, r_repeated FROM barrage_append($1, $2, $3, $4, $5, $6, $7, $8, $9)`

// batch holds drafts as the columns that barrage_append takes.
type batch struct {
	name []string
	cnt  []int64

	idx, seq     []int32
	user, client []string
	idem         []*string
	data         [][]byte
	keys         bool

	// from[i] is the place in the columns of draft i; a draft that repeats an earlier one of the batch shares its place.
	from   []int
	folded []bool
}

// columns arranges drafts: channels sorted bytewise, and each channel and key only once.
func columns(drafts []journal.Draft) *batch {
	b := &batch{from: make([]int, len(drafts)), folded: make([]bool, len(drafts))}
	type key struct{ channel, key string }
	known := make(map[key]int)
	counts := make(map[string]int32)
	unique := make([]*journal.Draft, 0, len(drafts))
	for i := range drafts {
		d := &drafts[i]
		if d.Key != "" {
			if at, ok := known[key{d.Channel, d.Key}]; ok {
				b.from[i], b.folded[i] = at, true
				continue
			}
			known[key{d.Channel, d.Key}] = len(unique)
		}
		b.from[i] = len(unique)
		unique = append(unique, d)
		counts[d.Channel]++
		b.seq = append(b.seq, counts[d.Channel])
	}
	for name := range counts {
		b.name = append(b.name, name)
	}
	slices.SortFunc(b.name, cmp.Compare[string]) // bytewise, like COLLATE "C"
	place := make(map[string]int32, len(b.name))
	for i, name := range b.name {
		place[name] = int32(i + 1)
		b.cnt = append(b.cnt, int64(counts[name]))
	}
	for _, d := range unique {
		b.add(d, place[d.Channel])
	}
	return b
}

func (b *batch) add(d *journal.Draft, place int32) {
	b.idx = append(b.idx, place)
	b.user = append(b.user, d.User)
	b.client = append(b.client, d.Client)
	var key *string
	if d.Key != "" {
		key, b.keys = &d.Key, true
	}
	b.idem = append(b.idem, key)
	data := d.Data
	if data == nil {
		data = []byte{} // nil would be NULL
	}
	b.data = append(b.data, data)
}

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

// append makes one attempt.
func (j *Journal) append(ctx context.Context, b *batch) (journal.Appended, error) {
	c, err := j.connect(ctx)
	if err != nil {
		return journal.Appended{}, err
	}
	defer c.Release()
	if c.Conn().Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		// What fails while preparing has stored nothing. A statement is prepared once for each connection.
		if _, err := c.Conn().Prepare(ctx, appendSQL, appendSQL); err != nil {
			return journal.Appended{}, j.explain(err)
		}
	}
	var offsets, times []int64
	var repeated []bool
	var epoch string
	err = c.QueryRow(ctx, appendSQL, b.name, b.cnt, b.idx, b.seq, b.user, b.client, b.idem, b.data, b.keys).
		Scan(&epoch, &offsets, &times, &repeated)
	if err != nil {
		return journal.Appended{}, j.explainAppend(err)
	}
	stored := make([]journal.Stored, len(b.from))
	for i, at := range b.from {
		stored[i] = journal.Stored{
			Offset: proto.Offset(offsets[at]), Time: times[at],
			Repeated: b.folded[i] || (repeated != nil && repeated[at]),
		}
	}
	return journal.Appended{Epoch: proto.Epoch(epoch), Stored: stored}, nil
}
