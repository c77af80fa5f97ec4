package embedded

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// refusal is a peer that answers and will not have a route with us, or we not with it, until a setting changes.
type refusal struct {
	addr    string
	setting string // the Options field to look at
	text    string
	cause   error // may be nil
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("%s: the peer at %s %s", r.setting, r.addr, r.text)
	if r.cause != nil {
		text += ": " + r.cause.Error()
	}
	return text
}

// probe asks a peer whether it would have a route with us, without making one: the server tells neither the side that
// connects nor its owner why a route was closed. It goes as far as the login, and is over before the exchange with which
// servers register each other. A *refusal: it would not. Other errors mean that nobody answers there.
func (m *mesh) probe(ctx context.Context, addr string) (*server.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, step)
	defer cancel()
	h, err := m.introduce(ctx, addr)
	switch {
	case err == nil, errors.Is(err, context.DeadlineExceeded):
	case m.tls != nil:
		err = refusedTLS(addr, err)
	case (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) && speaksTLS(ctx, addr): // one that does hangs up without a word
		err = &refusal{addr: addr, setting: "CertFile", text: "speaks TLS, and this instance does not; all use it or none"}
	}
	return h, err
}

// introduce connects to a peer and logs in there.
func (m *mesh) introduce(ctx context.Context, addr string) (*server.Info, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if m.tls != nil {
		secured := tls.Client(conn, m.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secured
	}
	if _, err := io.WriteString(conn, m.login); err != nil {
		return nil, err
	}
	return m.answer(addr, bufio.NewReader(conn))
}

// speaksTLS reports whether a server answers to TLS, be it with a refusal.
func speaksTLS(ctx context.Context, addr string) (speaks bool) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	err = tls.Client(conn, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // nothing is sent over it
		VerifyConnection:   func(tls.ConnectionState) error { speaks = true; return nil },
	}).HandshakeContext(ctx)
	alert, ok := errors.AsType[*net.OpError](err)
	return speaks || ok && alert.Op == "remote error"
}

// login is what probes send: the form is that of routes, the last line makes the server answer.
func login(name, cluster, password string) string { // all of plain characters
	return fmt.Sprintf("CONNECT {\"user\":%q,\"pass\":%q,\"name\":%q,\"cluster\":%q,\"echo\":true,\"headers\":true}\r\nPING\r\n",
		username, password, name, cluster)
}

// answer reads what a peer says: who it is, and then what it thinks of our login.
func (m *mesh) answer(addr string, r *bufio.Reader) (*server.Info, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(line, "INFO ")
	h := &server.Info{}
	if !ok || json.Unmarshal([]byte(text), h) != nil || h.ID == "" {
		return nil, &refusal{addr: addr, setting: "Peers", text: "is not a NATS server; write the port that it gives as Listen"}
	}
	switch {
	case h.ID == m.id:
		return h, nil
	case h.Cluster == "":
		return nil, &refusal{addr: addr, setting: "Peers", text: "is a NATS server's port for clients; write the port that it gives as Listen"}
	case h.Cluster != m.set.cluster:
		return nil, &refusal{addr: addr, setting: "Cluster", text: fmt.Sprintf("is of the cluster %q, and this instance of %q", h.Cluster, m.set.cluster)}
	case h.Name == m.set.name:
		return nil, &refusal{addr: addr, setting: "Name", text: fmt.Sprintf("has the name %q as well; each instance needs its own", h.Name)}
	}
	for {
		line, err := r.ReadString('\n')
		switch {
		case strings.HasPrefix(line, "PONG"):
			return h, nil
		case strings.HasPrefix(line, "-ERR 'Authorization"), strings.HasPrefix(line, "-ERR 'Authentication"):
			return nil, &refusal{addr: addr, setting: "Secret", text: "has another secret"}
		case strings.HasPrefix(line, "-ERR"):
			return nil, &refusal{addr: addr, setting: "Cluster", text: "refuses a route", cause: errors.New(strings.TrimSpace(line))}
		case err != nil:
			return nil, err
		}
	}
}

// refusedTLS tells a peer that will not do from one that does not answer.
func refusedTLS(addr string, err error) error {
	var (
		refused *refusal
		record  tls.RecordHeaderError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &refused):
		return err
	case errors.As(err, &record):
		return &refusal{addr: addr, setting: "CertFile", text: "does not speak TLS, and this instance does; all use it or none"}
	case errors.As(err, &op) && op.Op == "remote error":
		return &refusal{addr: addr, setting: "CertFile", text: "does not accept our certificate", cause: err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, io.EOF):
		return err
	case errors.As(err, &op):
		return err
	}
	return &refusal{addr: addr, setting: "CAFile or ServerName", text: "has a certificate that does not fit", cause: err}
}
