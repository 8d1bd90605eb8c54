package brokertest

import (
	"fmt"
	"testing"
	"time"

	"barrage/broker"
)

func TestHubKeepsTheContract(t *testing.T) {
	h := NewHub(1, Faults{})
	defer h.Close()
	var joined []string
	Run(t, Setup{
		Limit: 10 * time.Second,
		Join: func(_ *testing.T, handler broker.Handler) broker.Broker {
			joined = append(joined, fmt.Sprint(len(joined)))
			return h.Join(joined[len(joined)-1], handler)
		},
		Interrupt: func(*testing.T) {
			for _, down := range []bool{true, false} {
				for _, id := range joined {
					h.SetDown(id, down)
				}
			}
		},
	})
}
