package backplane

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// flush sends one batch and settles it. It returns false when there is nothing to send, or no link to send it on.
func (l *lane) flush() bool {
	l.mu.Lock()
	if l.company { // let publishers that are about to run join: +70 % with 16 publishers, and free when idle
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
	}
	closings := l.closings
	began := time.Now()
	parcels := l.load(began)
	l.mu.Unlock()
	if len(parcels) == 0 {
		return false
	}
	frames := make([]transport.Frame, len(parcels))
	for i, p := range parcels {
		frames[i] = transport.Frame{Channel: p.outlet.channel, Data: p.frame}
	}
	ctx, cancel := context.WithTimeout(l.n.ctx, l.n.o.ProbeTimeout)
	errs := l.link.each(len(frames), l.n.t.Publish(ctx, l.link.id, frames))
	cancel()
	l.n.stats.framesSent.Add(uint64(len(frames)))
	gone := errs != nil && l.link.gone()

	var demoted, denied error
	heard := false // the broker answered for one of them at least
	l.mu.Lock()
	gone = gone || l.closings != closings // it may be made anew already
	for i, p := range parcels {
		var err error
		if errs != nil {
			err = errs[i]
		}
		if errors.Is(err, transport.ErrReadOnly) {
			demoted = err
		}
		heard = heard || err == nil || refused(err)
		if errors.Is(err, ErrDenied) && p.outlet.addr.kind == kindSystem {
			denied = err
		}
		l.settle(p, began, err, gone)
		if errors.Is(err, ErrDenied) && !gone && p.outlet.addr == membersAddress {
			l.bar(err) // no member hears a gate's question
		}
	}
	l.mu.Unlock()
	if l.link.mute.Store(!heard); !heard {
		l.link.watch(time.Now()) // the duties look at a probe's time, which may just have passed
	}
	if demoted != nil {
		l.link.fail(demoted)
	}
	if denied != nil {
		l.link.denied(denied)
	}
	return true
}

// load takes what is to be sent next off the lists. mu is held.
func (l *lane) load(now time.Time) []*parcel {
	if !l.open {
		return nil
	}
	l.wakeRested(false)
	var parcels []*parcel
	size := 0
	lists := []*outletList{&l.urgent, &l.ready}
	if l.held != 0 {
		lists = lists[:1]
	}
	for _, from := range lists {
		for from.front != nil && len(parcels) < batchFrames && size < batchBytes {
			o := from.front
			l.unschedule(o)
			p := l.pack(o, now)
			if p == nil {
				l.drop(o)
				continue
			}
			o.flight = true
			parcels = append(parcels, p)
			size += len(p.frame)
		}
	}
	l.company = len(parcels) > 1 || len(parcels) == 1 && parcels[0].items.front.next != nil
	return parcels
}

// pack makes the next frame of an outlet, or returns the one to be sent again. It returns nil if nothing is left to be
// sent, because all of it was taken back. mu is held.
func (l *lane) pack(o *outlet, now time.Time) *parcel {
	if p := o.retry; p != nil {
		o.retry = nil
		if p.wanted() && now.Sub(p.sent) < l.n.resendFor() {
			return p
		}
		l.finish(p, uncertain(errors.New("given up"))) // nobody waits for it, or it is too old; and its numbers are spent
	}
	l.expire(o, now)
	limit := min(coalesceBytes, l.n.maxFrame)
	var p *parcel
	size := wire.Overhead(o.addr.scope, o.addr.name)
	for it := o.queue.front; it != nil; it = o.queue.front {
		if size += len(it.payload) + 8; p != nil && size > limit {
			break
		}
		o.queue.remove(it)
		if it.typ == wire.TailMark && (!o.queue.empty() || o.epoch == 0) {
			o.closing = false // not silent after all, or expired
			l.release(it)
			it.settle(nil)
			continue
		}
		if p == nil {
			p = &parcel{outlet: o, frame: wire.AppendHeader(l.buffer(), l.n.publisher), before: position{o.epoch, o.last}}
		}
		l.append(p, it)
	}
	if p != nil && o.aged != nil && p.before != (position{o.epoch, o.last}) { // with messages
		o.lastUsed = now
		l.aged.MoveToBack(o.aged)
	}
	return p
}

// append encodes an item into a frame. mu is held.
func (l *lane) append(p *parcel, it *item) {
	o := p.outlet
	it.state = itemSent
	p.items.push(it)
	switch {
	case it.typ == wire.TailMark:
		p.frame = wire.AppendMessage(p.frame, wire.TailMark, byte(o.addr.kind), o.addr.scope, o.addr.name, o.epoch, o.last, nil, nil)
	case it.typ != wire.Data:
		payload := it.payload
		if it.typ == wire.Heartbeat {
			flags := p.heartbeat(it)
			if l.n.published.Load() {
				flags |= flagPublished
			}
			payload = l.n.heartbeat(flags, l.n.heartbeats.Load()+p.beats) // as late as possible: see epochClock
		}
		if it.typ == wire.BarrierAnswer { // as late, for the same reason
			payload = l.n.barrierAnswer(payload)
		}
		p.frame = wire.AppendMessage(p.frame, it.typ, byte(o.addr.kind), o.addr.scope, o.addr.name, 0, 0, nil, payload)
		p.next = false
	default:
		if o.epoch == 0 {
			o.epoch = l.n.newEpoch()
			p.next = false
		}
		o.last++
		if p.next {
			p.frame = wire.AppendNext(p.frame, wire.Data, nil, it.payload)
		} else {
			p.frame = wire.AppendMessage(p.frame, wire.Data, byte(o.addr.kind), o.addr.scope, o.addr.name, o.epoch, o.last, nil, it.payload)
		}
		p.next = true
	}
}

func (l *lane) buffer() []byte {
	if k := len(l.free); k > 0 {
		b := l.free[k-1]
		l.free = l.free[:k-1]
		l.kept -= cap(b)
		return b
	}
	return nil
}
