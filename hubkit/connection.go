package hubkit

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// Connection is one client of this instance. All methods may be called concurrently.
type Connection struct {
	// Immutable.
	hub      *Hub
	conn     Conn
	id       string
	user     string
	label    string
	metadata map[string]string
	since    int64        // Unix time in nanoseconds
	resume   *resumeState // nil without Options.Resume
	run      func()       // c.write, made once so that starting the writer allocates nothing

	mu       sync.Mutex
	groups   groupSet    // guarded by mu
	asUser   *membership // guarded by mu; nil without a user
	calls    int32       // guarded by mu: Joins and Leaves under way, which the hub's Close waits for
	detached bool        // guarded by mu: it is in nothing any more, and may not join
	gone     bool        // guarded by mu: it has ended; with the last call it is none of what Close waits for

	out         outbox
	invocations map[string]*invocation // the open ones; nil until the first; guarded by out.mu

	// The state of the writer and of closing; guarded by out.mu.
	writing bool    // a writer runs
	closed  *Reason // nothing enters the outbox any more; not nil once it was decided to close
	// The writer goes on although closed is set, and starts finish when nothing waits; who ends this does instead.
	flushing bool
	shut     bool          // Conn.Close has returned
	ended    bool          // and no Write runs
	done     chan struct{} // closed when it has ended; made when somebody asks, an idle connection does without
}

// ID returns the id under which the connection is reached from every instance by [ToConnections]. It is opaque, unique,
// safe in URLs and JSON, and at most 64 bytes.
func (c *Connection) ID() string { return c.id }

// User returns the user id, "" for none.
func (c *Connection) User() string { return c.user }

// Label returns the application's own name for the connection.
func (c *Connection) Label() string { return c.label }

// Metadata returns a copy of what ConnectOptions gave, nil for none.
func (c *Connection) Metadata() map[string]string { return maps.Clone(c.metadata) }

// Since returns when the connection was made.
func (c *Connection) Since() time.Time { return time.Unix(0, c.since) }

// Groups returns the groups that the connection is in, sorted.
func (c *Connection) Groups() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.groups.names()
}

// Join puts the connection into a group. When it returns nil, every send to the group that starts afterwards, on any
// instance, is delivered; one that overlapped the call may be. The first local member of a group waits for the
// broker until the context ends. Joining twice is joining once. On error nothing is left behind and trying again works;
// the causes are ErrInvalidAddress, [ErrDisconnected], ErrClosed, and those of [backplane.Backplane.Subscribe].
func (c *Connection) Join(ctx context.Context, group string) error {
	h := c.hub
	if err := backplane.Group(group).In(h.name).Validate(); err != nil {
		return h.fail("join", err)
	}
	if err := c.hold(); err != nil {
		return h.fail("join", err)
	}
	defer c.release()
	t := h.groups.pin(group)
	if err := t.ensure(ctx); err != nil {
		h.groups.unpin(h.ctx, t)
		return h.fail("join", err)
	}
	added, open := c.enroll(t)
	if !added {
		h.groups.unpin(h.ctx, t)
	}
	if !open {
		return h.fail("join", h.orClosed(ErrDisconnected))
	}
	return nil
}

// hold begins a call that the hub's Close waits for. It is counted here and not in the hub, where the joins of all connections
// would meet.
func (c *Connection) hold() error {
	switch {
	case c.hub.closing.Err() != nil:
		return backplane.ErrClosed
	case c.over():
		return ErrDisconnected
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return c.hub.orClosed(ErrDisconnected)
	}
	c.calls++
	return nil
}

// release ends such a call.
func (c *Connection) release() {
	c.mu.Lock()
	c.calls--
	last := c.gone && c.calls == 0
	c.mu.Unlock()
	if last {
		c.hub.running.Done()
	}
}

// enroll makes the connection a member of a group that is subscribed. Where it was added it takes over a pin of the caller's;
// open is false where it is in nothing any more.
func (c *Connection) enroll(t *topic) (added, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.detached {
		return false, false
	}
	if m := c.groups.get(t.addr.Name()); m != nil {
		if m.granted {
			m.granted = false // it stays when the user's membership ends
			c.hub.handout.change(c)
		}
		return false, true
	}
	c.groups.add(t.add(c))
	c.hub.handout.change(c)
	return true, true
}

// withdraw ends the membership in a group (H3). The caller gives its pin back; nil if there was none.
func (c *Connection) withdraw(group string) *membership {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.groups.remove(group)
	if m != nil {
		m.topic.remove(m)
		c.hub.handout.change(c)
	}
	return m
}

// withdrawAll is withdraw for all groups.
func (c *Connection) withdrawAll() groupSet {
	c.mu.Lock()
	defer c.mu.Unlock()
	groups := c.groups
	c.groups = groupSet{}
	for m := range groups.all() {
		m.topic.remove(m)
	}
	c.hub.handout.change(c)
	return groups
}

// Leave takes the connection out of a group. When it returns nothing more of that group enters the outbox; what waits
// there is still written. It does not wait for the broker. Leaving a group that the connection is not in does
// nothing; leaving while the hub closes leaves all groups, which the close does anyway. The error is nil, or
// ErrInvalidAddress.
func (c *Connection) Leave(ctx context.Context, group string) error {
	h := c.hub
	if err := backplane.Group(group).In(h.name).Validate(); err != nil {
		return h.fail("leave", err)
	}
	if h.closing.Err() != nil {
		c.Disconnect(Reason{Code: ReasonGoingAway})
		return nil
	}
	if c.hold() != nil {
		return nil // it has left everything
	}
	defer c.release() // Close waits until the subscription has ended
	if m := c.withdraw(group); m != nil {
		h.groups.unpin(ctx, m.topic)
	}
	return nil
}

