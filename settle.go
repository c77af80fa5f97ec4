package backplane

import (
	"errors"
	"fmt"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// end fails what still waits when the node closes, and whatever comes after.
func (l *lane) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.setLink(false, ErrClosed)
}

// resendFor is how long after its first attempt began a frame may be sent again: as long as every receiver is sure to know it as
// a repeat when it comes, also one that has declared this node dead meanwhile. See closedSweeps.
func (n *Node) resendFor() time.Duration {
	return max(2*n.o.MemberTimeout-n.o.ProbeTimeout, n.o.MemberTimeout) // an attempt may take as long as a probe
}

// expire ends an epoch whose tail mark may have been heard so long ago that receivers have forgotten the epoch: what came of it
// now would be taken for its beginning. mu is held.
func (l *lane) expire(o *outlet, now time.Time) {
	if l.n.expired(o, now) {
		o.endEpoch()
	}
}

// expired reports whether an epoch is to end without its mark. The lane's mutex is held.
func (n *Node) expired(o *outlet, now time.Time) bool {
	return !o.doubted.IsZero() && now.Sub(o.doubted) >= n.resendFor()
}

// heartbeat counts a heartbeat to all, and returns its flags. Only one that the broker has taken spends its number, so that a
// number that is missing was lost on the way to who misses it.
func (p *parcel) heartbeat(it *item) heartbeatFlags {
	flags := heartbeatFlags(it.payload[0]) &^ flagOwed
	if flags&flagDirect == 0 {
		p.beats++
	}
	return flags
}

// wanted reports whether somebody still waits for the fate of the frame; a tail mark always is.
func (p *parcel) wanted() bool {
	for it := p.items.front; it != nil; it = it.next {
		if it.state == itemSent && (it.call != nil || it.typ == wire.TailMark) {
			return true
		}
	}
	return false
}

// settle acts on the fate of a frame that was sent at a time; gone says that the link failed meanwhile. mu is held.
func (l *lane) settle(p *parcel, sent time.Time, err error, gone bool) {
	o := p.outlet
	o.flight = false
	mark := p.items.front.typ == wire.TailMark
	again := errors.Is(err, ErrUnavailable) || errors.Is(err, transport.ErrReadOnly) || !refused(err)
	switch {
	case err == nil:
		o.failures = 0
		if !mark { // whoever had taken the epoch for closed has it open again
			o.doubted = time.Time{}
		}
		l.finish(p, nil)
	case refused(err) && !p.unknown && again && (l.n.o.WaitWhenDown || gone && l.failing == nil) && p.wanted():
		// Nobody has heard it: give the numbers back and wait. It stays the first of its queue.
		o.epoch, o.last = p.before.epoch, p.before.last
		l.requeue(p)
		l.rest(o)
	case refused(err) && !p.unknown:
		o.failures = 0
		o.epoch, o.last = p.before.epoch, p.before.last
		if errors.Is(err, transport.ErrReadOnly) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		l.finish(p, err)
	case !again || l.failing != nil || !p.wanted():
		l.finish(p, uncertain(err)) // this attempt or an earlier one may have been heard
	default:
		if !p.unknown {
			p.unknown, p.sent = true, sent
		}
		o.retry = p
		l.rest(o)
	}
	switch {
	case mark && errors.Is(err, ErrDenied):
		o.endEpoch() // who may not publish there any more has nothing to keep a number for
	case mark && err != nil && !refused(err) && o.doubted.IsZero():
		o.doubted = sent
	}
	if l.failing != nil && (!l.open || o.addr.kind != kindSystem) {
		l.failOutlet(o)
	}
	l.schedule(o)
	l.drop(o)
}

// finish settles the items of a frame and frees it. mu is held.
func (l *lane) finish(p *parcel, err error) {
	o := p.outlet
	for it := p.items.pop(); it != nil; it = p.items.pop() { // once it is settled it may be somebody else's
		l.release(it)
		if it.typ == wire.TailMark {
			o.closing = false
			if err == nil {
				o.endEpoch()
			}
		}
		it.settle(err)
	}
	if err == nil {
		l.n.heartbeats.Add(p.beats)
	}
	if k := cap(p.frame); k <= keptBuffer && l.kept+k <= keptBuffers {
		l.free = append(l.free, p.frame[:0])
		l.kept += k
	}
	p.frame = nil
}

