package faultnet

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// heldBytes is how much a frozen connection accepts, as a kernel's send buffer would.
const heldBytes = 1 << 20

// conn is a connection of a link.
type conn struct {
	net.Conn // the real one

	link   *Link
	number int // its place in the order of dials; set before it is handed out

	closed    chan struct{}
	closeOnce sync.Once

	readDeadline, writeDeadline deadline

	readMu sync.Mutex
	ahead  []byte // guarded by readMu: read from the wire while the link was frozen, not handed out yet
	end    error  // guarded by readMu: what the wire ended with, behind ahead

	writeMu sync.Mutex // held by the writer that uses the wire or the held bytes
	heldMu  sync.Mutex
	held    []byte        // guarded by heldMu: accepted, not on the wire
	flusher chan struct{} // guarded by heldMu: closed when the flush under way ends; nil if there is none
	dead    error         // guarded by heldMu: why the connection was given up
	until   time.Time     // guarded by heldMu: the write deadline, which a flush does not have: it stands for the kernel
}

func newConn(l *Link, under net.Conn) *conn {
	return &conn{
		Conn: under, link: l, closed: make(chan struct{}),
		readDeadline: makeDeadline(), writeDeadline: makeDeadline(),
	}
}

// Read reads from the wire unless the link is frozen for this connection. What a read that was already under way gets
// while the link is frozen is kept back.
func (c *conn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for {
		if len(p) == 0 {
			return c.Conn.Read(p) //nolint:wrapcheck // the wire's own error
		}
		s, changed := c.link.look()
		if s.stopsReads(c.number) {
			if err := c.wait(changed, &c.readDeadline); err != nil {
				return 0, err
			}
			continue
		}
		if len(c.ahead) > 0 {
			n := copy(sipped(p, s.sip), c.ahead)
			c.ahead = c.ahead[n:]
			return n, nil
		}
		if c.end != nil {
			return 0, c.why(c.end)
		}
		n, err := c.Conn.Read(sipped(p, s.sip))
		if err != nil && (errors.Is(err, os.ErrDeadlineExceeded) || isClosed(c.closed)) {
			return n, c.why(err)
		}
		s, _ = c.link.look()
		if err == nil && s.delay == 0 && !s.stopsReads(c.number) {
			return n, nil
		}
		c.ahead, c.end = append(c.ahead, p[:n]...), err // an end travels no further than data does
		if s.delay > 0 {
			if err := c.pause(s.delay); err != nil {
				return 0, err
			}
		}
	}
}

// Write writes to the wire, or keeps what is written where the link is frozen for this connection.
func (c *conn) Write(p []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	written := 0
	for written < len(p) {
		s, changed := c.link.look()
		if c.hold(s.stopsWrites(c.number), p[written:], &written) {
			continue
		}
		if s.stopsWrites(c.number) || c.flushing() != nil { // full
			done := c.flushing()
			if done == nil {
				done = changed
			}
			if err := c.wait(done, &c.writeDeadline); err != nil {
				return written, err
			}
			continue
		}
		n, err := c.put(sipped(p[written:], s.sip))
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// put writes b to the wire, or as much of it as a tear allows.
func (c *conn) put(b []byte) (int, error) {
	allowed, torn := c.link.spend(len(b))
	n, err := c.Conn.Write(b[:allowed])
	if err != nil {
		return n, c.why(err)
	}
	if torn {
		c.reset()
		return n, errReset
	}
	return n, nil
}

// hold keeps as much of p as there is room for, if the connection is frozen or older bytes are still on their way out.
// It reports whether it took any.
func (c *conn) hold(frozen bool, p []byte, written *int) bool {
	c.heldMu.Lock()
	defer c.heldMu.Unlock()
	if c.dead != nil || !frozen && c.flusher == nil {
		return false
	}
	n := min(len(p), heldBytes-len(c.held))
	c.held = append(c.held, p[:n]...)
	*written += n
	return n > 0
}

func (c *conn) flushing() <-chan struct{} {
	c.heldMu.Lock()
	defer c.heldMu.Unlock()
	return c.flusher
}

// thaw starts to send what was held. The goroutine ends when all is sent or the connection is closed.
func (c *conn) thaw() {
	c.heldMu.Lock()
	defer c.heldMu.Unlock()
	if len(c.held) == 0 || c.flusher != nil || c.dead != nil {
		return
	}
	c.flusher = make(chan struct{})
	_ = c.Conn.SetWriteDeadline(time.Time{}) // fails if it was closed, which the flush will see
	go c.flush()
}

func (c *conn) flush() {
	for {
		s, _ := c.link.look()
		c.heldMu.Lock()
		if len(c.held) == 0 || c.dead != nil || s.stopsWrites(c.number) { // frozen again: the next Heal goes on
			_ = c.Conn.SetWriteDeadline(c.until)
			close(c.flusher)
			c.flusher = nil
			c.heldMu.Unlock()
			return
		}
		b := c.held
		c.held = nil
		c.heldMu.Unlock()
		if _, err := c.put(b); err != nil {
			c.reset()
		}
	}
}

// Close closes the connection. What was held is lost, as it would be behind a dead wire.
func (c *conn) Close() error {
	c.giveUp(net.ErrClosed)
	return c.Conn.Close() //nolint:wrapcheck // the wire's own error
}

// reset kills the connection, as seen from both ends.
func (c *conn) reset() {
	c.giveUp(errReset)
	reset(c.Conn)
}

func (c *conn) giveUp(err error) {
	c.closeOnce.Do(func() {
		c.heldMu.Lock()
		c.dead = err
		c.held = nil
		c.heldMu.Unlock()
		c.link.forget(c)
		close(c.closed)
	})
}

// why replaces the wire's error by what happened to the connection, if the link did it.
func (c *conn) why(err error) error {
	c.heldMu.Lock()
	defer c.heldMu.Unlock()
	if c.dead != nil {
		return c.dead
	}
	return err
}

// wait waits for a channel, the connection's end, or the deadline.
func (c *conn) wait(ch <-chan struct{}, d *deadline) error {
	select {
	case <-ch:
		return nil
	case <-c.closed:
		return c.why(net.ErrClosed)
	case <-d.passed():
		return os.ErrDeadlineExceeded
	}
}

func (c *conn) pause(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.closed:
		return c.why(net.ErrClosed)
	case <-c.readDeadline.passed():
		return os.ErrDeadlineExceeded
	}
}

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline bounds reads, also those that wait for a frozen link.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.readDeadline.set(t)
	return c.Conn.SetReadDeadline(t) //nolint:wrapcheck // the wire's own error
}

// SetWriteDeadline bounds writes, also those that wait for a frozen link.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeDeadline.set(t)
	c.heldMu.Lock()
	defer c.heldMu.Unlock()
	c.until = t
	if c.flusher != nil {
		return nil
	}
	return c.Conn.SetWriteDeadline(t) //nolint:wrapcheck // the wire's own error
}

func (s state) stopsReads(number int) bool  { return s.deaf || number <= s.frozen }
func (s state) stopsWrites(number int) bool { return s.mute || number <= s.frozen }

func sipped(p []byte, sip int) []byte {
	if sip > 0 && len(p) > sip {
		return p[:sip]
	}
	return p
}
