package keypair

import (
	"bytes"
	"context"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"barrage/internal/testcert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// world is a pair that is open.
type world struct {
	t         *testing.T
	dir       string
	cert, key string
	logs      bytes.Buffer
	pair      *Pair
}

func open(t *testing.T, first testcert.Pair) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	var err error
	if w.cert, w.key, err = first.Write(w.dir); err != nil {
		t.Fatal(err)
	}
	if w.pair, err = Open(w.cert, w.key, slog.New(slog.NewTextHandler(&w.logs, nil))); err != nil {
		t.Fatalf("a pair that belongs together is opened: %v", err)
	}
	return w
}

// expect says what must be in use after a look at the files.
func (w *world) expect(serial int64, reloads, failures int64, when string) {
	w.t.Helper()
	w.pair.look()
	c, err := w.pair.GetCertificate(nil)
	if err != nil || c.Leaf.SerialNumber.Int64() != serial {
		w.t.Errorf("%s certificate %d is in use, not %d, %v", when, serial, c.Leaf.SerialNumber, err)
	}
	if got := w.pair.Reloads.Load(); got != reloads {
		w.t.Errorf("%s %d reloads are counted, not %d", when, reloads, got)
	}
	if got := w.pair.Failures.Load(); got != failures {
		w.t.Errorf("%s %d failures are counted, not %d", when, failures, got)
	}
	if got := strings.Count(w.logs.String(), "level=ERROR"); int64(got) != failures {
		w.t.Errorf("%s each of the %d bad states is logged once, not %d in\n%s", when, failures, got, w.logs.String())
	}
}

func TestAPairIsTakenAgainWhenItsFilesChange(t *testing.T) {
	t.Parallel()
	one, two, three := testcert.New(1), testcert.New(2), testcert.New(3)
	w := open(t, one)
	w.expect(1, 0, 0, "at the start")
	write(t, w.cert, two.Cert)
	w.expect(1, 0, 1, "with the certificate of one pair and the key of another")
	w.expect(1, 0, 1, "as long as nothing changes")
	write(t, w.key, two.Key[:len(two.Key)/2])
	w.expect(1, 0, 2, "with half a key")
	write(t, w.key, two.Key)
	w.expect(2, 1, 2, "when both have been written")
	if err := os.Remove(w.key); err != nil {
		t.Fatal(err)
	}
	w.expect(2, 1, 3, "without a key")
	write(t, w.key, two.Key)
	w.expect(2, 1, 3, "when the same key is back")

	for path, b := range map[string][]byte{w.cert: three.Cert, w.key: three.Key} {
		write(t, path+".new", b)
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	w.expect(3, 2, 3, "after a rename over both")
	if got := w.pair.Expires(); time.Until(got) > time.Hour || time.Until(got) < time.Hour/2 {
		t.Errorf("the end of the certificate in use is told, not %v", got)
	}
}

// Kubernetes mounts a secret as links into a folder that is itself a link, and swaps that one.
func TestALinkThatIsSwapped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, p := range map[string]testcert.Pair{"one": testcert.New(1), "two": testcert.New(2)} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.Write(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, "tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("one", "data")
	link("data/cert.pem", "cert.pem")
	link("data/key.pem", "key.pem")
	w := &world{t: t}
	var err error
	if w.pair, err = Open(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), slog.New(slog.NewTextHandler(&w.logs, nil))); err != nil {
		t.Fatal(err)
	}
	w.expect(1, 0, 0, "before the swap")
	link("two", "data")
	w.expect(2, 1, 0, "after the swap")
}

func TestWatchLooksAtIntervals(t *testing.T) {
	w := open(t, testcert.New(1))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			w.pair.Watch(ctx, 5*time.Second)
			close(done)
		}()
		if _, _, err := testcert.New(2).Write(w.dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if n := w.pair.Reloads.Load(); n != 1 {
			t.Errorf("the files are looked at every 5 s: %d reloads after 6 s", n)
		}
		cancel()
		<-done
	})
}

func TestAnExpiredCertificateIsUsedWithAWarning(t *testing.T) {
	t.Parallel()
	w := open(t, testcert.Until(1, time.Now().Add(-time.Minute)))
	if !strings.Contains(w.logs.String(), "has expired") {
		t.Errorf("an expired certificate is warned of, not only\n%s", w.logs.String())
	}
}

func TestWhatIsWrongIsSaidWithWhatToDo(t *testing.T) {
	t.Parallel()
	one, two := testcert.New(1), testcert.New(2)
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		write(t, path, b)
		return path
	}
	cert, key := file("cert", one.Cert), file("key", one.Key)
	locked := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	old := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "AES"}, Bytes: []byte("x")})
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})
	for _, tt := range []struct{ cert, key, says string }{
		{filepath.Join(dir, "none"), key, "tls.cert: the file " + filepath.Join(dir, "none") + " does not exist; give"},
		{cert, filepath.Join(dir, "none"), "tls.key: the file " + filepath.Join(dir, "none") + " does not exist; give"},
		{dir, key, "tls.cert: " + dir + " is no file; give"},
		{key, key, "tls.cert: the file " + key + " holds no certificate in PEM; give"},
		{file("empty", nil), key, "holds no certificate in PEM; give"},
		{file("broken", broken), key, "cannot be read: "},
		{file("large", make([]byte, maxFile+1)), key, "is larger than 1MiB; give"},
		{cert, cert, "tls.key: the file " + cert + " holds no private key in PEM; give"},
		{cert, file("other", two.Key), "cannot be used together: tls: private key does not match public key; give"},
		{cert, file("locked", locked), "needs a passphrase; remove it with openssl"},
		{cert, file("old", old), "needs a passphrase; remove it with openssl"},
	} {
		if err := Check(tt.cert, tt.key); err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Check says %q, not %v", tt.says, err)
		}
		if _, err := Open(tt.cert, tt.key, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("what Check refuses is not opened: %s, %s", tt.cert, tt.key)
		}
	}
	if err := Check(cert, key); err != nil {
		t.Errorf("a pair that belongs together is right, not %v", err)
	}
}
