package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"barrage/internal/keypair"
)

// Signer makes tokens. The server needs none: it is for the command line and for tests.
type Signer struct {
	// Key is a secret ([]byte), *rsa.PrivateKey, *ecdsa.PrivateKey or ed25519.PrivateKey.
	Key any
	// Algorithm is one that fits the key; empty for the usual one.
	Algorithm string
	// ID is the key's id in the header of tokens (kid); empty for none.
	ID string
}

// Sign makes a token of claims.
func (s Signer) Sign(claims map[string]any) (string, error) {
	usual, public := describeKey(s.Key)
	alg := s.Algorithm
	if alg == "" {
		alg = usual
	}
	if k := (key{material: public}); !slices.Contains(algorithms, alg) || !k.fits(alg) {
		return "", fmt.Errorf("%q is no algorithm for this key; there are %s, each for keys of its kind", alg, strings.Join(algorithms, ", "))
	}
	t := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims(claims))
	if s.ID != "" {
		t.Header["kid"] = s.ID
	}
	return t.SignedString(s.Key)
}

// describeKey gives the usual algorithm of a key that signs, and what its signatures are verified with.
func describeKey(k any) (alg string, public any) {
	switch k := k.(type) {
	case []byte:
		return "HS256", k
	case *rsa.PrivateKey:
		return "RS256", &k.PublicKey
	case *ecdsa.PrivateKey:
		return ecdsaAlgorithm(k.Curve), &k.PublicKey
	case ed25519.PrivateKey:
		return "EdDSA", k.Public()
	}
	return "", nil
}

// ReadPrivateKey reads the first private key of a PEM file, for a Signer. The error says what to do.
func ReadPrivateKey(path string) (any, error) {
	text, err := keypair.Read(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, fmt.Errorf("the file %s holds no private key in PEM; give the one that signs tokens", path)
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		k, err := parsePrivate(block)
		if err != nil {
			return nil, fmt.Errorf("the private key in %s cannot be used: %w", path, err)
		}
		if _, public := describeKey(k); public == nil {
			return nil, fmt.Errorf("the private key in %s is neither an RSA, an EC nor an Ed25519 key", path)
		}
		return k, nil
	}
}

func parsePrivate(block *pem.Block) (any, error) {
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, errors.New("it needs a passphrase; remove it with openssl pkey -in FILE -out FILE")
	case block.Type == "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	}
	return x509.ParsePKCS8PrivateKey(block.Bytes)
}
