// Package tlsfiles makes TLS configurations from files that may be renewed, and explains why TLS failed, for the
// transports that dial.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// Files are what a configuration is made of. Its files are read anew each time.
type Files struct {
	Base                                  *tls.Config // nil for none
	CAFile, CertFile, KeyFile, ServerName string
}

// Empty reports whether nothing is set: whoever wants TLS all the same says so elsewhere.
func (f *Files) Empty() bool { return *f == Files{} }

// Config returns the configuration for an endpoint, "host:port".
func (f *Files) Config(addr string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.Base != nil {
		c = f.Base.Clone()
	}
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CAFile: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CAFile: %s holds no certificate in PEM form", f.CAFile)
		}
	}
	switch {
	case f.CertFile != "" && f.KeyFile != "":
		cert, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("CertFile and KeyFile: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	case f.CertFile != "" || f.KeyFile != "":
		return nil, errors.New("CertFile and KeyFile go together; one of them is missing")
	}
	if f.ServerName != "" {
		c.ServerName = f.ServerName
	}
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(addr)
	}
	return c, nil
}

// Explain says what is wrong, and what helps, where TLS failed for a reason that will not go away by itself; it returns
// "" for others.
func Explain(err error) string {
	var (
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &name):
		return "the server's certificate is for another name; set ServerName to the name it is for"
	case errors.As(err, &authority):
		return "the server's certificate is signed by an authority that is not trusted; set CAFile to the authority that signed it"
	case errors.As(err, &invalid):
		return "the server's certificate is not valid"
	case errors.As(err, &op) && op.Op == "remote error" && strings.Contains(err.Error(), "certificate"):
		return "the server does not accept our certificate; set CertFile and KeyFile to one that its authority signed"
	case errors.As(err, &op) && op.Op == "remote error":
		return "the server ended the TLS handshake"
	}
	return ""
}
