package redisserver

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

// try runs one command on a connection of its own. It speaks to the server in its own few lines, so that no client
// library with retries and pools stands between a test and what it asks for.
func (s *Server) try(patience time.Duration, args ...string) (any, error) {
	conn, err := s.dial(patience)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, fmt.Errorf("set the deadline: %w", err)
	}
	r := bufio.NewReader(conn)
	if s.opts.Password != "" {
		if _, err := exchange(conn, r, "AUTH", s.opts.Password); err != nil {
			return nil, err
		}
	}
	return exchange(conn, r, args...)
}

func (s *Server) dial(patience time.Duration) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: patience}
	if !s.opts.TLS {
		return dialer.Dial("tcp", s.Addr)
	}
	authority, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	cert, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the client certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	//nolint:noctx // bounded by patience
	return tls.DialWithDialer(dialer, "tcp", s.Addr, &tls.Config{
		RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
	})
}

func exchange(w io.Writer, r *bufio.Reader, args ...string) (any, error) {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := w.Write(b); err != nil {
		return nil, fmt.Errorf("write: %w", err)
	}
	return readReply(r)
}

// readReply reads one reply of RESP2.
func readReply(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	const shortest = len("+\r\n")
	if len(line) < shortest {
		return nil, fmt.Errorf("reply %q is too short", line)
	}
	kind, text := line[0], line[1:len(line)-2]
	switch kind {
	case '+':
		return text, nil
	case '-':
		return nil, errors.New(text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("reply %q: %w", line, err)
	}
	switch {
	case kind == ':':
		return n, nil
	case n < 0:
		return nil, nil //nolint:nilnil // the server's null
	case kind == '$':
		text := make([]byte, n+2)
		if _, err := io.ReadFull(r, text); err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		return string(text[:n]), nil
	case kind == '*':
		items := make([]any, 0, n)
		for range n {
			item, err := readReply(r)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		return items, nil
	default:
		return nil, fmt.Errorf("reply %q is of no known kind", line)
	}
}
