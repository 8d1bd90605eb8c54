package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"barrage/internal/every"
	"barrage/internal/keypair"
)

// maxFileKeys bounds the keys of one file: a token is tried with each.
const maxFileKeys = 16

// keyFile is a PEM file with public keys. What it holds is read and compared every time, as package keypair does it for
// certificates: no time stamp or notification is relied on.
type keyFile struct {
	path string
	// keys are what was last good; seen identifies what the file holds, or why it cannot be read. Owner of both: Verifier.Run.
	keys []key
	seen every.Settled[[sha256.Size]byte]
}

// openKeyFile reads a file. The error says what to do.
func openKeyFile(path string) (*keyFile, error) {
	f := &keyFile{path: path}
	text, err := keypair.Read(path)
	if err != nil {
		return nil, err
	}
	f.seen = every.Settle(sha256.Sum256(text))
	f.keys, err = parsePublicKeys(path, text)
	return f, err
}

// look takes the keys that the file holds now; changed says whether they are others than before. A file that is half written is without
// keys that are still in it: it must hold the same at two looks. What cannot be used leaves those before in use, and is logged once.
func (f *keyFile) look(log *slog.Logger, stats *VerifierStats) (changed bool) {
	text, err := keypair.Read(f.path)
	now := sha256.Sum256(text)
	if err != nil {
		now = sha256.Sum256([]byte("error: " + err.Error()))
	}
	if !f.seen.Changed(now) {
		return false
	}
	var keys []key
	if err == nil {
		keys, err = parsePublicKeys(f.path, text)
	}
	if err != nil {
		stats.Failures.Add(1)
		log.Error("a changed file of auth.keys cannot be used; its keys from before stay in use", "error", err)
		return false
	}
	log.Info("the keys of a file are in use", "file", f.path, "keys", len(keys))
	f.keys = keys
	return true
}

// parsePublicKeys reads the public keys, and those of certificates, in a PEM file.
func parsePublicKeys(path string, text []byte) (keys []key, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		material, err := parsePublic(block)
		if err != nil {
			return nil, fmt.Errorf("the file %s cannot be used: %w", path, err)
		}
		k, err := publicKey(material)
		if err != nil {
			return nil, fmt.Errorf("the file %s cannot be used: %w", path, err)
		}
		keys = append(keys, k)
	}
	switch {
	case len(keys) == 0:
		return nil, fmt.Errorf("the file %s holds no public key in PEM; give the public key that belongs to the private one that "+
			"signs tokens", path)
	case len(keys) > maxFileKeys:
		return nil, fmt.Errorf("the file %s holds %d keys; at most %d are allowed", path, len(keys), maxFileKeys)
	}
	return keys, nil
}

func parsePublic(block *pem.Block) (any, error) {
	switch {
	case block.Type == "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, errors.New("it holds a private key, which only who signs tokens should have; make the public one of it with " +
			"openssl pkey -in FILE -pubout")
	}
	return nil, fmt.Errorf("it holds something else in PEM, %q; give public keys or certificates", block.Type)
}
