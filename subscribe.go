package backplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// reconcileMost is how many channels one call of the transport gets: enough to keep several commands under way.
const reconcileMost = 8192

// interest is this node's interest in one address, shared by all its subscriptions to it.
//
// What is wanted (refs > 0) and what the broker has confirmed are two things; each link's supervisor makes them equal,
// one call of the transport at a time, so that a last unsubscribe racing the next subscribe ends right whatever the order.
type interest struct {
	addr    Address
	channel string

	// Guarded by interestTable.mu.
	link      *link
	waiters   []*waiter // Subscribe calls that wait for the confirmation
	refs      int32     // subscriptions and waiters
	confirmed bool      // the broker has confirmed, and nothing happened since
	queued    bool      // in the link's list to be reconciled
	denied    bool      // refused although it had been confirmed before
	renew     bool      // to be unsubscribed and subscribed anew: see verify.go
	proving   bool      // in verifier.fresh or verifier.asked, or on the way from one to the other
	known     bool      // in verifier.all

	own bool // constant: the engine's own, and never given up

	mu         sync.Mutex    // guards what follows; the delivering side
	heard      atomic.Uint32 // a proof; not guarded
	head       *subscription
	publishers map[wire.Publisher]*counter // nil until somebody publishes
	loss       *loss                       // to be told before anything else
	since      uint64                      // the tick at which the interest was confirmed
}

// loss is what happened to the subscriptions of a link: one value for all of them.
type loss struct {
	cause GapCause
	since time.Time
	err   error
}

// waiter is one Subscribe call.
type waiter struct {
	sub  *subscription
	done chan error // buffered; gets one value
}

// interestTable finds interests by channel.
type interestTable struct {
	mu sync.RWMutex
	// Guarded by mu.
	m      map[string]*interest
	todo   map[*link][]*interest // to be reconciled
	denied int                   // interests that the broker refuses although it had confirmed them before
	closed bool

	verifier verifier

	counted interestSet // those with counters of publishers
}

// interestSet is a set with a lock of its own, so that it can be changed with interest.mu held.
type interestSet struct {
	mu sync.Mutex
	m  map[*interest]struct{} // guarded by mu
}

func (s *interestSet) add(in *interest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[in] = struct{}{}
}

func (s *interestSet) remove(in *interest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, in)
}

func (s *interestSet) all() []*interest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.m))
}

func (t *interestTable) init() {
	t.m = map[string]*interest{}
	t.todo = map[*link][]*interest{}
	t.counted.m = map[*interest]struct{}{}
}

func (t *interestTable) get(channel string) *interest {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[channel]
}

func (t *interestTable) confirmed(in *interest) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return in.confirmed
}

func (t *interestTable) count() (wanted, confirmed int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, in := range t.m {
		if in.refs > 0 {
			wanted++
		}
		if in.confirmed {
			confirmed++
		}
	}
	return wanted, confirmed
}

// queue lists an interest to be reconciled. mu is held.
func (t *interestTable) queue(in *interest) {
	if in.queued {
		return
	}
	in.queued = true
	t.todo[in.link] = append(t.todo[in.link], in)
	in.link.poke()
}

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
		if n.interests.leaveEarly(s.in, w) {
			err = fmt.Errorf("%w: the broker has not confirmed the subscription: %w", ErrUnavailable, context.Cause(ctx))
			if c := s.in.link.condition(time.Now()); c.Err != nil {
				err = fmt.Errorf("%w (%w)", err, c.Err)
			}
		} else {
			err = <-w.done
		}
	case <-n.ctx.Done():
		n.interests.leaveEarly(s.in, w)
		err = ErrClosed
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
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	in := t.m[channel]
	if in == nil {
		in = &interest{addr: n.names.owned(a, channel), channel: channel, link: l}
		t.m[channel] = in
	}
	s.in = in
	in.refs++
	n.stats.subscriptions.Add(1)
	if in.confirmed {
		in.mu.Lock()
		s.next, in.head = in.head, s
		in.mu.Unlock()
		return nil, nil //nolint:nilnil // nothing to wait for is not an error
	}
	w := &waiter{sub: s, done: make(chan error, 1)}
	in.waiters = append(in.waiters, w)
	t.queue(in)
	return w, nil
}

// leaveEarly takes a waiter back. It returns false if the waiter was answered meanwhile.
func (t *interestTable) leaveEarly(in *interest, w *waiter) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(in.waiters, w)
	if i < 0 {
		return false
	}
	in.waiters = slices.Delete(in.waiters, i, i+1)
	t.unref(in, w.sub)
	return true
}