// Send puts a payload into this connection's outbox. It never blocks. It returns [ErrDisconnected] if the connection was
// closed, be it because this payload did not fit. The payload may be reused when it has returned.
func (c *Connection) Send(payload []byte) error {
	m := message{payload: append([]byte{}, payload...)}
	var tally tally
	c.enqueue(&m, 0, &tally)
	c.hub.count(&tally)
	if tally.gone+tally.slow > 0 {
		return c.hub.fail("send", ErrDisconnected)
	}
	return nil
}

// Disconnect ends the connection: when it returns, the connection is in no group, nothing more enters its outbox, and
// what waited there is discarded. The socket is closed by a goroutine of the hub, see [Connection.Done]. A second call,
// also after the hub closed the connection by itself, does nothing more: the first reason stays.
//
// A server calls it when the client has gone, and to throw a client out. With [ReasonRefused] the client's resume tokens are refused
// from then on, as [Hub.Disconnect] describes, also where it has gone before: at once while this instance can be asked, and elsewhere in a
// moment. With any other reason the client may come back.
func (c *Connection) Disconnect(reason Reason) {
	first := c.disconnect(reason)
	if c.resume == nil || !reason.endsSession(false) {
		return
	}
	if first || c.hub.sessions.newest(c) {
		c.hub.endSessions(c.resume.session)
	}
}

// disconnect is Disconnect, and reports whether this call ended the connection, or its flushing.
func (c *Connection) disconnect(reason Reason) (first bool) {
	c.out.mu.Lock()
	first = c.closeLocked(reason)
	c.out.mu.Unlock()
	c.detach()
	if first {
		go c.finish()
	}
	return first
}

// retire is Disconnect, but what waits in the outbox is written first, unless Disconnect or a failed write comes before.
func (c *Connection) retire(reason Reason) {
	c.out.mu.Lock()
	idle := false
	if c.closed == nil {
		c.closed = &reason
		c.flushing = c.writing
		idle = !c.writing // then nothing waits
		if c.flushing {
			c.hub.flushing.add(c)
		}
	}
	c.out.mu.Unlock()
	c.detach()
	if idle {
		go c.finish()
	}
}

// Done returns a channel that is closed when the connection has ended and neither Write nor Close of its [Conn] runs or
// will run.
func (c *Connection) Done() <-chan struct{} {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.ended {
			close(c.done)
		}
	}
	return c.done
}

// Reason returns why the connection ended; ok is false while it has not.
func (c *Connection) Reason() (reason Reason, ok bool) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.closed == nil {
		return Reason{}, false
	}
	return *c.closed, true
}

// isOpen reports whether nobody has decided yet to close the connection.
func (c *Connection) isOpen() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.closed == nil
}

// maxReasonText is what a WebSocket close frame has room for beside its code.
const maxReasonText = 123

// closeLocked decides that the connection closes, or that it does not flush any more, and reports whether this call did.
// The first reason stays. The caller holds out.mu and starts finish once it has let go of it.
func (c *Connection) closeLocked(reason Reason) (first bool) {
	if c.closed != nil {
		first, c.flushing = c.flushing, false
		if first {
			c.out.discard()
		}
		return first
	}
	reason.Text = reason.text()
	c.closed = &reason
	c.out.discard()
	return true
}

// finish is the one goroutine that closes the socket. The hub waits for it by the count that Connect took.
func (c *Connection) finish() {
	c.detach()
	c.hub.flushing.remove(c)
	c.endInvocations()
	reason, _ := c.Reason()
	if err := c.conn.Close(reason); err != nil {
		c.hub.log.Debug("closing a connection failed", "reason", reason.Code.String(), "err", err)
	}
	c.out.mu.Lock()
	c.shut = true
	last := !c.writing
	c.out.mu.Unlock()
	if last {
		c.end()
	}
}

// end is called once, by the writer or by finish, whichever returns last.
func (c *Connection) end() {
	c.out.mu.Lock()
	c.ended = true
	if c.done != nil {
		close(c.done)
	}
	c.out.mu.Unlock()
	c.mu.Lock()
	c.gone = true
	last := c.calls == 0
	c.mu.Unlock()
	if last {
		c.hub.running.Done()
	}
}

// hasEnded reports whether Done is closed.
func (c *Connection) hasEnded() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.ended
}

// over reports whether it was decided to close.
func (c *Connection) over() bool {
	_, over := c.Reason()
	return over
}

// detach takes the connection out of everything (H4): after it no join can add it again.
func (c *Connection) detach() {
	h := c.hub
	c.mu.Lock()
	groups, user := c.groups, c.asUser
	if c.resume != nil {
		h.sessions.park(c, groups.own())
	}
	c.groups, c.asUser, c.detached = groupSet{}, nil, true
	for m := range groups.all() {
		m.topic.remove(m)
	}
	if user != nil {
		user.topic.remove(user)
	}
	c.mu.Unlock()
	h.connections.remove(c)
	for m := range groups.all() {
		h.groups.unpin(h.ctx, m.topic)
	}
	if user != nil {
		h.users.unpin(h.ctx, user.topic)
		if h.store != nil {
			h.grants.unpin(c.user)
		}
	}
}
