package hubkit

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/gobackplane/backplane"
)

// topics holds the groups, or the users, that have a member on this instance. The first member subscribes the
// address, the last one ends the subscription. There is no lock over all names, and none is held while the broker is
// waited for.
type topics struct {
	hub     *Hub
	address func(name string) backplane.Address
	seed    maphash.Seed
	shards  [registryShards]struct {
		mu sync.RWMutex      // held for writing only while a topic comes or goes
		m  map[string]*topic // guarded by mu
		_  [32]byte          // keeps neighbours off one cache line
	}
}

// topic is one address with its local members. It lives while somebody holds a pin on it; a name that is wanted again
// after that gets a new topic with a subscription of its own, so a topic is never subscribed twice.
type topic struct {
	hub  *Hub
	addr backplane.Address
	pins atomic.Int32 // members, and joins under way; at least 1 while it is in its shard, from 1 to 0 only with the mu held

	mu      sync.RWMutex
	members []*membership // guarded by mu, as each one's at

	subscribing sync.Mutex             // guards the following two
	sub         backplane.Subscription // nil until it is subscribed
	attempt     *attempt               // nil while there is none
}

// attempt is a wait for the broker.
type attempt struct {
	giveUp context.CancelFunc
	ended  chan struct{} // closed when it has
}

// membership is one connection in one topic.
type membership struct {
	topic *topic
	conn  *Connection
	at    int32 // its place in topic.members
	// The user's membership made it, and ends it; guarded by the connection's mu.
	granted bool
}

// pin returns the topic of a name, and keeps it until unpin.
func (ts *topics) pin(name string) *topic {
	s := &ts.shards[maphash.String(ts.seed, name)%registryShards]
	s.mu.RLock()
	t := s.m[name]
	if t != nil {
		t.pins.Add(1)
	}
	s.mu.RUnlock()
	if t != nil {
		return t
	}
	fresh := &topic{hub: ts.hub, addr: ts.address(name)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t = s.m[name]; t == nil {
		if s.m == nil {
			s.m = make(map[string]*topic)
		}
		t = fresh
		s.m[name] = t
	}
	t.pins.Add(1)
	return t
}

// unpin gives a pin back. The last one ends the topic and its subscription; the context bounds the wait for a handler
// that is just running.
func (ts *topics) unpin(ctx context.Context, t *topic) {
	for n := t.pins.Load(); n > 1; n = t.pins.Load() {
		if t.pins.CompareAndSwap(n, n-1) {
			return
		}
	}
	name := t.addr.Name()
	s := &ts.shards[maphash.String(ts.seed, name)%registryShards]
	s.mu.Lock()
	last := t.pins.Add(-1) == 0
	if last {
		delete(s.m, name)
	}
	s.mu.Unlock()
	if last {
		t.unsubscribe(ctx)
	}
}

// find returns the topic of a name that has or had a member here just now, nil if there is none. It is not pinned.
func (ts *topics) find(name string) *topic {
	s := &ts.shards[maphash.String(ts.seed, name)%registryShards]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[name]
}

// each calls f for every topic, under the lock of a shard: f must not block.
func (ts *topics) each(f func(*topic)) {
	for i := range ts.shards {
		s := &ts.shards[i]
		s.mu.RLock()
		for _, t := range s.m {
			f(t)
		}
		s.mu.RUnlock()
	}
}

func (ts *topics) len() (n int) {
	for i := range ts.shards {
		s := &ts.shards[i]
		s.mu.RLock()
		n += len(s.m)
		s.mu.RUnlock()
	}
	return n
}

// ensure returns nil once the topic is subscribed. Of several callers one subscribes and the others wait for it; where
// it fails, be it by the end of its own context, the next one tries.
func (t *topic) ensure(ctx context.Context) error {
	for {
		t.subscribing.Lock()
		switch {
		case t.sub != nil:
			t.subscribing.Unlock()
			return nil
		case t.hub.closing.Err() != nil: // or giveUpSubscribing may have been here before
			t.subscribing.Unlock()
			return backplane.ErrClosed
		case t.attempt == nil:
			return t.subscribe(ctx)
		}
		ended := t.attempt.ended
		t.subscribing.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", backplane.ErrUnavailable, ctx.Err())
		case <-t.hub.closing.Done():
			return backplane.ErrClosed
		}
	}
}

// subscribe waits for the broker, until ctx ends or the hub closes. It is called with subscribing held, and lets go of it.
func (t *topic) subscribe(ctx context.Context) error {
	h := t.hub
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &attempt{giveUp: cancel, ended: make(chan struct{})}
	t.attempt = a
	t.subscribing.Unlock()

	sub, err := h.bp.Subscribe(ctx, t.addr, t.hear)
	if err == nil {
		h.stats.subscriptions.Add(1)
	} else {
		sub = nil
	}

	t.subscribing.Lock()
	t.sub, t.attempt = sub, nil
	t.subscribing.Unlock()
	close(a.ended)
	return h.orClosed(err)
}

// giveUpSubscribing ends all waits for the broker when the hub closes. A context of each attempt that ended with the hub's
// would do so by itself; but it would have to enter itself there, and every join of a new group would pass through one lock.
func (h *Hub) giveUpSubscribing() {
	giveUp := func(t *topic) {
		t.subscribing.Lock()
		defer t.subscribing.Unlock()
		if t.attempt != nil {
			t.attempt.giveUp()
		}
	}
	giveUp(h.all)
	giveUp(h.inbox)
	h.groups.each(giveUp)
	h.users.each(giveUp)
}

// subscribed reports whether ensure would not have to wait.
func (t *topic) subscribed() bool {
	t.subscribing.Lock()
	defer t.subscribing.Unlock()
	return t.sub != nil
}

// unsubscribe ends the subscription, if there is one. Nobody holds a pin: no ensure runs.
func (t *topic) unsubscribe(ctx context.Context) {
	t.subscribing.Lock()
	sub := t.sub
	t.sub = nil
	t.subscribing.Unlock()
	if sub == nil {
		return
	}
	t.hub.stats.subscriptions.Add(-1)
	if err := sub.Close(ctx); err != nil {
		t.hub.log.Debug("ending a subscription failed", "kind", t.addr.Kind().String(), "err", err)
	}
}

// add makes a connection a member. The caller holds a pin, which the membership takes over, and the connection's lock.
func (t *topic) add(c *Connection) *membership {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &membership{topic: t, conn: c, at: int32(len(t.members))} //nolint:gosec // fewer than the connections of a process
	t.members = append(t.members, m)
	return m
}

// remove ends a membership. When it returns, nothing more of the topic enters the connection's outbox: a fan-out
// holds the lock (H3). The caller gives the pin back.
func (t *topic) remove(m *membership) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := int32(len(t.members) - 1) //nolint:gosec // as above
	moved := t.members[last]
	t.members[m.at] = moved
	moved.at = m.at
	t.members[last] = nil
	t.members = t.members[:last]
}

// each calls f for every member, under the topic's lock: f must not block.
func (t *topic) each(f func(*Connection)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, m := range t.members {
		f(m.conn)
	}
}
