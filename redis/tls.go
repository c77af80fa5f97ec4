package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/gobackplane/backplane/internal/tlsfiles"
)

// secure speaks TLS on a connection to addr.
func secure(ctx context.Context, files *tlsfiles.Files, conn net.Conn, addr string) (*tls.Conn, error) {
	config, err := files.Config(addr)
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
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return denied(err, "the server does not speak TLS on this port; write redis:// instead of rediss://, or the port for TLS")
	}
	if text := tlsfiles.Explain(err); text != "" {
		return denied(err, text)
	}
	return nil
}
