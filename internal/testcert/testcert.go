// Package testcert makes certificates for tests: each pair is its own authority, is valid for an hour, and for 127.0.0.1
// and localhost.
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Pair is a certificate with its key, in PEM.
type Pair struct {
	Cert, Key []byte
}

// New makes a pair. Pairs with different serial numbers can be told apart by Serial. It panics when the system has
// no random numbers, which does not happen.
func New(serial int64) Pair { return Until(serial, time.Now().Add(time.Hour)) }

// Until is New with the end of the certificate's validity.
func Until(serial int64, notAfter time.Time) Pair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "barrage test"},
		NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}
}

// TLS is the pair as crypto/tls takes it.
func (p Pair) TLS() tls.Certificate {
	c, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		panic(err)
	}
	return c
}

// Pool trusts the certificates of these pairs.
func Pool(pairs ...Pair) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, p := range pairs {
		pool.AppendCertsFromPEM(p.Cert)
	}
	return pool
}

// Client is the configuration of a client that trusts these pairs alone.
func Client(pairs ...Pair) *tls.Config { return &tls.Config{RootCAs: Pool(pairs...)} }

// Serial is the serial number of the certificate that a server showed.
func Serial(state tls.ConnectionState) int64 { return state.PeerCertificates[0].SerialNumber.Int64() }

// Write writes the pair into dir as cert.pem and key.pem, in place.
func (p Pair) Write(dir string) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	return certFile, keyFile, p.WriteTo(certFile, keyFile)
}

// WriteTo writes the pair into these two files, in place.
func (p Pair) WriteTo(certFile, keyFile string) error {
	if err := os.WriteFile(certFile, p.Cert, 0o600); err != nil {
		return err
	}
	return os.WriteFile(keyFile, p.Key, 0o600)
}
