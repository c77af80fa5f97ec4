package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/gobackplane/backplane/transport"
)

// What a session is for. The words are in the name that the server shows for the connection.
const (
	publishing  = "pub"
	subscribing = "sub"
	storing     = "store"
)

// session is one connection to a server that has let us in: a socket that we dialed, and a go-redis client that knows
// this socket and no other. The client logged in over it; it can neither dial nor retry. When the socket fails, the
// session is thrown away.
type session struct {
	addr   string
	sock   *socket
	client *goredis.Client
	role   role
}

// open dials addr, logs in, names the connection for the operator (best effort), and asks for the role. It takes no
// longer than the timeout of the transport.
func (b *bus) open(ctx context.Context, addr, purpose string) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	username, password, err := b.set.credentials(ctx)
	if err != nil {
		if errors.Is(err, transport.ErrDenied) {
			return nil, denied(err, "Credentials returned an error")
		}
		return nil, unavailable(err, "Credentials returned an error")
	}
	if username != "" && password == "" {
		return nil, denied(nil, "there is a user without a password; a user without one (nopass) is logged in with any")
	}
	sock, err := b.set.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	s := &session{addr: addr, sock: sock, client: b.client(sock, addr, username, password)}
	stop := context.AfterFunc(ctx, sock.abort)
	err = s.introduce(ctx, "backplane:"+b.cfg.Namespace+":"+string(b.cfg.Node)+":"+purpose)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		err = s.explain(ctx, err)
		s.close()
		return nil, err
	}
	sock.greeting = nil
	return s, nil
}

// openMaster is open for a server that must be one that may publish.
func (b *bus) openMaster(ctx context.Context, addr, purpose string) (*session, error) {
	s, err := b.open(ctx, addr, purpose)
	if err != nil {
		return nil, err
	}
	if err := s.role.err(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// connect dials, and speaks TLS where that is on.
func (s *settings) connect(ctx context.Context, addr string) (*socket, error) {
	raw, err := s.dial(ctx, s.network, addr)
	if err != nil {
		if explained := explainTLS(err); explained != nil { // a lent client's dialer speaks TLS itself
			return nil, explained
		}
		return nil, unavailable(err, "cannot connect")
	}
	w := &wire{Conn: raw}
	switch raw.(type) {
	case *net.TCPConn, *net.UnixConn:
		w.exact = true
	}
	sock := &socket{Conn: w, wire: w, greeting: make([]byte, 0, len("-DENIED"))}
	if s.tls != nil {
		secured, err := secure(ctx, s.tls, w, addr)
		if err != nil {
			sock.abort()
			return nil, err
		}
		sock.Conn = secured
	}
	return sock, nil
}

// client makes a go-redis client around a socket.
func (b *bus) client(sock *socket, addr, username, password string) *goredis.Client {
	const buffer = 4 << 10 // a login is short
	var used atomic.Bool
	return goredis.NewClient(&goredis.Options{
		Network: b.set.network, Addr: addr, Username: username, Password: password, OnConnect: b.set.onConnect,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, errGivenUp
			}
			return sock, nil
		},
		// One connection, which is used until it fails.
		PoolSize: 1, MaxActiveConns: 1, PipelinePoolSize: -1, PoolTimeout: b.timeout,
		MaxRetries: -1, DialerRetries: 1, ConnMaxIdleTime: -1,
		DialTimeout: b.timeout, ReadTimeout: b.timeout, WriteTimeout: b.timeout, ContextTimeoutEnabled: true,
		WriteBufferSize: buffer, ReadBufferSize: buffer,
		// RESP2 is all that pub/sub needs. With it nothing is sent that we did not ask for.
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// introduce makes go-redis log in, by its first commands.
func (s *session) introduce(ctx context.Context, name string) error {
	pipe := s.client.Pipeline()
	pipe.ClientSetName(ctx, name) // a user may lack the permission
	ask := pipe.Do(ctx, "role")
	ask.SetErr(errGivenUp)
	if _, err := pipe.Exec(ctx); errors.Is(ask.Err(), errGivenUp) { // no reply was read for it
		return err
	}
	var err error
	s.role, err = readRole(ctx, s.client, ask)
	return err
}

// explain makes the error for a failed introduction.
func (s *session) explain(ctx context.Context, err error) error {
	if ours, ok := errors.AsType[*failure](err); ok {
		return ours
	}
	if reply, ok := errors.AsType[goredis.Error](err); ok {
		return refusal(reply.Error())
	}
	switch first := string(s.sock.greeting); {
	case strings.HasPrefix(first, "\x15\x03"), strings.HasPrefix(first, "\x16\x03"):
		return denied(nil, "the server speaks TLS on this port; write rediss:// instead of redis://, or the port without TLS")
	case strings.HasPrefix(first, "HTTP/"):
		return denied(nil, "there is an HTTP server on this port")
	case first == "-DENIED":
		return denied(nil, "the server is in protected mode: it lets nobody in from other machines before a password is set")
	}
	if ended := ctx.Err(); ended != nil {
		return unavailable(ended, "the server at "+s.addr+" did not answer in time")
	}
	hint := " (if it is a port for TLS, write rediss:// instead of redis://)"
	if secured, ok := s.sock.Conn.(*tls.Conn); ok {
		// In TLS 1.3 a server refuses our certificate after the handshake, and we may have been writing meanwhile.
		if farewell := lastWord(secured); farewell != nil {
			return farewell
		}
		hint = " (if it demands a certificate, set CertFile and KeyFile)"
	}
	return unavailable(err, "the server at "+s.addr+" closed the connection instead of letting us in"+hint)
}

// lastWord reads what a server that closed the connection may have said before, and explains it; nil if it is nothing.
func lastWord(conn *tls.Conn) error {
	err := conn.SetReadDeadline(time.Now().Add(lastWordTimeout))
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	return explainTLS(err)
}

// lastWordTimeout is for reading what a server has said before it closed the connection: it has come already, or never
// will.
const lastWordTimeout = 100 * time.Millisecond

// close gives the connection up at once. It may be called concurrently with everything, and more than once.
func (s *session) close() {
	s.sock.abort()
	_ = s.client.Close()
}

// socket is a connection that we dialed. One goroutine at a time writes, and one reads.
type socket struct {
	net.Conn // what is read and written: the wire, or TLS on it

	wire     *wire
	greeting []byte // the first bytes received, until the session is open; then nil
}

// Read remembers how the server begins.
func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if room := cap(s.greeting) - len(s.greeting); room > 0 {
		s.greeting = append(s.greeting, p[:min(n, room)]...)
	}
	return n, err
}

// Close does nothing: go-redis calls it when it has seen an error, and what the server said last is still to be read. It
// is the session that aborts its socket.
func (*socket) Close() error { return nil }

// abort closes the connection at once, without the farewell of TLS, which could wait for a frozen server.
func (s *socket) abort() {
	conn := s.wire.Conn
	if secured, ok := conn.(*tls.Conn); ok { // of a lent client's dialer
		conn = secured.NetConn()
	}
	_ = conn.Close()
}

// wire is the connection that was dialed. It tells whether something left on it, so that a publish that surely was not
// sent can be told from one that may have been.
type wire struct {
	net.Conn

	exact bool         // nothing left when Write says so; of other kinds of connections that is not known
	sent  atomic.Int64 // bytes that left, or may have
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	switch {
	case n > 0:
		w.sent.Add(int64(n))
	case !w.exact:
		w.sent.Add(int64(len(p)))
	}
	return n, err
}
