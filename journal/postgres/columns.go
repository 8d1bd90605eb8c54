package postgres

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"barrage/journal"
)

// batch holds drafts as the columns that barrage_append_messages takes.
type batch struct {
	// names of the channels, distinct and sorted bytewise; counts are their numbers of drafts.
	names  []string
	counts []int64
	// drafts without those that repeat an earlier one of the batch. place is the place of each one's channel in names, and
	// seq its number among those of its channel, both from 1.
	drafts     []*journal.Draft
	place, seq []int32
	keys       bool // whether any has a key
	bytes      int  // of all their data
	attributes int  // bytes of all their attributes

	// from[i] is the place in drafts of draft i; one that repeats an earlier one of the batch shares its place.
	from   []int32
	folded []bool // whether draft i does; nil when none has a key
}

// channelKey tells the drafts of a batch apart that have keys.
type channelKey struct{ channel, key string }

// columns arranges drafts: channels sorted bytewise, and each channel and key only once.
func columns(drafts []journal.Draft) *batch {
	b := &batch{
		drafts: make([]*journal.Draft, 0, len(drafts)), from: make([]int32, len(drafts)),
		place: make([]int32, 0, len(drafts)), seq: make([]int32, 0, len(drafts)),
	}
	var known map[channelKey]int32
	places := make(map[string]int32)
	for i := range drafts {
		d := &drafts[i]
		if d.Key != "" {
			if known == nil {
				known, b.folded, b.keys = make(map[channelKey]int32), make([]bool, len(drafts)), true
			}
			if at, ok := known[channelKey{d.Channel, d.Key}]; ok {
				b.from[i], b.folded[i] = at, true
				continue
			}
			known[channelKey{d.Channel, d.Key}] = int32(len(b.drafts))
		}
		b.from[i] = int32(len(b.drafts))
		b.add(d, places)
	}
	b.sort()
	return b
}

// add appends a draft; places are those of the channels so far, in the order in which they occur.
func (b *batch) add(d *journal.Draft, places map[string]int32) {
	place, ok := places[d.Channel]
	if !ok {
		b.names, b.counts = append(b.names, d.Channel), append(b.counts, 0)
		place = int32(len(b.names))
		places[d.Channel] = place
	}
	b.counts[place-1]++
	b.drafts, b.place, b.seq = append(b.drafts, d), append(b.place, place), append(b.seq, int32(b.counts[place-1]))
	b.bytes += len(d.Data)
	b.attributes += len(d.Attributes)
}

// sort sorts the channels bytewise, like COLLATE "C".
func (b *batch) sort() {
	order := make([]int32, len(b.names))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(x, y int32) int { return cmp.Compare(b.names[x], b.names[y]) })
	names, counts, moved := make([]string, len(order)), make([]int64, len(order)), make([]int32, len(order))
	for to, from := range order {
		names[to], counts[to], moved[from] = b.names[from], b.counts[from], int32(to+1)
	}
	for i, place := range b.place {
		b.place[i] = moved[place-1]
	}
	b.names, b.counts = names, counts
}

// parameterTypes are the types of what parameters gives.
var parameterTypes = []uint32{
	pgtype.TextArrayOID, pgtype.Int8ArrayOID, pgtype.Int4ArrayOID, pgtype.Int4ArrayOID, pgtype.TextArrayOID, pgtype.TextArrayOID,
	pgtype.TextArrayOID, pgtype.ByteaArrayOID, pgtype.ByteaArrayOID,
}

// parameters are the arguments of barrage_append_messages in PostgreSQL's binary format. nil is NULL.
func (b *batch) parameters() [][]byte {
	n := len(b.drafts)
	users, clients := newArray(pgtype.TextOID, n, 32), newArray(pgtype.TextOID, n, 40)
	data := newArray(pgtype.ByteaOID, n, 4+b.bytes/max(n, 1)+1)
	for _, d := range b.drafts {
		users, clients = appendElement(users, d.User), appendElement(clients, d.Client)
		data = appendElement(data, d.Data)
	}
	names, counts := newArray(pgtype.TextOID, len(b.names), 32), newArray(pgtype.Int8OID, len(b.names), 12)
	for i, name := range b.names {
		names = appendElement(names, name)
		counts = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(counts, 8), uint64(b.counts[i]))
	}
	if !b.keys && len(b.names) == 1 {
		return [][]byte{names, counts, nil, nil, users, clients, nil, data, b.attributeArray()}
	}
	return [][]byte{names, counts, int4s(b.place), int4s(b.seq), users, clients, b.keyArray(), data, b.attributeArray()}
}

// keyArray is the array of keys: NULL for a draft without one, and nil when none has one.
func (b *batch) keyArray() []byte {
	if !b.keys {
		return nil
	}
	out := newArray(pgtype.TextOID, len(b.drafts), 32)
	for _, d := range b.drafts {
		if d.Key == "" {
			out = appendNull(out)
			continue
		}
		out = appendElement(out, d.Key)
	}
	return out
}

// attributeArray is the array of attributes: NULL for a draft without any, and nil when none has any.
func (b *batch) attributeArray() []byte {
	if b.attributes == 0 {
		return nil
	}
	out := newArray(pgtype.ByteaOID, len(b.drafts), 4+b.attributes/len(b.drafts)+1)
	for _, d := range b.drafts {
		if len(d.Attributes) == 0 {
			out = appendNull(out)
			continue
		}
		out = appendElement(out, d.Attributes)
	}
	return out
}

// arrayNulls is the place of the last byte of an array's flag that says whether it has a NULL.
const arrayNulls = 7

// newArray begins an array of one dimension with room for n elements of about size bytes each: the number of dimensions,
// whether there is a NULL, the type of the elements, their number, and the index of the first.
func newArray(oid uint32, n, size int) []byte {
	b := make([]byte, 0, 20+n*size)
	for _, v := range []uint32{1, 0, oid, uint32(n), 1} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func appendElement[T string | []byte](b []byte, v T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

// appendNull appends a NULL to an array.
func appendNull(b []byte) []byte {
	b[arrayNulls] = 1
	return binary.BigEndian.AppendUint32(b, 0xffffffff)
}

func int4s(values []int32) []byte {
	b := newArray(pgtype.Int4OID, len(values), 8)
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), uint32(v))
	}
	return b
}
