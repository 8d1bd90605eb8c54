package main

import (
	"encoding/json"
	"testing"
	"time"
)

func TestHistogramsMergeOverProcesses(t *testing.T) {
	var a, b histogram
	for i := range 100 {
		a.add(time.Duration(i) * time.Millisecond)
		b.add(time.Duration(i+100)*time.Millisecond + 500*time.Microsecond)
	}
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var back histogram
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	a.merge(back)
	if a.total != 200 || a.quantile(0.5) != 100 || a.quantile(0.99) != 198 || a.most != 199*time.Millisecond+500*time.Microsecond {
		t.Errorf("of 0 to 199 ms the median is 100, p99 is 198 and the maximum is exact: got %d values, %d, %d, %s",
			a.total, a.quantile(0.5), a.quantile(0.99), a.most)
	}
}
