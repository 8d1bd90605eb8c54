package journaltest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"barrage/journal"
	"barrage/proto"
)

// Benchmark measures acknowledged publishes through a Writer with 1, 16 and 256 publishers, each of which waits for its
// acknowledgement before it goes on, into 1 and into 100 channels.
func Benchmark(b *testing.B, open func(*testing.B) journal.Journal) {
	for _, channels := range []int{1, 100} {
		for _, publishers := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("channels=%d/publishers=%d", channels, publishers), func(b *testing.B) {
				j := open(b)
				defer j.Close()
				publish(b, j, channels, publishers)
			})
		}
	}
}

func publish(b *testing.B, j journal.Journal, channels, publishers int) {
	w := journal.NewWriter(j, journal.WriterOptions{})
	data := make([]byte, 128)
	b.ResetTimer()
	var work sync.WaitGroup
	for p := range publishers {
		work.Go(func() {
			name := fmt.Sprint("channel ", p%channels)
			acknowledged := make(chan error, 1)
			for range (b.N + publishers - 1) / publishers {
				draft := journal.Draft{Channel: name, User: "user", Client: "client", Data: data}
				if err := w.Publish(draft, func(_ journal.Stored, _ proto.Epoch, err error) { acknowledged <- err }); err != nil {
					b.Error(err)
					return
				}
				if err := <-acknowledged; err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "publishes/s")
	if err := w.Close(context.Background()); err != nil {
		b.Error(err)
	}
}
