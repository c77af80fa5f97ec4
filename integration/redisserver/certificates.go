package redisserver

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
	"time"
)

// authority signs the certificates of one server and its clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// makeCertificates writes an authority, a server certificate and a client certificate into the server's folder. A replica
// uses those of its master, which must accept each other.
func (s *Server) makeCertificates() error {
	if m := s.opts.ReplicaOf; m != nil {
		s.CAFile, s.CertFile, s.KeyFile, s.serverCert, s.serverKey = m.CAFile, m.CertFile, m.KeyFile, m.serverCert, m.serverKey
		return nil
	}
	ca, err := newAuthority(s.file("ca.crt"))
	if err != nil {
		return err
	}
	s.CAFile, s.CertFile, s.KeyFile = s.file("ca.crt"), s.file("client.crt"), s.file("client.key")
	s.serverCert, s.serverKey = s.file("server.crt"), s.file("server.key")
	if err := ca.issue("localhost", s.serverCert, s.serverKey); err != nil {
		return err
	}
	return ca.issue("client", s.CertFile, s.KeyFile)
}

// Authority is what CAFile holds, for a tls.Config.
func (s *Server) Authority() *x509.CertPool {
	s.t.Helper()
	pool := x509.NewCertPool()
	if certs, err := os.ReadFile(s.CAFile); err != nil || !pool.AppendCertsFromPEM(certs) {
		s.t.Fatalf("redisserver: authority: %v", err)
	}
	return pool
}

func newAuthority(certFile string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	template := newTemplate("redisserver test authority")
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
