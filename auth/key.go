package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
)

// algorithms are those that tokens may be signed with. "none" never is one.
var algorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// minRSABits is the size of the smallest RSA key that is accepted (RFC 7518, section 3.3).
const minRSABits = 2048

// key is one that tokens may be signed with. It is immutable.
type key struct {
	// material is a secret ([]byte), *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey.
	material any
	// id is what tokens call it (kid), alg the only algorithm that it is for; empty for anything.
	id, alg string
}

// fits says whether a signature by alg may be verified with the key. It decides by the key's own type, so that nothing a token
// says can make a public key serve as a secret.
func (k *key) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch m := k.material.(type) {
	case []byte:
		return strings.HasPrefix(alg, "HS")
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return alg == ecdsaAlgorithm(m.Curve)
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// ecdsaAlgorithm is the only algorithm for keys of a curve; empty when there is none.
func ecdsaAlgorithm(c elliptic.Curve) string {
	switch c {
	case elliptic.P256():
		return "ES256"
	case elliptic.P384():
		return "ES384"
	case elliptic.P521():
		return "ES512"
	}
	return ""
}

// publicKey makes a key of a public one, if it is of a kind and size that is accepted.
func publicKey(material any) (key, error) {
	switch m := material.(type) {
	case *rsa.PublicKey:
		if m.N.BitLen() < minRSABits {
			return key{}, fmt.Errorf("an RSA key needs %d bits or more, and this one has %d", minRSABits, m.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if ecdsaAlgorithm(m.Curve) == "" {
			return key{}, errors.New("an EC key must be on the curve P-256, P-384 or P-521")
		}
		if _, err := m.ECDH(); err != nil {
			return key{}, errors.New("the EC key is no point of its curve")
		}
	case ed25519.PublicKey:
		if len(m) != ed25519.PublicKeySize {
			return key{}, errors.New("an Ed25519 key must have 32 bytes")
		}
	default:
		return key{}, errors.New("it is neither an RSA, an EC nor an Ed25519 key")
	}
	return key{material: material}, nil
}
