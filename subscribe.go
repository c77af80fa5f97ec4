package backplane

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Subscribe implements [Backplane].
func (n *Node) Subscribe(ctx context.Context, to Address, h Handler) (Subscription, error) {
	switch {
	case n.closed():
		return nil, n.error("subscribe", to, ErrClosed)
	case h == nil:
		return nil, n.error("subscribe", to, badOption("the handler is nil"))
	}
	if err := to.Validate(); err != nil {
		return nil, n.error("subscribe", to, err)
	}
	if ctx.Err() != nil {
		return nil, n.error("subscribe", to, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx)))
	}
	s := &subscription{n: n, handler: h}
	w, err := n.interests.join(n, to, s)
	if err != nil {
		return nil, n.error("subscribe", to, err)
	}
	if w == nil {
		return s, nil
	}
	select {
	case err = <-w.done:
	case <-ctx.Done():
		l, early := n.interests.leaveEarly(s.in, w)
		if !early {
			err = <-w.done
			break
		}
		err = fmt.Errorf("%w: the broker has not confirmed the subscription: %w", ErrUnavailable, context.Cause(ctx))
		if silent := l.barrier.silence(); silent != "" {
			err = fmt.Errorf("%w: the subscription is not known to every server yet%s: %w", ErrUnavailable, silent, context.Cause(ctx))
		}
		if c := l.condition(time.Now()); c.Err != nil {
			err = fmt.Errorf("%w (%w)", err, c.Err)
		} else if w.said != nil { // its class is the transport's matter
			err = fmt.Errorf("%w (the last attempt: %s)", err, w.said.Error())
		}
	}
	if err != nil {
		return nil, n.error("subscribe", to, err)
	}
	return s, nil
}

// join adds a subscription to the interest in an address. It returns nil if the interest is in force already, else a
// waiter that hears when it is.
func (t *interestTable) join(n *Node, a Address, s *subscription) (*waiter, error) {
	channel := n.names.channel(a)
	l := n.linkOf(channel)
	w := &waiter{sub: s, done: make(chan error, 1)}
	var fresh *interest // made before the lock is taken: to allocate may take its time
	if t.get(channel) == nil {
		fresh = &interest{addr: n.names.owned(a, channel), channel: channel, link: l}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	in := t.m[channel]
	if in == nil {
		if in = fresh; in == nil { // it was there a moment ago
			in = &interest{addr: n.names.owned(a, channel), channel: channel, link: l}
		}
		t.m[channel] = in
	}
	if in.addr != a { // 128 bits of a hash are equal
		return nil, fmt.Errorf("%w: its name has the same hash as the name of another one that is subscribed", ErrInvalidAddress)
	}
	s.in = in
	in.refs++
	n.stats.subscriptions.Add(1)
	if in.confirmed && !in.renew {
		in.mu.Lock()
		s.joined = n.ticks.Add(1)
		s.next, in.head = in.head, s
		in.mu.Unlock()
		return nil, nil //nolint:nilnil // nothing to wait for is not an error
	}
	in.waiters = append(in.waiters, w)
	if !in.busy && in.round == nil { // else who does that will see
		t.queue(in)
	}
	return w, nil
}

// leaveEarly takes a waiter back, and returns the link it waited for. It returns false if the waiter was answered meanwhile.
func (t *interestTable) leaveEarly(in *interest, w *waiter) (*link, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(in.waiters, w)
	if i < 0 {
		return nil, false
	}
	in.waiters = slices.Delete(in.waiters, i, i+1)
	t.unref(in, w.sub)
	return in.link, true
}

// unref gives one reference back. mu is held.
func (t *interestTable) unref(in *interest, s *subscription) {
	s.n.stats.subscriptions.Add(-1)
	if in.refs--; in.refs == 0 {
		t.unwanted(s.n, in)
	}
}

// leave removes a subscription that was in force.
func (t *interestTable) leave(s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in := s.in
	in.mu.Lock()
	for p := &in.head; *p != nil; p = &(*p).next {
		if *p == s {
			*p = s.next
			break
		}
	}
	in.mu.Unlock()
	t.unref(in, s)
}

// close lets no subscription come into force any more: it fails the calls that wait for it, and returns those that are.
func (t *interestTable) close() []*subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	var subs []*subscription
	for _, in := range t.m {
		for _, w := range in.waiters {
			w.done <- ErrClosed
			t.unref(in, w.sub)
		}
		in.waiters = nil
		in.mu.Lock()
		for s := in.head; s != nil; s = s.next {
			subs = append(subs, s)
		}
		in.mu.Unlock()
	}
	return subs
}
