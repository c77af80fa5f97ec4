package embedded

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
)

// routeTLS makes the TLS configuration of routes, reading its files anew for each connection, so that they can be renewed.
type routeTLS struct {
	base                      *tls.Config // nil for none
	caFile, certFile, keyFile string
	names                     []string // what a peer's certificate may be for
}

// routeTLS checks the options for TLS; nil for routes without.
func (o Options) routeTLS(peers []string) (*routeTLS, error) {
	if o.TLS == nil && o.CAFile == "" && o.CertFile == "" && o.KeyFile == "" && o.ServerName == "" {
		return nil, nil //nolint:nilnil // no TLS is no error
	}
	f := &routeTLS{caFile: o.CAFile, certFile: o.CertFile, keyFile: o.KeyFile}
	if o.TLS != nil {
		f.base = o.TLS.Clone()
	}
	hasCert := f.base != nil && (len(f.base.Certificates) > 0 || f.base.GetCertificate != nil && f.base.GetClientCertificate != nil)
	hasCA := f.base != nil && f.base.RootCAs != nil
	switch {
	case (f.certFile == "") != (f.keyFile == ""):
		return nil, invalid("CertFile and KeyFile go together; one of them is missing")
	case f.certFile == "" && !hasCert:
		return nil, invalid("CertFile and KeyFile are missing; both sides of a route present a certificate")
	case f.caFile == "" && !hasCA:
		return nil, invalid("CAFile is missing; write the authorities that sign the instances' certificates, not all that the system trusts")
	}
	switch {
	case o.ServerName != "":
		f.names = []string{o.ServerName}
	case f.base != nil && f.base.ServerName != "":
		f.names = []string{f.base.ServerName}
	default:
		for _, p := range peers {
			host, _, _ := net.SplitHostPort(p)
			if !slices.Contains(f.names, host) {
				f.names = append(f.names, host)
			}
		}
	}
	if _, err := f.authorities(); err != nil {
		return nil, unreadable("CAFile", err)
	}
	if f.certFile != "" {
		if _, err := f.certificate(); err != nil {
			return nil, unreadable("CertFile and KeyFile", err)
		}
	}
	return f, nil
}

// config returns a configuration for both sides of routes. Peers are verified by verify, in both roles: it knows the
// authorities of this moment, and the names that peers may have, while a route is made to an address, which is no name.
func (f *routeTLS) config() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.base != nil {
		c = f.base.Clone()
	}
	if f.certFile != "" {
		c.Certificates = nil
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.certificate() }
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.certificate() }
	}
	c.ServerName = ""
	c.ClientAuth = tls.RequireAnyClientCert
	c.InsecureSkipVerify = true
	server := c.Clone()
	server.VerifyConnection = func(s tls.ConnectionState) error { return f.verify(s, x509.ExtKeyUsageClientAuth, nil) }
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return server, nil }
	c.VerifyConnection = func(s tls.ConnectionState) error { return f.verify(s, x509.ExtKeyUsageServerAuth, f.names) }
	return c
}

// verify checks a peer's certificate: who signed it, what it may be used for, and, where names are given, that it is for
// one of them.
func (f *routeTLS) verify(s tls.ConnectionState, usage x509.ExtKeyUsage, names []string) error {
	roots, err := f.authorities()
	if err != nil {
		return err
	}
	if len(s.PeerCertificates) == 0 {
		return errors.New("the peer presents no certificate")
	}
	leaf := s.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
		return fmt.Errorf("CAFile: %w", err)
	}
	if usage == x509.ExtKeyUsageClientAuth {
		return nil
	}
	for _, name := range names {
		if leaf.VerifyHostname(name) == nil {
			return nil
		}
	}
	return fmt.Errorf("ServerName: the peer's certificate is for none of %q", names)
}

func (f *routeTLS) certificate() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
	return &cert, err
}

func (f *routeTLS) authorities() (*x509.CertPool, error) {
	if f.caFile == "" {
		return f.base.RootCAs, nil
	}
	pem, err := os.ReadFile(f.caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", f.caFile)
	}
	return pool, nil
}
