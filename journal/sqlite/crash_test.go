//go:build unix

package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"barrage/journal"
	"barrage/journal/sqlite"
	"barrage/proto"
)

// childVariable makes the test binary append to the journal it names, until it is killed.
const childVariable = "BARRAGE_TEST_SQLITE_CHILD"

func init() {
	if url := os.Getenv(childVariable); url != "" {
		appendForEver(url)
	}
}

// appendForEver prints each offset and key once they are acknowledged.
func appendForEver(url string) {
	j, err := sqlite.Open(context.Background(), url, quiet)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	for n := 0; ; n++ {
		var batch []journal.Draft
		for i := range 10 {
			key := fmt.Sprintf("%d-%d-%d", os.Getpid(), n, i)
			batch = append(batch, journal.Draft{Channel: "a", Key: key, Data: []byte(key)})
		}
		a, err := j.Append(context.Background(), batch)
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		for i, at := range a.Stored {
			fmt.Println(at.Offset, batch[i].Key)
		}
	}
}

func TestNothingAcknowledgedIsLostByKillingTheProcess(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	acknowledged := map[proto.Offset]string{}
	for range 3 {
		killAfter(t, url, 200, acknowledged)
	}
	j := open(t, url)
	next := proto.Offset(1)
	for {
		p, err := j.Read(t.Context(), "a", journal.Range{From: next})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Messages) == 0 {
			if p.Head != next-1 {
				t.Errorf("the head must be that of the last message %d, not %d", next-1, p.Head)
			}
			break
		}
		for _, m := range p.Messages {
			if m.Offset != next {
				t.Fatalf("offset %d must be next, not %d", next, m.Offset)
			}
			if key, ok := acknowledged[next]; ok && key != string(m.Data) {
				t.Errorf("offset %d was acknowledged to %s but holds %s", next, key, m.Data)
			}
			delete(acknowledged, next)
			next++
		}
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged messages are lost", len(acknowledged))
	}
}

// killAfter runs a child until it has acknowledged n messages, checks that it has the file to itself, and kills it.
func killAfter(t *testing.T, url string, n int, acknowledged map[proto.Offset]string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+url)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for seen := 0; lines.Scan(); seen++ {
		if strings.HasPrefix(lines.Text(), "error:") {
			t.Errorf("the child says %s", lines.Text())
		}
		if seen == n {
			wantRefused(t, url, journal.ErrInUse, "in use by another process; stop it")
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		var offset proto.Offset
		var key string
		if _, err := fmt.Sscan(lines.Text(), &offset, &key); err == nil {
			acknowledged[offset] = key
		}
	}
	_ = child.Wait() // it was killed
}
