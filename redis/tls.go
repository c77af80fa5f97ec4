package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// tlsFiles makes TLS configurations, reading its files anew each time, so that they can be renewed.
type tlsFiles struct {
	base                                  *tls.Config // nil for none
	caFile, certFile, keyFile, serverName string
}

// config returns the configuration for an endpoint.
func (f *tlsFiles) config(addr string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.base != nil {
		c = f.base.Clone()
	}
	if f.caFile != "" {
		pem, err := os.ReadFile(f.caFile)
		if err != nil {
			return nil, fmt.Errorf("CAFile: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CAFile: %s holds no certificate in PEM form", f.caFile)
		}
	}
	switch {
	case f.certFile != "" && f.keyFile != "":
		cert, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
		if err != nil {
			return nil, fmt.Errorf("CertFile and KeyFile: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	case f.certFile != "" || f.keyFile != "":
		return nil, errors.New("CertFile and KeyFile go together; one of them is missing")
	}
	if f.serverName != "" {
		c.ServerName = f.serverName
	}
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(addr)
	}
	return c, nil
}

// secure speaks TLS on a connection to addr.
func (f *tlsFiles) secure(ctx context.Context, conn net.Conn, addr string) (*tls.Conn, error) {
	config, err := f.config(addr)
	if err != nil {
		return nil, denied(err, "TLS")
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		if explained := explainTLS(err); explained != nil {
			return nil, explained
		}
		return nil, unavailable(err, "no TLS with "+addr+" (if it is a port without TLS, write redis:// instead of rediss://)")
	}
	return secured, nil
}

// explainTLS makes the error for a failure of TLS that will not go away by itself, and nil for others.
func explainTLS(err error) error {
	var (
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &name):
		return denied(err, "the server's certificate is for another name; set ServerName to the name it is for")
	case errors.As(err, &authority):
		return denied(err, "the server's certificate is signed by an authority that is not trusted; set CAFile to the authority that signed it")
	case errors.As(err, &invalid):
		return denied(err, "the server's certificate is not valid")
	case errors.As(err, &record):
		return denied(err, "the server does not speak TLS on this port; write redis:// instead of rediss://, or the port for TLS")
	case errors.As(err, &op) && op.Op == "remote error" && strings.Contains(err.Error(), "certificate"):
		return denied(err, "the server does not accept our certificate; set CertFile and KeyFile to one that its authority signed")
	case errors.As(err, &op) && op.Op == "remote error":
		return denied(err, "the server ended the TLS handshake")
	}
	return nil
}
