package inmem

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// client is one node's transport: the node's end of its connection to the broker. It has one link.
//
// Its only goroutine is the one that hands over delayed frames; Close waits for it.
type client struct {
	broker    *Broker
	id        transport.NodeID
	namespace string

	// All below are guarded by broker.mu.
	sink   transport.Sink
	conn   *conn // nil while not connected
	closed bool
	faults faults
	// changed is closed, and replaced, at every change that a blocked call may wait for.
	changed chan struct{}
	// late counts the goroutines that hand over delayed frames; none is added once closed is set.
	late sync.WaitGroup
}

// conn is one connection. A blocked call remembers its own, and so notices when it is gone although there is a new one.
// The fields are guarded by broker.mu.
type conn struct {
	channels map[string]struct{} // what this connection is subscribed to
	backlog  backlog             // frames that wait for the end of a fault
	late     bool                // a goroutine hands the backlog over in time
	// fate is why the broker closed the connection, while the node cannot know it yet because it is deaf.
	fate error
}

var _ transport.Transport = (*client)(nil)

// Limits returns the broker's.
func (c *client) Limits() transport.Limits { return c.broker.options.Limits }

// Link returns the only one.
func (*client) Link(string) transport.Link { return transport.OnlyLink }

// Start keeps the sink.
func (c *client) Start(s transport.Sink) {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	c.sink = s
}

// Connect waits while the node is hung, deaf, mute or delayed, and then answers at once.
func (c *client) Connect(ctx context.Context, _ transport.Link) error {
	b := c.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	c.leave()
	begun := time.Now()
	for !c.closed && !c.faults.cut && ctx.Err() == nil {
		left := c.faults.left(begun)
		if !c.faults.mute && !c.faults.deaf && left <= 0 {
			break
		}
		c.wait(ctx.Done(), left)
	}
	switch {
	case c.closed:
		return fmt.Errorf("%w: the transport was closed", transport.ErrClosed)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", transport.ErrUnavailable, ctx.Err())
	case c.faults.cut:
		return errCut
	case b.stopped:
		return errStopped
	case b.denies(c, OpConnect, ""):
		return fmt.Errorf("%w: the broker refuses this node", transport.ErrDenied)
	}
	c.conn = &conn{channels: make(map[string]struct{})}
	c.wake() // whoever watches the store
	return nil
}

// Disconnect takes the broker's lock, so no sink call is in progress when it returns; and none comes later because
// the broker has forgotten the connection.
func (c *client) Disconnect(transport.Link) {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	c.leave()
}

// Close leaves the broker and waits for the goroutine of a delay.
func (c *client) Close() error {
	b := c.broker
	b.mu.Lock()
	c.leave()
	if !c.closed {
		c.closed = true
		delete(b.clients, c.id)
	}
	c.wake()
	b.mu.Unlock()
	c.late.Wait()
	return nil
}

// leave gives the connection up from the node's side. The caller holds broker.mu.
func (c *client) leave() {
	if c.conn == nil {
		return
	}
	c.broker.forget(c)
	c.conn = nil
	c.wake()
}

// fail is leave with a Down. The caller holds broker.mu.
func (c *client) fail(cause error) {
	if c.conn == nil {
		return
	}
	c.leave()
	c.sink.Down(transport.OnlyLink, cause)
}

// hangUp closes the connection from the broker's side; a deaf node learns of it when it is healed. What was in flight
// is lost. The caller holds broker.mu.
func (c *client) hangUp(cause error) {
	switch k := c.conn; {
	case k == nil || k.fate != nil:
	case c.faults.deaf:
		c.broker.forget(c)
		k.backlog = backlog{}
		k.fate = cause
	default:
		c.fail(cause)
	}
}

// forget takes the client's connection off all channels. The caller holds mu.
func (b *Broker) forget(c *client) {
	for channel := range c.conn.channels {
		b.remove(c, channel)
	}
	clear(c.conn.channels)
}

// remove takes the client off one channel. The caller holds mu, and is not iterating over the channel.
func (b *Broker) remove(c *client, channel string) {
	members := b.channels[channel]
	i := slices.Index(members, c)
	if i < 0 {
		return
	}
	last := len(members) - 1
	if last == 0 {
		delete(b.channels, channel)
		return
	}
	members[i], members[last] = members[last], nil
	b.channels[channel] = members[:last]
}

// current returns the connection for a call that begins, or why there is none; nothing was sent then. The caller holds
// broker.mu.
func (c *client) current(ctx context.Context) (*conn, error) {
	switch {
	case c.closed:
		return nil, fmt.Errorf("%w: the transport was closed", transport.ErrClosed)
	case c.conn == nil:
		return nil, fmt.Errorf("%w: not connected", transport.ErrUnavailable)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", transport.ErrUnavailable, ctx.Err())
	}
	return c.conn, nil
}

// send waits until what the node sends can reach the broker. An error says that the connection is gone or ctx ended
// before. The caller holds broker.mu.
func (c *client) send(ctx context.Context, k *conn) error {
	for c.conn == k && c.faults.mute {
		if !c.wait(ctx.Done(), 0) {
			return ctx.Err()
		}
	}
	return c.still(k)
}

// answer waits until what the broker answers can reach the node, as send does for the other direction.
func (c *client) answer(ctx context.Context, k *conn) error {
	if c.conn == k && !c.faults.deaf && c.faults.delay == 0 {
		return nil
	}
	begun := time.Now()
	for c.conn == k {
		left := c.faults.left(begun)
		if !c.faults.deaf && left <= 0 {
			break
		}
		if !c.wait(ctx.Done(), left) {
			return ctx.Err()
		}
	}
	return c.still(k)
}

func (c *client) still(k *conn) error {
	if c.conn != k {
		return errGone
	}
	return nil
}

// wait lets go of broker.mu until something about the client changed, the time is over (if it is positive), or done is
// closed; it returns false in the last case. The caller holds broker.mu and looks at everything anew.
func (c *client) wait(done <-chan struct{}, d time.Duration) bool {
	changed := c.changed
	c.broker.mu.Unlock()
	defer c.broker.mu.Lock()
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-done:
		return false
	case <-changed:
	case <-over:
	}
	return true
}

// wake makes blocked calls look again. The caller holds broker.mu.
func (c *client) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}
