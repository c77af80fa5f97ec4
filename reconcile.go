package backplane

import (
	"context"
	"errors"
	"slices"
	"time"
)

// reconcileMost is how many channels one call of the transport gets: enough to keep several commands under way.
const reconcileMost = 8192

// queue lists an interest to be reconciled. While its link is not up it does nothing: all are listed at the connect. mu is
// held.
func (t *interestTable) queue(in *interest) {
	list, up := t.todo[in.link]
	if in.queued || !up {
		return
	}
	in.queued = true
	t.todo[in.link] = append(list, in)
	in.link.poke()
}

// again queues interests anew.
func (t *interestTable) again(ins []*interest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, in := range ins {
		t.queue(in)
	}
}

// wantAll queues every interest of a link that has just been connected: the broker holds none of them.
func (t *interestTable) wantAll(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*interest, 0, len(t.m))
	for _, in := range t.m {
		if in.link == l {
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

// reconcile makes one call of the transport that brings what is wanted and what is in force closer, for the supervisor of l.
// It returns false when they agree, or when the link is given up.
func (l *link) reconcile(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	enter, exit, more := l.n.interests.take(l)
	if len(exit) > 0 {
		l.left(exit, l.each(len(exit), l.n.t.Unsubscribe(ctx, l.id, channelsOf(exit))))
	}
	if len(enter) > 0 {
		l.entered(ctx, enter, l.each(len(enter), l.n.t.Subscribe(ctx, l.id, channelsOf(enter))))
	}
	return more && ctx.Err() == nil
}

func channelsOf(ins []*interest) []string {
	names := make([]string, len(ins))
	for i, in := range ins {
		names[i] = in.channel
	}
	return names
}

// take takes interests off the list of a link, sorted by what is to be asked of the broker; more is false if there was none.
func (t *interestTable) take(l *link) (enter, exit []*interest, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	todo := t.todo[l]
	k := min(len(todo), reconcileMost)
	if ours := countOwn(todo); ours > 0 {
		k = ours // they must not wait for the others: the probe tells whether the link lives
	}
	if t.todo[l] = todo[k:]; k == len(todo) {
		t.todo[l] = nil // and its array
	}
	for _, in := range todo[:k] {
		in.queued = false
		switch {
		case in.link != l: // it moved
			t.queue(in)
		case in.refs > 0 && !in.confirmed && in.round == nil:
			in.busy, in.held = true, true
			enter = append(enter, in)
		case in.held && (in.refs == 0 || in.renew):
			in.busy, in.confirmed, in.round = true, false, nil // who comes now waits until it is subscribed again
			exit = append(exit, in)
		case in.refs == 0:
			t.remove(l.n, in)
		}
	}
	return enter, exit, k > 0
}

// left acts on the answers to an Unsubscribe.
func (l *link) left(exit []*interest, errs []error) {
	t := &l.n.interests
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, in := range exit {
		in.busy, in.stale = false, false
		failed := errs != nil && errs[i] != nil
		in.held = failed
		switch {
		case in.refs > 0: // to be subscribed anew, or somebody came meanwhile
			if !in.renew {
				in.forgetPublishers(l.n) // what is missing between the two was not subscribed
			}
			in.renew = false
			t.queue(in)
		case failed:
			l.later = append(l.later, in)
		default:
			t.remove(l.n, in)
		}
	}
}

// entered acts on the answers to a Subscribe.
func (l *link) entered(ctx context.Context, enter []*interest, errs []error) {
	n, t := l.n, &l.n.interests
	clustered := l.barrier.clustered()
	tick := n.ticks.Add(1)
	denials, example := 0, Address{}
	var ownDenied error
	var own []*interest // that it is about
	var ready []*interest
	var waiters []*waiter // told without the lock, which what they do next would have to wait for
	t.mu.Lock()
	for i, in := range enter {
		var err error
		if errs != nil {
			err = errs[i]
		}
		again := in.stale || in.link != l
		in.busy, in.stale = false, false
		switch {
		case again: // what the broker confirmed holds no more
			t.queue(in)
		case err == nil && clustered && !in.own:
			t.deny(in, false)
			l.barrier.join(in)
			if in.refs == 0 {
				t.queue(in)
			}
		case err == nil:
			t.deny(in, false)
			waiters = append(waiters, l.confirm(in, tick)...)
			if in.own {
				ready = append(ready, in)
			}
		case ctx.Err() != nil: // the link is given up
		case errors.Is(err, ErrDenied):
			in.held = false
			if in.own {
				own, ownDenied = append(own, in), err
			}
			if l.refuse(in, err) {
				denials, example = denials+1, in.addr
			}
		case in.refs == 0:
			t.queue(in) // the broker may hold it
		default:
			for _, w := range in.waiters {
				w.said = err
			}
			l.later = append(l.later, in)
			l.unsure++
		}
	}
	t.mu.Unlock()
	for _, w := range waiters {
		w.done <- nil
	}
	if denials > 0 {
		n.log.Error("the broker denies subscriptions; check the permissions of the user", "channels", denials, "one", n.shown(example))
		n.health.look()
	}
	if ownDenied != nil {
		l.deniedOwn(own, ownDenied)
	}
	for _, in := range ready {
		switch in {
		case l.probe:
			l.sendProbe(time.Now())
		case l.first:
			n.sendHeartbeat(flagHello)
		}
	}
	if len(ready) > 0 && l == n.membersLink && n.interests.confirmed(l.first) && n.interests.confirmed(n.inbox) {
		l.barrier.begin() // behind the hello, which makes us known
	}
	if clustered {
		l.barrier.step(true)
	}
}

// confirm puts an interest in force that the broker has confirmed, after a round of the members where there was one. It
// returns the waiters, to be told. interestTable.mu is held.
func (l *link) confirm(in *interest, tick uint64) []*waiter {
	in.confirmed = true
	waiters := l.enter(in, tick)
	if in.refs == 0 {
		l.n.interests.queue(in)
	}
	return waiters
}

// refuse tells who waits for an interest that the broker refuses it. Where it is needed all the same it is tried again later.
// It returns true if that is news. interestTable.mu is held.
func (l *link) refuse(in *interest, err error) bool {
	t := &l.n.interests
	waiters := in.waiters
	in.waiters = nil
	in.refs -= int32(len(waiters)) //nolint:gosec // bounded by refs
	for _, w := range waiters {
		l.n.stats.subscriptions.Add(-1)
		w.done <- err
	}
	if in.refs == 0 {
		t.remove(l.n, in)
		return false
	}
	l.later = append(l.later, in)
	return t.deny(in, true)
}

// enter puts an interest in force: it tells what was lost before, then lets the waiters in. It returns them, to be told.
// interestTable.mu is held.
func (l *link) enter(in *interest, tick uint64) []*waiter {
	in.renew = false
	in.heard.Store(uint32(l.n.proofAt(time.Now(), false)))
	l.n.interests.toProve(in)
	in.mu.Lock()
	in.since, in.at = tick, int64(time.Since(l.n.opened))
	in.tellLoss()
	for _, w := range in.waiters {
		w.sub.joined = tick
		w.sub.next, in.head = in.head, w.sub
	}
	in.mu.Unlock()
	waiters := in.waiters
	in.waiters = nil
	return waiters
}

// lost marks the interests of a link: the broker holds none any more, and their subscriptions may have missed something.
func (t *interestTable) lost(n *Node, l *link, what *loss) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.todo, l)
	for _, in := range t.m {
		if in.link != l {
			continue
		}
		in.confirmed, in.held, in.busy, in.stale, in.queued, in.round = false, false, false, false, false, nil
		if in.refs == 0 {
			t.remove(n, in)
			continue
		}
		in.lose(what)
	}
}

// gap notes a loss on a link that stays connected: of the named channels, or of all.
func (t *interestTable) gap(n *Node, l *link, channels []string, resubscribe bool, what *loss) {
	if channels == nil {
		channels = t.channelsOf(l)
	}
	links := make([]*link, len(channels))
	for i, name := range channels {
		if links[i] = l; resubscribe {
			links[i] = n.linkOf(name) // it may have moved
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, name := range channels {
		in := t.m[name]
		if in == nil || in.link != l {
			continue
		}
		in.lose(what)
		if !resubscribe {
			in.mu.Lock()
			in.tellLoss()
			in.mu.Unlock()
			continue
		}
		in.link = links[i]
		in.confirmed, in.stale, in.round = false, in.busy, nil
		t.queue(in)
	}
}

// channelsOf lists the channels of a link.
func (t *interestTable) channelsOf(l *link) []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var names []string
	for _, in := range t.m {
		if in.link == l {
			names = append(names, in.channel)
		}
	}
	return names
}
