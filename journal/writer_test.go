package journal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"barrage/journal"
	"barrage/proto"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slow is a journal whose Append takes a second and answers what fail says.
type slow struct {
	journal.Journal // nil: nothing but Append is used
	fail            func(drafts []journal.Draft) error

	mu      sync.Mutex
	batches [][]string // the data of each batch tried
	heads   map[string]proto.Offset
}

func (j *slow) Append(ctx context.Context, drafts []journal.Draft) (journal.Appended, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return journal.Appended{}, fmt.Errorf("%w: %w", journal.ErrUncertain, ctx.Err())
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var texts []string
	for _, d := range drafts {
		texts = append(texts, string(d.Data))
	}
	j.batches = append(j.batches, texts)
	if j.fail != nil {
		if err := j.fail(drafts); err != nil {
			return journal.Appended{}, err
		}
	}
	a := journal.Appended{Epoch: "e"}
	for _, d := range drafts {
		if j.heads == nil {
			j.heads = map[string]proto.Offset{}
		}
		j.heads[d.Channel]++
		a.Stored = append(a.Stored, journal.Stored{Offset: j.heads[d.Channel]})
	}
	return a, nil
}

// outcomes collects what Done was told, by the draft's data.
type outcomes struct {
	mu     sync.Mutex
	errs   map[string]error
	at     map[string]proto.Offset
	events []string
}

func (o *outcomes) publish(t *testing.T, w *journal.Writer, channel, data string) {
	t.Helper()
	err := w.Publish(journal.Draft{Channel: channel, Data: []byte(data)}, func(s journal.Stored, _ proto.Epoch, err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.errs == nil {
			o.errs, o.at = map[string]error{}, map[string]proto.Offset{}
		}
		if _, twice := o.errs[data]; twice {
			t.Errorf("draft %s must be answered once", data)
		}
		o.errs[data], o.at[data] = err, s.Offset
		o.events = append(o.events, "done "+data)
	})
	if err != nil {
		t.Fatalf("publish %s: %v", data, err)
	}
}

func closeWriter(t *testing.T, w *journal.Writer) {
	t.Helper()
	if err := w.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestWhatQueuedDuringACommitIsTheNextBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, o := &slow{}, &outcomes{}
		w := journal.NewWriter(j, journal.WriterOptions{Committed: func(b journal.Batch) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.events = append(o.events, fmt.Sprint("committed ", len(b.Drafts)))
		}})
		start := time.Now()
		o.publish(t, w, "a", "1")
		synctest.Wait()
		o.publish(t, w, "a", "2")
		o.publish(t, w, "b", "3")
		closeWriter(t, w)
		if want := [][]string{{"1"}, {"2", "3"}}; !slices.EqualFunc(j.batches, want, slices.Equal) {
			t.Errorf("batches must be %v, not %v", want, j.batches)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("two commits of a second each must take 2 s without any wait, not %s", took)
		}
		want := []string{"committed 1", "done 1", "committed 2", "done 2", "done 3"}
		if !slices.Equal(o.events, want) {
			t.Errorf("the order must be %v, not %v", want, o.events)
		}
		if s := w.Stats(); s.Queued != 0 || s.QueuedBytes != 0 || s.Batches != 2 || s.Messages != 3 || s.LastBatch != 2 {
			t.Errorf("the counters must say 2 batches of 3 messages and nothing queued, not %+v", s)
		}
	})
}

func TestBatchesAreAtMostMaxBatchAndKeepTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, o := &slow{}, &outcomes{}
		w := journal.NewWriter(j, journal.WriterOptions{Lanes: 3})
		for i := range 3 * journal.MaxBatch {
			o.publish(t, w, "a", fmt.Sprint(i))
		}
		closeWriter(t, w)
		for i := range 3 * journal.MaxBatch {
			if o.at[fmt.Sprint(i)] != proto.Offset(i+1) {
				t.Fatalf("draft %d of a channel must be offset %d, not %d", i, i+1, o.at[fmt.Sprint(i)])
			}
		}
		for _, b := range j.batches {
			if len(b) > journal.MaxBatch {
				t.Errorf("a batch must have at most %d drafts, not %d", journal.MaxBatch, len(b))
			}
		}
	})
}

func TestAPoisonousDraftFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		poison := errors.New("poison")
		j, o := &slow{}, &outcomes{}
		j.fail = func(drafts []journal.Draft) error {
			for _, d := range drafts {
				if string(d.Data) == "bad" {
					return poison
				}
			}
			return nil
		}
		w := journal.NewWriter(j, journal.WriterOptions{})
		o.publish(t, w, "a", "first")
		synctest.Wait()
		for i := range 100 {
			if i == 37 {
				o.publish(t, w, "a", "bad")
			}
			o.publish(t, w, "a", fmt.Sprint(i))
		}
		closeWriter(t, w)
		if !errors.Is(o.errs["bad"], poison) {
			t.Errorf("the poisonous draft must fail with its error, not %v", o.errs["bad"])
		}
		for i := range 100 {
			if err := o.errs[fmt.Sprint(i)]; err != nil || o.at[fmt.Sprint(i)] != proto.Offset(i+2) {
				t.Fatalf("its neighbour %d must be stored in order as %d, not %d, %v", i, i+2, o.at[fmt.Sprint(i)], err)
			}
		}
		if s := w.Stats(); s.Failed != 1 || s.Messages != 101 {
			t.Errorf("1 must have failed and 101 been stored, not %+v", s)
		}
	})
}

