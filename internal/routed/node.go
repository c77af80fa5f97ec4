package routed

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/gobackplane/backplane/transport"
)

// node is one node's transport: the node's end of its connection to a server.
type node struct {
	c  *Cluster
	id transport.NodeID

	connected atomic.Bool // for who may be called with Cluster.mu held

	// All below are guarded by Cluster.mu.
	sink   transport.Sink
	home   *server // the server that it connects to
	conn   *conn   // nil while not connected
	closed bool
	faults faults
	// changed is closed, and replaced, at every change that a blocked call may wait for.
	changed chan struct{}
}

// conn is one connection. A blocked call remembers its own, and so notices when it is gone although there is a new one.
type conn struct {
	at       *server
	channels map[string]bool
	held     []item // frames that wait for a deaf node, in order
	fate     error  // why the server closed it, while the node cannot know because it is deaf
}

var (
	_ transport.Transport = (*node)(nil)
	_ transport.Clustered = (*node)(nil)
)

// Limits implements [transport.Transport].
func (n *node) Limits() transport.Limits { return n.c.options.Limits }

// Clustered implements [transport.Clustered]. Without a connection it knows of no cluster, like a client of NATS.
func (n *node) Clustered(transport.Link) bool { return n.c.options.Servers > 1 && n.connected.Load() }

// Link implements [transport.Transport].
func (*node) Link(string) transport.Link { return transport.OnlyLink }

// Start implements [transport.Transport].
func (n *node) Start(s transport.Sink) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.sink = s
}

// Connect implements [transport.Transport]. It waits while the node is hung, and then is answered at once.
func (n *node) Connect(ctx context.Context, _ transport.Link) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.leave()
	n.wait(ctx, func() bool { return !n.closed && !n.faults.cut && (n.faults.mute || n.faults.deaf) })
	switch {
	case n.closed:
		return errClosed
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", transport.ErrUnavailable, context.Cause(ctx))
	case n.faults.cut:
		return errCut
	case n.home.stopped:
		return errStopped
	}
	n.connected.Store(true)
	n.conn = &conn{at: n.home, channels: map[string]bool{}}
	return nil
}

// Disconnect implements [transport.Transport].
func (n *node) Disconnect(transport.Link) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.leave()
}

// Close implements [transport.Transport]. Whoever calls the sink holds the lock, so no call is in progress when it has
// returned.
func (n *node) Close() error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.leave()
	n.closed = true
	n.wake()
	delete(n.c.nodes, n.id)
	return nil
}

// leave gives the connection up from the node's side.
func (n *node) leave() {
	if n.conn == nil {
		return
	}
	n.forget()
	n.conn = nil
	n.connected.Store(false)
	n.wake()
}

// forget takes the connection off all channels.
func (n *node) forget() {
	for _, channel := range slices.Sorted(maps.Keys(n.conn.channels)) {
		n.conn.at.part(n, channel)
	}
	clear(n.conn.channels)
}

// hangUp closes the connection from the server's side; a deaf node learns of it when it is healed.
func (n *node) hangUp(cause error) {
	switch k := n.conn; {
	case k == nil || k.fate != nil:
	case n.faults.deaf:
		n.forget()
		k.held, k.fate = nil, cause
	default:
		n.leave()
		n.sink.Down(transport.OnlyLink, cause)
	}
}

// Publish implements [transport.Transport].
func (n *node) Publish(ctx context.Context, _ transport.Link, frames []transport.Frame) []error {
	sent, err := n.exchange(ctx, func(k *conn) {
		for _, f := range frames {
			k.at.publish(f.Channel, f.Data)
		}
	})
	if sent && err != nil {
		err = fmt.Errorf("%w: %w", transport.ErrUncertain, err)
	}
	return forEach(len(frames), err)
}

// Subscribe implements [transport.Transport]. When it returns, the node's own server knows the channels.
func (n *node) Subscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return n.request(ctx, channels, func(k *conn, channel string) {
		if !k.channels[channel] {
			k.channels[channel] = true
			k.at.join(n, channel)
		}
	})
}

// Unsubscribe implements [transport.Transport].
func (n *node) Unsubscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return n.request(ctx, channels, func(k *conn, channel string) {
		if k.channels[channel] {
			delete(k.channels, channel)
			k.at.part(n, channel)
		}
	})
}

func (n *node) request(ctx context.Context, channels []string, do func(*conn, string)) []error {
	_, err := n.exchange(ctx, func(k *conn) {
		for _, channel := range channels {
			do(k, channel)
		}
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
	}
	return forEach(len(channels), err)
}

// exchange does something at the server when what the node sends reaches it, and returns when the answer has reached the
// node. Bytes may have left if sent is true.
func (n *node) exchange(ctx context.Context, do func(*conn)) (sent bool, err error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	k := n.conn
	switch {
	case n.closed:
		return false, errClosed
	case k == nil:
		return false, fmt.Errorf("%w: not connected", transport.ErrUnavailable)
	case ctx.Err() != nil:
		return false, fmt.Errorf("%w: %w", transport.ErrUnavailable, context.Cause(ctx))
	}
	n.wait(ctx, func() bool { return n.conn == k && n.faults.mute })
	if n.conn == k && ctx.Err() == nil && k.fate == nil {
		do(k)
	}
	n.wait(ctx, func() bool { return n.conn == k && n.faults.deaf })
	if n.conn != k {
		return true, errGone
	}
	return true, context.Cause(ctx)
}

// receive hands a frame to the node, or does what a fault says.
func (n *node) receive(channel string, data []byte) {
	if n.faults.deaf {
		n.conn.held = append(n.conn.held, item{channel: channel, data: data})
		return
	}
	n.c.heard[n.id][channel]++
	n.sink.Frame(transport.OnlyLink, channel, data)
}

// wait blocks, without the lock, while something about the node is so and the context has not ended.
func (n *node) wait(ctx context.Context, so func() bool) {
	for ctx.Err() == nil && so() {
		changed := n.changed
		n.c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-changed:
		}
		n.c.mu.Lock()
	}
}

// wake makes blocked calls look again.
func (n *node) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// forEach returns one error for each of k requests, nil for none.
func forEach(k int, err error) []error {
	if err == nil {
		return nil
	}
	errs := make([]error, k)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
