package trace

import (
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

var writeFlag = flag.Bool("write", false, "write testdata/traces/small.csv")

func TestMain(m *testing.M) {
	flag.Parse()
	if *writeFlag {
		f, err := os.Create("../../testdata/traces/small.csv")
		if err != nil {
			panic(err)
		}
		writeSmall(f)
		if err := f.Close(); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// writeSmall makes the small trace: a minute of a room in which something happens three times. Arrivals are a Poisson
// process of 3 messages a second, with bursts of up to 20 a second that fade within seconds; a few authors write
// most; lengths are log-normal around 25 bytes, bounded by 1 and 200.
func writeSmall(w io.Writer) {
	r := rand.New(rand.NewPCG(12, 57))
	fmt.Fprintln(w, header)
	for ms := 0.0; ms < 60_000; {
		author := 1 + int(60*math.Pow(r.Float64(), 2.5))
		size := min(200, max(1, int(math.Exp(3.2+0.9*r.NormFloat64()))))
		fmt.Fprintf(w, "%d,%d,%d\n", int(ms), author, size)
		rate := 3.0
		for _, burst := range []float64{10_000, 31_000, 47_000} {
			if ms >= burst {
				rate += 20 * math.Exp((burst-ms)/2500)
			}
		}
		ms += 1000 * r.ExpFloat64() / rate
	}
}
