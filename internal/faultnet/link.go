// Package faultnet makes network connections fail on command. A [Link] stands for all that connects one instance to a
// broker: its Dial wraps real connections, and its verbs cut them, freeze them, slow them down or tear them.
package faultnet

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// DialFunc is the type of net.Dialer's DialContext.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Link is a set of connections that fail together. The verbs take effect at once, on the connections of this moment and
// on those to come as each one's comment says. All methods may be called concurrently.
type Link struct {
	dial DialFunc

	mu      sync.Mutex
	state   state
	changed chan struct{} // closed and replaced at every change of state; made when first asked for
	conns   map[*conn]struct{}
	dials   int
	last    int // the newest connection's number
	written int // bytes that went out
}

// state is what the verbs set. It is guarded by Link.mu.
type state struct {
	cut     bool
	black   bool // dials hang
	frozen  int  // connections up to this number are hung
	deaf    bool
	mute    bool
	refuse  int
	delay   time.Duration
	sip     int
	tear    int // bytes that may still be written; only if tearing
	tearing bool
}

// New makes a healthy link. A nil dial means a [net.Dialer].
func New(dial DialFunc) *Link {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &Link{dial: dial, conns: map[*conn]struct{}{}}
}

// Dial opens a connection through the link. On a link that is cut or refuses, the error is ECONNREFUSED in a
// [net.OpError]; on one that swallows dials it returns when ctx ends or the link heals.
func (l *Link) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := l.admit(ctx); err != nil {
		return nil, fmt.Errorf("faultnet: %w", err)
	}
	under, err := l.dial(ctx, network, address)
	if err != nil {
		return nil, err //nolint:wrapcheck // a wrapper adds nothing to what the dialer says
	}
	c := newConn(l, under)
	l.mu.Lock()
	cut := l.state.cut // it may have been cut while we dialled
	if !cut {
		l.last++
		c.number = l.last
		l.conns[c] = struct{}{}
	}
	l.mu.Unlock()
	if cut {
		reset(under)
		return nil, refused("dial")
	}
	return c, nil
}

// admit counts a dial and decides whether it may go on.
func (l *Link) admit(ctx context.Context) error {
	l.mu.Lock()
	l.dials++
	for l.state.black && !l.state.cut {
		changed := l.change()
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
		l.mu.Lock()
	}
	defer l.mu.Unlock()
	if l.state.cut {
		return refused("dial")
	}
	if l.state.refuse > 0 {
		l.state.refuse--
		return refused("dial")
	}
	return nil
}

// Cut resets all connections, and refuses new ones until Heal.
func (l *Link) Cut() {
	l.set(func(s *state) { s.cut = true })
	l.Reset()
}

// Reset resets all connections of this moment; new ones work.
func (l *Link) Reset() {
	l.mu.Lock()
	conns := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.reset()
	}
}

// Hang stops all connections of this moment without closing them: what is written is accepted, as a kernel's buffer
// does, until 1 MiB waits; what arrives is not read. New connections work. After Heal what waited flows on.
func (l *Link) Hang() {
	l.set(func(s *state) { s.frozen = l.last })
}

// Blackhole does what Hang does, and new dials hang too, until their context ends or Heal.
func (l *Link) Blackhole() {
	l.set(func(s *state) { s.frozen, s.black = l.last, true })
}

// Deafen stops what arrives, on connections of this moment and new ones.
func (l *Link) Deafen() { l.set(func(s *state) { s.deaf = true }) }

// Mute stops what is sent, on connections of this moment and new ones.
func (l *Link) Mute() { l.set(func(s *state) { s.mute = true }) }

// Refuse makes the next k dials fail.
func (l *Link) Refuse(k int) { l.set(func(s *state) { s.refuse = k }) }

// Delay holds everything that arrives back for d.
func (l *Link) Delay(d time.Duration) { l.set(func(s *state) { s.delay = d }) }

// Sip lets no read and no write on the wire be larger than n bytes; 0 ends it.
func (l *Link) Sip(n int) { l.set(func(s *state) { s.sip = n }) }

// TearAfter lets n more bytes out, over all connections together, and resets the connection that wants to write the
// next one. It tears once.
func (l *Link) TearAfter(n int) {
	l.set(func(s *state) { s.tear, s.tearing = n, true })
}

// Heal ends everything that the other verbs did, except that connections that were reset stay dead.
func (l *Link) Heal() {
	l.set(func(s *state) { *s = state{} })
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.thaw()
	}
}

// Dials tells how often Dial was called.
func (l *Link) Dials() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dials
}

// Written tells how many bytes went out over all connections together.
func (l *Link) Written() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written
}

// Open tells how many connections are open.
func (l *Link) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// set changes the state under l.mu and wakes all that wait on it.
func (l *Link) set(f func(*state)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.state)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// change returns a channel that is closed at the next change. The caller holds l.mu.
func (l *Link) change() <-chan struct{} {
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// look returns the state as connection number sees it, and a channel that tells when it changes.
func (l *Link) look() (state, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.change()
}

// spend asks to write n bytes and returns how many may go out before the connection is torn.
func (l *Link) spend(n int) (allowed int, torn bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.state.tearing {
		l.written += n
		return n, false
	}
	if n <= l.state.tear {
		l.state.tear -= n
		l.written += n
		return n, false
	}
	allowed = l.state.tear
	l.written += allowed
	l.state.tear, l.state.tearing = 0, false
	return allowed, true
}

func (l *Link) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func refused(op string) error {
	return &net.OpError{Op: op, Net: "tcp", Err: syscall.ECONNREFUSED}
}

// errReset is what the owner of a connection that was reset sees.
var errReset = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

// reset closes a connection so that the peer sees a reset where the network knows such a thing.
func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0) // fails where its owner has closed it already, which is as good
	}
	_ = c.Close() // what matters is that it is unusable now
}
