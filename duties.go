package backplane

import (
	"context"
	"errors"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// duties is the node's clock: probes, heartbeats, tail marks, and the watch over members. It wakes only when one is due.
func (n *Node) duties() {
	now := time.Now()
	next := struct{ probe, heartbeat, tail, members, sweep time.Time }{
		now.Add(n.o.ProbeInterval), now.Add(n.o.Heartbeat), now.Add(n.o.TailMark), now.Add(n.o.Heartbeat / 2), now.Add(n.o.MemberTimeout),
	}
	timer := time.NewTimer(n.o.ProbeInterval)
	defer timer.Stop()
	for {
		due := now
		now = time.Now()
		// Woken much too late, the process was paused: the silence of the others may have been its own.
		if wait := now.Sub(due); wait > n.o.ProbeInterval+n.o.Heartbeat {
			n.settle()
			for _, l := range n.allLinks() {
				l.paused(now)
			}
		}
		if !now.Before(next.probe) {
			next.probe = now.Add(n.o.ProbeInterval)
			for _, l := range n.allLinks() {
				l.sendProbe(now)
				n.checkRole(l)
			}
			n.membersLink.barrier.dun(now)
			n.health.look()
		}
		soonest := next.probe
		for _, l := range n.allLinks() {
			if t := l.watch(now); !t.IsZero() && t.Before(soonest) {
				soonest = t
			}
		}
		if !now.Before(next.heartbeat) {
			next.heartbeat = now.Add(n.o.Heartbeat)
			n.sendHeartbeat(0)
		}
		if !now.Before(next.tail) {
			next.tail = n.markSilent(now)
		}
		if !now.Before(next.members) {
			next.members = n.members.check(now, n.membersLink.provenAt())
		}
		if !now.Before(next.sweep) {
			next.sweep = now.Add(n.o.MemberTimeout)
			n.interests.sweep(n)
		}
		for _, t := range []time.Time{next.heartbeat, next.tail, next.members, next.sweep} {
			if t.Before(soonest) {
				soonest = t
			}
		}
		timer.Reset(max(soonest.Sub(now), time.Millisecond))
		select {
		case <-timer.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// markSilent closes the epochs of addresses that this node fell silent on, and returns when to look again: a mark is
// late by at most a quarter of the time.
func (n *Node) markSilent(now time.Time) time.Time {
	next := now.Add(n.o.TailMark)
	for _, l := range n.allLinks() {
		if oldest := l.lane.markSilent(now.Add(-n.o.TailMark)); !oldest.IsZero() {
			if t := oldest.Add(n.o.TailMark); t.Before(next) {
				next = t
			}
		}
	}
	if soonest := now.Add(n.o.TailMark / 4); next.Before(soonest) {
		next = soonest
	}
	return next
}

// checkRole asks the broker behind a link for its role, where the transport can, on a goroutine of its own.
func (n *Node) checkRole(l *link) {
	c, ok := n.t.(transport.Checker)
	if !ok || !l.isUp() || l.checking.Swap(true) {
		return
	}
	n.work.Go(func() {
		defer l.checking.Store(false)
		ctx, cancel := context.WithTimeout(n.ctx, n.o.ProbeTimeout)
		defer cancel()
		err := c.Check(ctx, l.id)
		if n.ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.role = err
		l.mu.Unlock()
		if errors.Is(err, transport.ErrReadOnly) {
			l.fail(err)
		}
		n.health.look()
	})
}

func (l *link) isUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}