func TestAnUnavailableJournalFailsTheBatchOnce(t *testing.T) {
	for _, kind := range []error{journal.ErrUnavailable, journal.ErrUncertain} {
		synctest.Test(t, func(t *testing.T) {
			j, o := &slow{}, &outcomes{}
			j.fail = func([]journal.Draft) error {
				if len(j.batches) == 2 {
					return fmt.Errorf("%w: for a while", kind)
				}
				return nil
			}
			var observed []int
			w := journal.NewWriter(j, journal.WriterOptions{Observe: func(n int, took time.Duration, err error) {
				if took != time.Second {
					t.Errorf("an append of a second must be observed as that, not %s", took)
				}
				observed = append(observed, n)
			}})
			o.publish(t, w, "a", "1")
			synctest.Wait()
			o.publish(t, w, "a", "2")
			o.publish(t, w, "a", "3")
			time.Sleep(1500 * time.Millisecond)
			o.publish(t, w, "a", "4")
			closeWriter(t, w)
			if !errors.Is(o.errs["2"], kind) || !errors.Is(o.errs["3"], kind) || o.errs["1"] != nil || o.errs["4"] != nil {
				t.Errorf("only 2 and 3 must fail with %v: %v", kind, o.errs)
			}
			if !slices.Equal(observed, []int{1, 2, 1}) {
				t.Errorf("appends must be observed as 1, 2, 1, not %v", observed)
			}
		})
	}
}

func TestAFullQueueRefusesAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outcomes{}
		w := journal.NewWriter(&slow{}, journal.WriterOptions{QueueLimit: 2})
		o.publish(t, w, "a", "1")
		o.publish(t, w, "a", "2")
		never := func(journal.Stored, proto.Epoch, error) { t.Error("a refused draft must not be answered") }
		if err := w.Publish(journal.Draft{Channel: "a"}, never); !errors.Is(err, journal.ErrQueueFull) {
			t.Errorf("a third draft in a queue of 2 must be refused, not %v", err)
		}
		time.Sleep(3 * time.Second)
		o.publish(t, w, "a", "3")
		closeWriter(t, w)
		if s := w.Stats(); s.Refused != 1 || s.Messages != 3 {
			t.Errorf("1 must be refused and 3 stored, not %+v", s)
		}

		w = journal.NewWriter(&slow{}, journal.WriterOptions{QueueBytes: 1000})
		if err := w.Publish(journal.Draft{Channel: "a", Data: make([]byte, 1000)}, never); !errors.Is(err, journal.ErrQueueFull) {
			t.Errorf("a draft that is larger than the queue must be refused, not %v", err)
		}
		o.publish(t, w, "a", "4")
		closeWriter(t, w)
		if err := w.Publish(journal.Draft{Channel: "a"}, never); !errors.Is(err, journal.ErrClosed) {
			t.Errorf("a closed writer must refuse, not %v", err)
		}
		if s := w.Stats(); s.Queued != 0 || s.QueuedBytes != 0 {
			t.Errorf("nothing must be left, not %+v", s)
		}
	})
}

func TestCloseGivesUpWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outcomes{}
		w := journal.NewWriter(&slow{}, journal.WriterOptions{})
		o.publish(t, w, "a", "under way")
		synctest.Wait()
		o.publish(t, w, "a", "queued")
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close must return its context's error, not %v", err)
		}
		synctest.Wait()
		if !errors.Is(o.errs["under way"], journal.ErrUncertain) || !errors.Is(o.errs["queued"], journal.ErrClosed) {
			t.Errorf("the batch under way must be uncertain and the queue closed: %v", o.errs)
		}
	})
}

func TestAnAppendHasATimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outcomes{}
		w := journal.NewWriter(&slow{}, journal.WriterOptions{AppendTimeout: time.Millisecond})
		o.publish(t, w, "a", "1")
		closeWriter(t, w)
		if !errors.Is(o.errs["1"], context.DeadlineExceeded) {
			t.Errorf("an append over its time must fail with that, not %v", o.errs["1"])
		}
	})
}

func TestGroupsAreByChannelWithoutRepeats(t *testing.T) {
	b := journal.Batch{
		Drafts: []journal.Draft{{Channel: "b", User: "u"}, {Channel: "a"}, {Channel: "b"}, {Channel: "b"}, {Channel: "c"}},
		Stored: []journal.Stored{{Offset: 4, Time: 9}, {Offset: 1}, {Offset: 2, Repeated: true}, {Offset: 5}, {Offset: 1, Repeated: true}},
	}
	got := b.Groups()
	if len(got) != 2 || got[0].Channel != "b" || got[1].Channel != "a" {
		t.Fatalf("the groups must be b and a, not %+v", got)
	}
	if m := got[0].Messages; len(m) != 2 || m[0].Offset != 4 || m[0].User != "u" || m[0].Time != 9 || m[1].Offset != 5 {
		t.Errorf("group b must hold 4 and 5, not %+v", m)
	}
}
