package hubkit

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"

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
		mu sync.Mutex
		m  map[string]*topic // guarded by mu
		_  [32]byte          // keeps neighbours off one cache line
	}
}

// topic is one address with its local members. It lives while somebody holds a pin on it; a name that is wanted again
// after that gets a new topic with a subscription of its own, so a topic is never subscribed twice.
type topic struct {
	hub  *Hub
	addr backplane.Address
	pins int // members, and joins under way; guarded by the mu of its shard

	mu      sync.RWMutex
	members []*membership // guarded by mu, as each one's at

	subscribing sync.Mutex             // guards the following two
	sub         backplane.Subscription // nil until it is subscribed
	busy        chan struct{}          // closed when the attempt under way has ended; nil while there is none
}

// membership is one connection in one topic.
type membership struct {
	topic *topic
	conn  *Connection
	at    int // its place in topic.members
	// The user's membership made it, and ends it; guarded by the connection's mu.
	granted bool
}

// pin returns the topic of a name, and keeps it until unpin.
func (ts *topics) pin(name string) *topic {
	s := &ts.shards[maphash.String(ts.seed, name)%registryShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.m[name]
	if t == nil {
		if s.m == nil {
			s.m = make(map[string]*topic)
		}
		t = &topic{hub: ts.hub, addr: ts.address(name)}
		s.m[name] = t
	}
	t.pins++
	return t
}

// unpin gives a pin back. The last one ends the topic and its subscription; the context bounds the wait for a handler
// that is just running.
func (ts *topics) unpin(ctx context.Context, t *topic) {
	name := t.addr.Name()
	s := &ts.shards[maphash.String(ts.seed, name)%registryShards]
	s.mu.Lock()
	t.pins--
	last := t.pins == 0
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
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[name]
}

func (ts *topics) len() (n int) {
	for i := range ts.shards {
		s := &ts.shards[i]
		s.mu.Lock()
		n += len(s.m)
		s.mu.Unlock()
	}
	return n
}

// ensure returns nil once the topic is subscribed. Of several callers one subscribes and the others wait for it; where
// it fails, be it by the end of its own context, the next one tries.
func (t *topic) ensure(ctx context.Context) error {
	for {
		t.subscribing.Lock()
		if t.sub != nil {
			t.subscribing.Unlock()
			return nil
		}
		busy := t.busy
		if busy == nil {
			break
		}
		t.subscribing.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", backplane.ErrUnavailable, ctx.Err())
		case <-t.hub.closing.Done():
			return backplane.ErrClosed
		}
	}
	busy := make(chan struct{})
	t.busy = busy
	t.subscribing.Unlock()

	sub, err := t.subscribe(ctx)

	t.subscribing.Lock()
	t.sub, t.busy = sub, nil
	t.subscribing.Unlock()
	close(busy)
	return err
}

// subscribed reports whether ensure would not have to wait.
func (t *topic) subscribed() bool {
	t.subscribing.Lock()
	defer t.subscribing.Unlock()
	return t.sub != nil
}

// subscribe waits for the broker, until ctx ends or the hub closes.
func (t *topic) subscribe(ctx context.Context) (backplane.Subscription, error) {
	h := t.hub
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	sub, err := h.bp.Subscribe(ctx, t.addr, t.hear)
	switch {
	case err == nil:
		h.stats.subscriptions.Add(1)
		return sub, nil
	case h.closing.Err() != nil:
		return nil, backplane.ErrClosed
	default:
		return nil, err
	}
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
	m := &membership{topic: t, conn: c, at: len(t.members)}
	t.members = append(t.members, m)
	return m
}

// remove ends a membership. When it returns, nothing more of the topic enters the connection's outbox: a fan-out
// holds the lock (H3). The caller gives the pin back.
func (t *topic) remove(m *membership) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.members) - 1
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
