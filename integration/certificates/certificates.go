// Package certificates makes what servers of tests need to speak TLS: an authority, and certificates of it.
package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Files are PEM files: an authority, a certificate for localhost and 127.0.0.1 with its key, and a client's.
type Files struct {
	CA                    string
	ServerCert, ServerKey string
	ClientCert, ClientKey string
}

// Make writes the files of a new authority into a folder that ends with the test.
func Make(t testing.TB) Files {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	f := Files{
		CA:         file("ca.crt"),
		ServerCert: file("server.crt"), ServerKey: file("server.key"),
		ClientCert: file("client.crt"), ClientKey: file("client.key"),
	}
	if err := f.write(); err != nil {
		t.Fatalf("certificates: %v", err)
	}
	return f
}

// Authority is what CA holds, for a tls.Config.
func (f Files) Authority(t testing.TB) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if certs, err := os.ReadFile(f.CA); err != nil || !pool.AppendCertsFromPEM(certs) {
		t.Fatalf("certificates: authority: %v", err)
	}
	return pool
}

func (f Files) write() error {
	ca, err := newAuthority(f.CA)
	if err != nil {
		return err
	}
	if err := ca.issue("localhost", f.ServerCert, f.ServerKey); err != nil {
		return err
	}
	return ca.issue("client", f.ClientCert, f.ClientKey)
}

// authority signs the certificates of one server and its clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(certFile string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	template := newTemplate("test authority")
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return &authority{cert: cert, key: key}, writePEM(certFile, "CERTIFICATE", der)
}

// issue writes a certificate for a name, and for 127.0.0.1, with its key.
func (a *authority) issue(name, certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	template := newTemplate(name)
	template.DNSNames = []string{name}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if err = writePEM(certFile, "CERTIFICATE", der); err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	return writePEM(keyFile, "PRIVATE KEY", private)
}

func newTemplate(name string) *x509.Certificate {
	const valid = 24 * time.Hour
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-valid),
		NotAfter:     now.Add(valid),
	}
}

func writePEM(file, kind string, der []byte) error {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", kind, err)
	}
	return nil
}
