// Package keypair keeps a TLS certificate and its key, from two PEM files, in use, and takes them again when the files
// change.
//
// What the files hold is read every time and compared: no time stamp, inode or notification is relied on, so that writing
// in place, renaming a new file over the old one, and swapping a symbolic link (as Kubernetes does for secrets) all work,
// on every file system. A pair that cannot be used, because it is half written, does not belong together or is missing,
// leaves the one before in use; it is logged once for each such state of the files, and counted.
package keypair

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"barrage/internal/every"
)

// maxFile bounds each of the files, in bytes.
const maxFile = 1 << 20

// Pair is a certificate with its key. Its methods may be called from any goroutine.
type Pair struct {
	// Reloads counts the pairs taken after the first, Failures the states of the files that could not be used.
	Reloads, Failures atomic.Int64

	certFile, keyFile string
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]
	seen              state // owner: Watch; of the files, when they were last looked at
}

// state identifies what two files hold, or why they cannot be read.
type state [sha256.Size]byte

// Open reads a pair. The error says what to do, and begins with the setting (tls.cert or tls.key) that it is about.
func Open(certFile, keyFile string, log *slog.Logger) (*Pair, error) {
	p := &Pair{certFile: certFile, keyFile: keyFile, log: log}
	cert, seen, err := p.load()
	if err != nil {
		return nil, err
	}
	p.seen = seen
	p.use(cert)
	return p, nil
}

// Check says whether Open would work.
func Check(certFile, keyFile string) error {
	_, _, err := (&Pair{certFile: certFile, keyFile: keyFile}).load()
	return err
}

// Watch looks at the files again and again until ctx ends. It is called once.
func (p *Pair) Watch(ctx context.Context, interval time.Duration) {
	every.Interval(ctx, interval, p.look)
}

// look takes the pair that the files hold now, when they have changed and it can be used.
func (p *Pair) look() {
	cert, now, err := p.load()
	if now == p.seen {
		return
	}
	p.seen = now
	if err != nil {
		p.Failures.Add(1)
		p.log.Error("the changed certificate cannot be used; the one before stays in use", "error", err)
		return
	}
	if p.current.Load().Leaf.Equal(cert.Leaf) {
		p.use(cert) // the chain may have changed, or a bad state of the files is over
		return
	}
	p.Reloads.Add(1)
	p.use(cert)
	p.log.Info("a new certificate is in use", "expires", cert.Leaf.NotAfter)
}

func (p *Pair) use(cert *tls.Certificate) {
	if time.Now().After(cert.Leaf.NotAfter) {
		p.log.Warn("the certificate has expired; clients will refuse it", "file", p.certFile, "expired", cert.Leaf.NotAfter)
	}
	p.current.Store(cert)
}

// GetCertificate is for tls.Config: the certificate that is in use.
func (p *Pair) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return p.current.Load(), nil
}

// Expires is when the certificate that is in use ends to be valid.
func (p *Pair) Expires() time.Time { return p.current.Load().Leaf.NotAfter }

// load reads the pair. The state is right whatever the error is.
func (p *Pair) load() (*tls.Certificate, state, error) {
	cert, certErr := Read(p.certFile)
	key, keyErr := Read(p.keyFile)
	h := sha256.New()
	for _, part := range []string{string(cert), text(certErr), string(key), text(keyErr)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	seen := state(h.Sum(nil))
	switch {
	case certErr != nil:
		return nil, seen, fmt.Errorf("tls.cert: %w", certErr)
	case keyErr != nil:
		return nil, seen, fmt.Errorf("tls.key: %w", keyErr)
	}
	pair, err := p.parse(cert, key)
	return pair, seen, err
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Read reads a PEM file of at most 1 MiB. The error says what to do.
func Read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the file %s does not exist; give the path of a PEM file", path)
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file; give the path of a PEM file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("the file %s is larger than 1MiB; give the path of a PEM file", path)
	}
	return b, nil
}

func unreadable(path string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return fmt.Errorf("the file %s cannot be read: %w; let the user that runs barrage read it", path, err)
}

// parse makes the pair, with sentences for what people get wrong.
func (p *Pair) parse(cert, key []byte) (*tls.Certificate, error) {
	block := first(cert, "CERTIFICATE")
	if block == nil {
		return nil, fmt.Errorf("tls.cert: the file %s holds no certificate in PEM; give the server's certificate, followed by those "+
			"between it and its authority", p.certFile)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("tls.cert: the certificate in %s cannot be read: %w; ask for a new one", p.certFile, err)
	}
	block = first(key, "PRIVATE KEY")
	switch {
	case block == nil:
		return nil, fmt.Errorf("tls.key: the file %s holds no private key in PEM; give the key that the certificate was made for", p.keyFile)
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, fmt.Errorf("tls.key: the key in %s needs a passphrase; remove it with openssl pkey -in %s -out FILE", p.keyFile, p.keyFile)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls.key: the key in %s and the certificate in %s cannot be used together: %w; give the key that the "+
			"certificate was made for", p.keyFile, p.certFile, err)
	}
	return &pair, nil
}

// first is the first PEM block whose type ends with this; nil when there is none.
func first(text []byte, kind string) *pem.Block {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil || strings.HasSuffix(block.Type, kind) {
			return block
		}
	}
}