// takeBack settles an item that waits and nobody waits for any more. mu is held.
func (l *lane) takeBack(it *item, err error) {
	o := it.outlet
	o.queue.remove(it)
	l.release(it)
	it.payload = nil
	it.settle(err)
	if o.queue.empty() && o.retry == nil {
		l.unschedule(o)
		l.drop(o)
	}
}

// requeue puts the items of a frame that was surely not taken back to the front of their queue. mu is held.
func (l *lane) requeue(p *parcel) {
	o := p.outlet
	var again itemList
	for it := p.items.pop(); it != nil; it = p.items.pop() {
		if it.state == itemAbandoned || it.call == nil {
			if it.typ == wire.TailMark {
				o.closing = false
			}
			l.release(it)
			it.settle(nil)
			continue
		}
		it.state = itemQueued
		again.push(it)
	}
	again.append(&o.queue)
	o.queue = again
}

// drop forgets an outlet that is not needed any more: nothing waits, and no epoch is open. mu is held.
func (l *lane) drop(o *outlet) {
	if o.dead || o.flight || o.ready || o.resting || o.retry != nil || !o.queue.empty() || o.epoch != 0 {
		return
	}
	if o.aged != nil {
		l.aged.Remove(o.aged)
		o.aged = nil
		l.makeRoom()
	}
	l.n.forget(o)
}

// refused reports whether an error of the transport means that the frame was surely not taken.
func refused(err error) bool {
	return !errors.Is(err, ErrUncertain) &&
		(errors.Is(err, ErrUnavailable) || errors.Is(err, ErrDenied) || errors.Is(err, ErrTooLarge) ||
			errors.Is(err, transport.ErrReadOnly) || errors.Is(err, ErrClosed))
}

// setLink tells the lane how its link is. While the link is being connected, publishes wait; once an attempt has failed
// they fail with err, unless they are to wait.
func (l *lane) setLink(open bool, err error) {
	l.mu.Lock()
	if l.ended {
		open, err = false, ErrClosed
	}
	l.open, l.away = open, false
	if !open {
		l.closings++
	}
	l.failing = nil
	l.makeRoom()
	l.wakeRested(true)
	if !open && err != nil {
		l.turnAway(err, &l.urgent, &l.ready)
	}
	l.mu.Unlock()
	l.poke()
}

// bar notes that the gate of the present connection stays shut, as long as the broker denies what the question to all members
// needs. What it holds fails, unless it is to wait, but for the engine's own traffic, which is not held. mu is held.
func (l *lane) bar(err error) {
	if l.open && l.held != 0 && !l.away {
		l.makeRoom()
		l.wakeRested(true)
		l.turnAway(fmt.Errorf("no member can answer this node: %w", err), &l.ready)
	}
}

// turnAway ends what waits in some lists, and what comes, with err, unless publishes are to wait. Close does not wait for them.
// mu is held.
func (l *lane) turnAway(err error, lists ...*outletList) {
	l.away = true
	if l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
	if !l.n.o.WaitWhenDown || l.ended {
		l.failing = err
	}
	for _, list := range lists {
		outlet := list.front
		*list = outletList{}
		for outlet != nil {
			o := outlet
			outlet = o.next
			o.ready, o.next, o.prev = false, nil, nil
			l.failOutlet(o)
			l.schedule(o)
			l.drop(o)
		}
	}
}

// failOutlet ends what waits on an outlet: with the lane's error where publishes fail at once, and the engine's own
// traffic in any case. mu is held.
func (l *lane) failOutlet(o *outlet) {
	if p := o.retry; p != nil && (l.failing != nil || !p.wanted()) {
		o.retry = nil
		err := l.failing
		if err == nil {
			err = ErrUnavailable
		}
		l.finish(p, uncertain(err))
	}
	var kept itemList
	for it := o.queue.pop(); it != nil; it = o.queue.pop() {
		if l.failing == nil && it.call != nil {
			kept.push(it)
			continue
		}
		if it.typ == wire.TailMark {
			o.closing = false
		}
		l.release(it)
		err := l.failing
		if err == nil {
			err = ErrUnavailable
		}
		it.settle(err)
	}
	o.queue = kept
}
