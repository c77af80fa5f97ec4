// Package onelink is the life of the connection of a transport that has one link: it is made, given up while it is being
// made, dropped and looked up, by calls that come at the same time. What a connection is the transport says.
package onelink

import (
	"context"
	"sync"
)

// Turns makes Connect, Disconnect and Close happen one after the other, and lets Close end the Connect that is under way.
type Turns struct {
	// Closed is what Connect returns once Close was called. It is set before all calls.
	Closed error

	turn sync.Mutex // held by the call whose turn it is

	mu     sync.Mutex
	giveUp context.CancelFunc // ends the Connect under way; guarded by mu
	closed bool               // guarded by mu
}

// Connect calls establish in its turn, with a context that Close ends as well. Where it fails after that, the error is
// Closed: nobody wants to know what else went wrong.
func (t *Turns) Connect(ctx context.Context, establish func(context.Context) error) error {
	t.turn.Lock()
	defer t.turn.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if t.underway(cancel) {
		return t.Closed
	}
	err := establish(ctx)
	if t.underway(nil) && err != nil {
		return t.Closed
	}
	return err
}

// underway notes what ends the Connect under way, nil if there is none, and reports whether Close was called.
func (t *Turns) underway(giveUp context.CancelFunc) (closed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.giveUp = giveUp
	return t.closed
}

// Disconnect calls drop in its turn.
func (t *Turns) Disconnect(drop func()) {
	t.turn.Lock()
	defer t.turn.Unlock()
	drop()
}

// Close ends the Connect under way, lets there be no other, and calls drop in its turn.
func (t *Turns) Close(drop func()) {
	t.mu.Lock()
	t.closed = true
	if t.giveUp != nil {
		t.giveUp()
	}
	t.mu.Unlock()
	t.Disconnect(drop)
}

// Connection is a pointer to what a transport has made of a connection to the broker.
type Connection interface {
	comparable
	// Start lets it call the sink. It does not block.
	Start()
	// Stop ends it, while no other is being made. When it returns the sink gets no further call.
	Stop()
	// GiveUp is Stop for one that was not started.
	GiveUp()
}

// Link is the one link of a transport.
type Link[C Connection] struct {
	turns        Turns
	notConnected error
	conn         C // the present connection, or what is left of it; guarded by turns.mu
}

// New makes a link that has no connection yet. The errors are what it says without one, and when it was closed.
func New[C Connection](notConnected, closed error) *Link[C] {
	return &Link[C]{turns: Turns{Closed: closed}, notConnected: notConnected}
}

// Connect drops the connection that there is, and starts the one that establish makes.
func (l *Link[C]) Connect(ctx context.Context, establish func(context.Context) (C, error)) error {
	return l.turns.Connect(ctx, func(ctx context.Context) error {
		l.drop()
		c, err := establish(ctx)
		if err != nil {
			return err
		}
		l.turns.mu.Lock()
		defer l.turns.mu.Unlock()
		if l.turns.closed {
			c.GiveUp()
			return l.turns.Closed
		}
		l.conn = c
		c.Start()
		return nil
	})
}

// Disconnect stops the connection. When it returns the sink gets no further call.
func (l *Link[C]) Disconnect() { l.turns.Disconnect(l.drop) }

// Close is a Disconnect after which there is no other connection. It ends a Connect under way.
func (l *Link[C]) Close() { l.turns.Close(l.drop) }

// drop takes the connection away and stops it. The lock is not held while it stops, so that what the sink calls can go on
// until then.
func (l *Link[C]) drop() {
	var none C
	l.turns.mu.Lock()
	c := l.conn
	l.conn = none
	l.turns.mu.Unlock()
	if c != none {
		c.Stop()
	}
}

// Current returns the connection. It may have failed already.
func (l *Link[C]) Current() (C, error) {
	var none C
	l.turns.mu.Lock()
	defer l.turns.mu.Unlock()
	switch {
	case l.turns.closed:
		return none, l.turns.Closed
	case l.conn == none:
		return none, l.notConnected
	default:
		return l.conn, nil
	}
}
