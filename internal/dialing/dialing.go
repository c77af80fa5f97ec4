// Package dialing has what transports that dial do alike: they read the URL that names their broker ([Form]), complete
// addresses ([Endpoint]), and use dialers that may not return ([Abandon]).
//
// Errors say what to write instead, and show no part of a URL that may be a secret. Those of net/url do, so they are not
// wrapped. They have no class and do not name the transport: it does.
package dialing

import (
	"context"
	"net"
	"strconv"
	"strings"
)

// Endpoint completes "host", "[v6]", "host:port" and "[v6]:port" with a port, and checks it.
func Endpoint(text, port string) (addr string, ok bool) {
	host, given, err := net.SplitHostPort(text)
	switch {
	case err == nil:
		port = given
	case strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]"):
		host = text[1 : len(text)-1]
	case strings.ContainsAny(text, "[]:"):
		return "", false
	default:
		host = text
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/?#@ \t\r\n,=[]") {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

// Abandon calls a dialer that may not know of ctx, and returns when ctx ends. Its goroutine ends with the dial; a connection
// that comes too late is closed.
func Abandon(ctx context.Context, dial func() (net.Conn, error)) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	dialed := make(chan result)
	go func() {
		conn, err := dial()
		select {
		case dialed <- result{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				_ = conn.Close()
			}
		}
	}()
	select {
	case r := <-dialed:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
