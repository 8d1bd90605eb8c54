package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"barrage/internal/testcert"
	"barrage/proto"
)

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	p, path := pairs(), filepath.Join(t.TempDir(), "keys.pem")
	one, other := publicPEM(t, p["p256"]), publicPEM(t, p["ed"])
	writeFile(t, path, one)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Keys{Files: []string{path}})
		byOne := sign(t, Signer{Key: p["p256"]}, map[string]any{"sub": "a"})
		byOther := sign(t, Signer{Key: p["ed"]}, map[string]any{"sub": "a"})
		w.run()
		change := func(when string, b []byte, first, second *proto.Error) {
			t.Helper()
			if b == nil {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				writeFile(t, path, b)
			}
			time.Sleep(3 * filesInterval)
			synctest.Wait()
			w.expect(when, byOne, first)
			w.expect(when, byOther, second)
		}
		change("at the start", one, nil, proto.ErrUnauthorized)
		change("with both keys", append(bytes.Clone(one), other...), nil, nil)
		change("with half a key", one[:len(one)/2], nil, nil)
		change("without a file", nil, nil, nil)
		change("with the new key alone", other, proto.ErrUnauthorized, nil)
		if n := strings.Count(w.logs.String(), "level=ERROR"); n != 2 || w.v.Stats.Failures.Load() != 2 {
			t.Errorf("each of 2 bad states of a file is logged and counted once, got %d in\n%s", n, w.logs.String())
		}
	})
}

func TestAFileThatIsHalfWrittenTakesNoKeyAway(t *testing.T) {
	p, path := pairs(), filepath.Join(t.TempDir(), "keys.pem")
	one, other := publicPEM(t, p["p256"]), publicPEM(t, p["ed"])
	both := append(bytes.Clone(one), other...)
	v := verifier(t, Keys{Files: []string{writeFile(t, path, both)}})
	byOther := sign(t, Signer{Key: p["ed"]}, map[string]any{"sub": "a"})
	expect := func(when string, want bool) {
		t.Helper()
		if _, err := v.Connection(byOther); (err == nil) != want {
			t.Errorf("%s a token of the second key is accepted: %v, got %v", when, want, err)
		}
	}
	for _, half := range [][]byte{nil, one, both[:len(one)+5]} {
		writeFile(t, path, half)
		v.look()
		expect("while the file is written", true)
		writeFile(t, path, both)
		v.look()
		v.look()
		expect("when the file is complete", true)
	}
	if n := v.Stats.Failures.Load(); n != 0 {
		t.Errorf("a file that is half written for a moment is no failure, %d were counted", n)
	}
	writeFile(t, path, one)
	v.look()
	expect("at the first look at a change", true)
	v.look()
	expect("at the second look at a change", false)
}

func TestAFileMayHoldACertificate(t *testing.T) {
	dir := t.TempDir()
	pair := testcert.New(1)
	cert, keyFile, err := pair.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ReadPrivateKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier(t, Keys{Files: []string{cert}}).Connection(sign(t, Signer{Key: private}, map[string]any{"sub": "a"})); err != nil {
		t.Errorf("a certificate's key is taken, got %v", err)
	}
}

func TestFilesThatCannotBeUsedAreRefusedWithWhatToDo(t *testing.T) {
	dir := t.TempDir()
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := x509.MarshalPKIXPublicKey(&p224.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for text, says := range map[string]string{
		"":                                   "holds no public key in PEM; give",
		"hello":                              "holds no public key in PEM; give",
		string(block("PUBLIC KEY", nil)):     "cannot be used: ",
		string(block("PUBLIC KEY", small)):   "an EC key must be on the curve P-256, P-384 or P-521",
		string(block("PRIVATE KEY", nil)):    "it holds a private key, which only who signs tokens should have; make the public one",
		string(block("EC PRIVATE KEY", nil)): "it holds a private key",
		string(block("X509 CRL", nil)):       `it holds something else in PEM, "X509 CRL"`,
		strings.Repeat(string(publicPEM(t, pairs()["ed"])), maxFileKeys+1): "holds 17 keys; at most 16 are allowed",
	} {
		path := writeFile(t, filepath.Join(dir, "key"), []byte(text))
		_, err := NewVerifier(Keys{Files: []string{path}}, VerifierOptions{Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.HasPrefix(err.Error(), "auth.keys: the file "+path) || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, got %v", says, err)
		}
	}
	for _, path := range []string{filepath.Join(dir, "none"), dir} {
		if _, err := NewVerifier(Keys{Files: []string{path}}, VerifierOptions{}); err == nil || !strings.Contains(err.Error(), "; give the path of a PEM file") {
			t.Errorf("%s cannot be read, got %v", path, err)
		}
	}
}
