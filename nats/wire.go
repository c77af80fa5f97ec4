package nats

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
)

// What may wait in the inbox. nats.go drops what finds it full, so reading stops long before: a read returns at most
// readSize bytes, under TLS a record more, and a message takes 13 bytes or more of them.
const (
	inboxSize = 16 << 10
	inboxMost = inboxSize / 2 // no read while more messages wait,
	waitMost  = 4 << 20       // or while some wait, and more bytes were read since none did
	readSize  = 32 << 10
)

// wire is the connection that was dialed, below TLS. It is read no faster than frames are taken, and it tells whether
// something may have left on it.
type wire struct {
	net.Conn

	l      *link
	sent   atomic.Int64  // bytes that left, or may have
	since  int           // bytes read since the inbox was empty; the reader's own
	wakeAt atomic.Int64  // the reader waits until no more messages than this wait; negative if it does not wait
	room   chan struct{} // wakes it; has room for one

	piped  bool   // a write lasts until it is read
	opened bool   // the login was written
	login  []byte // CONNECT, until PING follows
}

func newWire(l *link, conn net.Conn) *wire {
	w := &wire{Conn: conn, l: l, room: make(chan struct{}, 1)}
	w.wakeAt.Store(-1)
	return w
}

// Read waits until there is room for what it reads.
func (w *wire) Read(p []byte) (int, error) {
	for {
		wakeAt := 0
		switch waiting := len(w.l.inbox); {
		case waiting == 0:
			w.since = 0
			wakeAt = -1
		case waiting > inboxMost:
			wakeAt = inboxMost / 2
		case w.since <= waitMost:
			wakeAt = -1
		}
		if wakeAt < 0 {
			break
		}
		w.wakeAt.Store(int64(wakeAt))
		if len(w.l.inbox) <= wakeAt { // it was taken in between, and nobody will wake us
			w.wakeAt.Store(-1)
			continue
		}
		select {
		case <-w.room:
		case <-w.l.dead:
			return 0, net.ErrClosed
		}
	}
	n, err := w.Conn.Read(p[:min(len(p), readSize)])
	w.since += n
	return n, err
}

// taken wakes the reader, if what it waits for has come: something was taken from the inbox.
func (w *wire) taken() {
	if at := w.wakeAt.Load(); at >= 0 && len(w.l.inbox) <= int(at) && w.wakeAt.CompareAndSwap(at, -1) {
		select {
		case w.room <- struct{}{}:
		default:
		}
	}
}

// Write ends the link where it fails: nats.go goes on until a read fails as well.
func (w *wire) Write(p []byte) (int, error) {
	select {
	case <-w.l.dead:
		return 0, net.ErrClosed
	default:
	}
	if w.piped && !w.opened {
		return w.logIn(p)
	}
	w.sent.Add(int64(len(p)))
	n, err := w.Conn.Write(p)
	if err != nil {
		err = unavailable(err, "cannot write to the connection")
		w.l.end(err, false)
	}
	return n, err
}

// logIn writes CONNECT and PING at once, which nats.go gives one after the other. A server that refuses the one does not
// read the other, and says so, which we do not read while we write: on a pipe both would wait for ever.
func (w *wire) logIn(p []byte) (int, error) {
	w.login = append(w.login, p...)
	if w.opened = bytes.HasSuffix(p, []byte("PING\r\n")); !w.opened {
		return len(p), nil
	}
	_, err := w.Conn.Write(w.login)
	w.login = nil
	return len(p), err
}

// abort closes the connection at once, without the farewell of TLS, which could wait for a frozen server.
func (w *wire) abort() {
	conn := w.Conn
	if secured, ok := conn.(*tls.Conn); ok { // of a lent connection's dialer
		conn = secured.NetConn()
	}
	_ = conn.Close()
}

// dialer makes nats.go use our sockets, for one attempt to connect.
type dialer struct {
	ctx context.Context
	l   *link
	err error // why there is none
}

// Dial is a natsgo.CustomDialer's.
func (d *dialer) Dial(network, addr string) (net.Conn, error) {
	conn, err := d.l.bus.set.dial(d.ctx, network, addr)
	return d.keep(conn, false, err)
}

// InProcessConn is a natsgo.InProcessConnProvider's.
func (d *dialer) InProcessConn() (net.Conn, error) {
	conn, err := d.l.bus.set.inProcess.InProcessConn()
	return d.keep(conn, true, err)
}

// SkipTLSHandshake tells nats.go that Dial has done it.
func (d *dialer) SkipTLSHandshake() bool { return d.l.bus.set.skipTLS }

func (d *dialer) keep(conn net.Conn, piped bool, err error) (net.Conn, error) {
	if err != nil {
		d.err = err
		return nil, err
	}
	w := newWire(d.l, conn)
	w.piped = piped
	d.l.wire.Store(w)
	if err := d.ctx.Err(); err != nil { // who ends the attempt may have looked for the wire before
		w.abort()
		return nil, err
	}
	return w, nil
}