// unref gives one reference back. mu is held.
func (t *interestTable) unref(in *interest, s *subscription) {
	s.n.stats.subscriptions.Add(-1)
	if in.refs--; in.refs == 0 {
		t.queue(in)
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

// own wants a channel of the engine's own, for the node's life.
func (n *Node) own(a Address) *interest {
	channel := n.names.channel(a)
	l := n.linkOf(channel)
	n.interests.mu.Lock()
	defer n.interests.mu.Unlock()
	in := n.interests.m[channel]
	if in == nil {
		in = &interest{addr: a, channel: channel, link: l, own: true, refs: 1}
		n.interests.m[channel] = in
		n.interests.verifier.own = append(n.interests.verifier.own, in)
		n.interests.queue(in)
	}
	return in
}

// reconcile makes one call of the transport that brings wanted and confirmed closer, for the supervisor of l. It returns
// false when they agree, or when the link is given up.
func (l *link) reconcile(ctx context.Context) bool {
	t := &l.n.interests
	var enter, exit []*interest
	var enterNames, exitNames []string
	t.mu.Lock()
	todo := t.todo[l]
	k := min(len(todo), reconcileMost)
	if ours := countOwn(todo); ours > 0 {
		k = ours // they must not wait for the others: the probe tells whether the link lives
	}
	for _, in := range todo[:k] {
		in.queued = false
		switch {
		case in.link != l:
			t.queue(in)
		case in.refs > 0 && !in.confirmed:
			enter, enterNames = append(enter, in), append(enterNames, in.channel)
		case in.confirmed && (in.refs == 0 || in.renew):
			in.confirmed = false // who comes now waits until it is subscribed again
			exit, exitNames = append(exit, in), append(exitNames, in.channel)
		case in.refs == 0 && !in.confirmed:
			t.remove(l.n, in)
		}
	}
	if k == len(todo) {
		delete(t.todo, l)
	} else {
		t.todo[l] = todo[k:]
	}
	t.mu.Unlock()
	if k == 0 || ctx.Err() != nil {
		if k > 0 {
			t.again(append(enter, exit...))
		}
		return false
	}
	if len(exit) > 0 {
		errs := l.n.t.Unsubscribe(ctx, l.id, exitNames)
		l.left(exit, errs)
	}
	if len(enter) > 0 {
		errs := l.n.t.Subscribe(ctx, l.id, enterNames)
		l.entered(ctx, enter, errs)
	}
	return ctx.Err() == nil
}

// remove forgets an interest that is neither wanted nor confirmed. mu is held.
func (t *interestTable) remove(n *Node, in *interest) {
	if t.m[in.channel] == in {
		delete(t.m, in.channel)
	}
	t.deny(in, false)
	in.forgetPublishers(n)
}

// left acts on the answers to an Unsubscribe.
func (l *link) left(exit []*interest, errs []error) {
	t := &l.n.interests
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, in := range exit {
		if in.renew { // whatever the answer was: subscribed anew it must be
			in.renew = false
			t.queue(in)
			continue
		}
		if errs != nil && errs[i] != nil {
			in.confirmed = true // still in force, for all we know
			l.later = append(l.later, in)
			continue
		}
		if in.refs > 0 {
			in.forgetPublishers(l.n)
			t.queue(in)
			continue
		}
		t.remove(l.n, in)
	}
}

// entered acts on the answers to a Subscribe.
func (l *link) entered(ctx context.Context, enter []*interest, errs []error) {
	n, t := l.n, &l.n.interests
	tick := n.ticks.Add(1)
	denials := 0
	var ownDenied error
	var ready []*interest
	t.mu.Lock()
	for i, in := range enter {
		var err error
		if errs != nil {
			err = errs[i]
		}
		switch {
		case err == nil:
			in.confirmed = true
			t.deny(in, false)
			l.enter(in, tick)
			if in.own {
				ready = append(ready, in)
			}
			if in.refs == 0 {
				t.queue(in)
			}
		case ctx.Err() != nil: // the link is given up; wantAll queues it when it is back
		case errors.Is(err, ErrDenied):
			denials++
			if in.own {
				ownDenied = err
			}
			for _, w := range in.waiters {
				w.done <- err
				t.unref(in, w.sub)
			}
			in.waiters = nil
			if in.refs > 0 {
				t.deny(in, true)
				l.later = append(l.later, in)
			}
		default:
			l.later = append(l.later, in)
		}
	}
	t.mu.Unlock()
	if denials > 0 {
		n.log.Error("the broker denies subscriptions; check the permissions of the user", "channels", denials)
		n.health.look()
	}
	if ownDenied != nil {
		l.denied(ownDenied)
	}
	for _, in := range ready {
		switch in {
		case l.probe:
			l.sendProbe(time.Now())
		case l.first:
			n.sendHeartbeat(flagHello)
		}
	}
}

// enter puts an interest in force: it tells what was lost before, then lets the waiters in. interestTable.mu is held.
func (l *link) enter(in *interest, tick uint64) {
	in.renew = false
	in.heard.Store(uint32(l.n.proofAt(time.Now(), false)))
	l.n.interests.toProve(in)
	in.mu.Lock()
	in.since = tick
	in.tellLoss(l.n)
	for _, w := range in.waiters {
		w.sub.next, in.head = in.head, w.sub
		w.done <- nil
	}
	in.mu.Unlock()
	in.waiters = nil
}

// wantAll queues every interest of a link that has just been connected: the broker holds none of them.
func (t *interestTable) wantAll(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*interest, 0, len(t.m))
	for _, in := range t.m {
		if in.link == l {
			in.confirmed = false
			in.queued = true
			all = append(all, in)
		}
	}
	slices.SortStableFunc(all, func(a, b *interest) int { // the engine's own first: the probe must not wait for the others
		return ownFirst(a) - ownFirst(b)
	})
	t.todo[l] = all
	l.poke()
}

// countOwn counts the engine's own interests at the head of a list.
func countOwn(ins []*interest) int {
	for i, in := range ins {
		if !in.own {
			return i
		}
	}
	return len(ins)
}

func ownFirst(in *interest) int {
	if in.own {
		return 0
	}
	return 1
}

// again queues interests anew.
func (t *interestTable) again(ins []*interest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, in := range ins {
		t.queue(in)
	}
}

// lost marks the interests of a link: none is in force any more, and its subscriptions may have missed something.
func (t *interestTable) lost(l *link, what *loss) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, in := range t.m {
		if in.link == l {
			in.confirmed = false
			in.lose(what)
		}
	}
}

// deny records whether the broker refuses an interest that it had confirmed before. mu is held.
func (t *interestTable) deny(in *interest, denied bool) {
	switch {
	case denied && !in.denied:
		t.denied++
	case !denied && in.denied:
		t.denied--
	}
	in.denied = denied
}

// denials counts the interests that the broker refuses although it had confirmed them before.
func (t *interestTable) denials() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.denied
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
