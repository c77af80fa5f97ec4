package backplane

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

const (
	coalesceBytes = 64 << 10 // a frame is closed at this size; 16 to 64 KiB are equally fast, 4 KiB costs 40 %
	batchFrames   = 512      // frames in one call of the transport
	batchBytes    = 1 << 20
	keptBuffer    = 128 << 10 // larger frame buffers are left to the collector
)

// lane is the publishing side of one link. One goroutine sends; what arrives meanwhile is the next batch, so that an
// idle publisher's message leaves at once and a busy one's leave together: the round trip is the window, no timer.
//
// Of each address at most one frame is under way, so nothing is sent before the fate of what came earlier is known.
type lane struct {
	n    *Node
	link *link
	wake chan struct{} // there may be something to send

	mu      sync.Mutex
	open    bool          // the link is up: guarded by mu, as is all below
	ended   bool          // the node is closed
	failing error         // publishes fail at once with it, until the link is up again
	bytes   int           // what waits or is under way
	space   chan struct{} // closed when bytes shrink; nil if nobody waits
	urgent  []*outlet     // with something to send: the engine's own traffic
	ready   []*outlet     // with something to send
	aged    *list.List    // outlets with an open epoch, the longest silent first
	busy    int           // outlets under way
	idle    chan struct{} // closed when nothing waits or is under way; nil if nobody waits
	company bool          // the last batch had more than one item
	retries int           // batches in a row of which a frame's fate is unknown
	free    [][]byte      // frame buffers
}

func newLane(n *Node, l *link) *lane {
	return &lane{n: n, link: l, wake: make(chan struct{}, 1), aged: list.New()}
}

func (l *lane) queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// end fails what still waits when the node closes, and whatever comes after.
func (l *lane) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.setLink(false, ErrClosed)
}

// add queues an item. It returns false without an error when the outlet is not the address's any more.
func (l *lane) add(ctx context.Context, o *outlet, it *item) (bool, error) {
	l.mu.Lock()
	for {
		switch {
		case o.dead || o.lane != l:
			l.mu.Unlock()
			return false, nil
		case l.failing != nil:
			err := l.failing
			l.mu.Unlock()
			return false, err
		}
		roomy := l.bytes == 0 || l.bytes+it.size() <= l.n.o.PublishBytes
		counted := it.typ != wire.Data || o.aged != nil || l.aged.Len() < l.n.o.MaxCounters
		if roomy && counted {
			break
		}
		if !counted {
			l.markOldest()
		}
		if l.space == nil {
			l.space = make(chan struct{})
		}
		space := l.space
		l.mu.Unlock()
		select {
		case <-space:
		case <-ctx.Done():
			return false, notSent(fmt.Errorf("the publish queue is full: %w", context.Cause(ctx)))
		case <-l.n.ctx.Done():
			return false, ErrClosed
		}
		l.mu.Lock()
	}
	if it.typ == wire.Data {
		o.lastUsed = time.Now()
		if o.aged == nil {
			o.aged = l.aged.PushBack(o)
		} else {
			l.aged.MoveToBack(o.aged)
		}
	}
	l.put(o, it)
	l.mu.Unlock()
	l.poke()
	return true, nil
}

// addOwn queues a message of the engine's own, without waiting for space: they are small and few. It is dropped while
// the link is not up.
func (l *lane) addOwn(o *outlet, it *item) bool {
	l.mu.Lock()
	ok := l.open && !o.dead && o.lane == l
	if ok {
		l.put(o, it)
	}
	l.mu.Unlock()
	if ok {
		l.poke()
	}
	return ok
}

// put appends an item to its outlet. mu is held.
func (l *lane) put(o *outlet, it *item) {
	it.outlet = o
	it.state = itemQueued
	o.queue = append(o.queue, it)
	l.bytes += it.size()
	l.schedule(o)
}

// schedule lists an outlet that has something to send. mu is held.
func (l *lane) schedule(o *outlet) {
	if o.ready || o.flight || len(o.queue) == 0 && o.retry == nil {
		return
	}
	o.ready = true
	if o.addr.kind == kindSystem {
		l.urgent = append(l.urgent, o)
	} else {
		l.ready = append(l.ready, o)
	}
}

func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// release gives queue space back. mu is held.
func (l *lane) release(size int) {
	l.bytes -= size
	if l.space != nil {
		close(l.space)
		l.space = nil
	}
	if l.bytes == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// run is the lane's goroutine; it ends with the node.
func (l *lane) run() {
	for {
		select {
		case <-l.wake:
		case <-l.n.ctx.Done():
			l.end()
			return
		}
		for l.flush() {
		}
	}
}

// flush sends one batch and settles it. It returns false when there is nothing to send, or no link to send it on.
func (l *lane) flush() bool {
	l.mu.Lock()
	if l.company { // let publishers that are about to run join: +70 % with 16 publishers, and free when idle
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
	}
	parcels := l.load()
	retries := l.retries
	l.mu.Unlock()
	if len(parcels) == 0 {
		return false
	}
	if retries > 1 { // the first retry is immediate
		l.n.sleep(l.n.backoff(retries - 1))
	}
	frames := make([]transport.Frame, len(parcels))
	for i, p := range parcels {
		frames[i] = transport.Frame{Channel: p.outlet.channel, Data: p.frame}
	}
	ctx, cancel := context.WithTimeout(l.n.ctx, l.n.o.ProbeTimeout)
	errs := l.n.t.Publish(ctx, l.link.id, frames)
	cancel()
	l.n.stats.framesSent.Add(uint64(len(frames)))

	var demoted error
	l.mu.Lock()
	l.busy -= len(parcels)
	again := false
	for i, p := range parcels {
		var err error
		if errs != nil {
			err = errs[i]
		}
		if errors.Is(err, transport.ErrReadOnly) {
			demoted = err
		}
		again = l.settle(p, err) || again
	}
	l.retries++
	if !again {
		l.retries = 0
	}
	l.mu.Unlock()
	if demoted != nil {
		l.link.fail(demoted)
	}
	return true
}

// load takes what is to be sent next off the lists. mu is held.
func (l *lane) load() []*parcel {
	if !l.open {
		return nil
	}
	var parcels []*parcel
	size, items := 0, 0
	for _, from := range []*[]*outlet{&l.urgent, &l.ready} {
		taken := 0
		for _, o := range *from {
			if len(parcels) == batchFrames || size >= batchBytes {
				break
			}
			taken++
			o.ready = false
			p := l.pack(o)
			if p == nil {
				l.drop(o)
				continue
			}
			o.flight = true
			parcels = append(parcels, p)
			size += len(p.frame)
			items += len(p.items)
		}
		rest := copy(*from, (*from)[taken:])
		clear((*from)[rest:])
		*from = (*from)[:rest]
	}
	l.busy += len(parcels)
	l.company = items > 1
	return parcels
}

// pack makes the next frame of an outlet, or returns the one to be sent again. It returns nil if nothing is left to be
// sent, because all of it was taken back. mu is held.
func (l *lane) pack(o *outlet) *parcel {
	if p := o.retry; p != nil {
		o.retry = nil
		if p.wanted() && time.Since(p.sent) < l.n.resendFor() {
			return p
		}
		l.finish(p, uncertain(errors.New("given up"))) // nobody waits for it, or it is too old; and its numbers are spent
	}
	limit := coalesceBytes
	if most := l.n.maxFrame; most > 0 && most < limit {
		limit = most
	}
	var p *parcel
	taken, overhead := 0, wire.Overhead(o.addr.scope, o.addr.name)
	size := 0
	for i, it := range o.queue {
		if it.state != itemQueued {
			taken++
			continue
		}
		size += len(it.payload) + 8
		if p != nil && size+overhead > limit {
			break
		}
		taken++
		if it.typ == wire.TailMark && i+1 < len(o.queue) {
			o.closing = false // not silent after all
			l.release(it.size())
			it.settle(nil)
			continue
		}
		if p == nil {
			p = &parcel{outlet: o, frame: wire.AppendHeader(l.buffer(), l.n.publisher), before: position{o.epoch, o.last}}
		}
		l.append(p, it)
	}
	rest := copy(o.queue, o.queue[taken:])
	clear(o.queue[rest:])
	o.queue = o.queue[:rest]
	if p != nil {
		p.after = position{o.epoch, o.last}
	}
	return p
}

// append encodes an item into a frame. mu is held.
func (l *lane) append(p *parcel, it *item) {
	o := p.outlet
	it.state = itemSent
	p.items = append(p.items, it)
	switch {
	case it.typ == wire.TailMark:
		p.frame = wire.AppendMessage(p.frame, wire.TailMark, byte(o.addr.kind), o.addr.scope, o.addr.name, o.epoch, o.last, nil, nil)
	case it.typ != wire.Data:
		payload := it.payload
		if it.typ == wire.Heartbeat {
			payload = l.n.appendHeartbeat(nil, heartbeatFlags(it.payload[0])) // as late as possible: see epochClock
		}
		p.frame = wire.AppendMessage(p.frame, it.typ, byte(o.addr.kind), o.addr.scope, o.addr.name, 0, 0, nil, payload)
		p.next = false
	default:
		if o.epoch == 0 {
			o.epoch = l.n.epochClock.Add(1)
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

// resendFor is how long after its first attempt a frame may be sent again: as long as every receiver is sure to know it as a
// repeat, also one that has declared this node dead meanwhile. See closedSweeps.
func (n *Node) resendFor() time.Duration { return 2 * n.o.MemberTimeout }

// wanted reports whether somebody still waits for the fate of the frame; a tail mark always is.
func (p *parcel) wanted() bool {
	for _, it := range p.items {
		if it.state == itemSent && (it.call != nil || it.typ == wire.TailMark) {
			return true
		}
	}
	return false
}

// settle acts on the fate of a frame that was sent. It returns true if the frame's fate is unknown. mu is held.
func (l *lane) settle(p *parcel, err error) (unknown bool) {
	o := p.outlet
	o.flight = false
	switch {
	case err == nil:
		l.finish(p, nil)
	case refused(err) && !p.unknown && l.n.o.WaitWhenDown && p.wanted() && (errors.Is(err, ErrUnavailable) || errors.Is(err, transport.ErrReadOnly)):
		// Nobody has heard it: give the numbers back and wait. It stays the first of its queue.
		o.epoch, o.last = p.before.epoch, p.before.last
		l.requeue(p)
		unknown = true // for the back-off only
	case refused(err) && !p.unknown:
		o.epoch, o.last = p.before.epoch, p.before.last
		if errors.Is(err, transport.ErrReadOnly) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		l.finish(p, err)
	case l.failing != nil || !p.wanted():
		l.finish(p, uncertain(err))
		unknown = true
	case refused(err) && errors.Is(err, ErrDenied):
		l.finish(p, uncertain(err)) // an earlier attempt may have been heard
	default:
		if !p.unknown {
			p.unknown, p.sent = true, time.Now()
		}
		o.retry = p
		unknown = true
	}
	if l.failing != nil {
		l.failOutlet(o)
	}
	l.schedule(o)
	if !o.ready {
		l.drop(o)
	}
	return unknown
}

// finish settles the items of a frame and frees it. mu is held.
func (l *lane) finish(p *parcel, err error) {
	o := p.outlet
	size := 0
	for _, it := range p.items {
		size += it.size()
		if it.typ == wire.TailMark {
			o.closing = false
			if err == nil {
				o.epoch, o.last = 0, 0
			}
		}
		it.settle(err)
	}
	if cap(p.frame) <= keptBuffer && len(l.free) < batchFrames {
		l.free = append(l.free, p.frame[:0])
	}
	p.frame = nil
	l.release(size)
}

// requeue puts the items of a frame that was surely not taken back to the front of their queue. mu is held.
func (l *lane) requeue(p *parcel) {
	o := p.outlet
	queue := make([]*item, 0, len(p.items)+len(o.queue))
	for _, it := range p.items {
		switch {
		case it.state == itemAbandoned || it.call == nil:
			if it.typ == wire.TailMark {
				o.closing = false
			}
			l.release(it.size())
			it.settle(nil)
		default:
			it.state = itemQueued
			queue = append(queue, it)
		}
	}
	o.queue = append(queue, o.queue...)
}

// drop forgets an outlet that is not needed any more: nothing waits, and no epoch is open. mu is held.
func (l *lane) drop(o *outlet) {
	if o.dead || o.flight || o.ready || o.retry != nil || len(o.queue) > 0 || o.epoch != 0 {
		return
	}
	if o.aged != nil {
		l.aged.Remove(o.aged)
		o.aged = nil
		l.release(0)
	}
	l.n.forget(o)
}

func (l *lane) buffer() []byte {
	if k := len(l.free); k > 0 {
		b := l.free[k-1]
		l.free = l.free[:k-1]
		return b
	}
	return nil
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
	l.open = open
	l.failing = nil
	l.release(0) // who waits for space must look again
	if !open && l.idle != nil {
		close(l.idle) // what waits for the link is not waited for
		l.idle = nil
	}
	if !open && err != nil {
		if !l.n.o.WaitWhenDown || l.ended {
			l.failing = err
		}
		for _, list := range []*[]*outlet{&l.urgent, &l.ready} {
			outlets := *list
			*list = nil
			for _, o := range outlets {
				o.ready = false
				l.failOutlet(o)
				l.schedule(o)
				if !o.ready {
					l.drop(o)
				}
			}
		}
	}
	l.mu.Unlock()
	l.poke()
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
	kept := o.queue[:0]
	for _, it := range o.queue {
		switch {
		case it.state != itemQueued:
		case l.failing == nil && it.call != nil:
			kept = append(kept, it)
		default:
			if it.typ == wire.TailMark {
				o.closing = false
			}
			l.release(it.size())
			err := l.failing
			if err == nil {
				err = ErrUnavailable
			}
			it.settle(err)
		}
	}
	clear(o.queue[len(kept):])
	o.queue = kept
}

// markSilent queues tail marks for the outlets that were last used before the given moment, and returns when the next
// one is due; the zero time if there is none.
func (l *lane) markSilent(before time.Time) (oldest time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return time.Time{}
	}
	marked := false
	for e := l.aged.Front(); e != nil; {
		next := e.Next() // mark may remove e
		o, _ := e.Value.(*outlet)
		if o.lastUsed.After(before) {
			oldest = o.lastUsed
			break
		}
		marked = l.mark(o) || marked
		e = next
	}
	if marked {
		l.poke()
	}
	return oldest
}

// mark queues a tail mark, which closes the outlet's epoch. mu is held.
func (l *lane) mark(o *outlet) bool {
	if o.closing || o.flight || o.retry != nil || len(o.queue) > 0 {
		return false
	}
	if o.epoch == 0 {
		l.drop(o)
		return false
	}
	o.closing = true
	l.put(o, &item{typ: wire.TailMark})
	return true
}

// markOldest makes room in a full table of numbers: a counter may be forgotten only after its tail mark. mu is held.
func (l *lane) markOldest() {
	marked := false
	for e, k := l.aged.Front(), 0; e != nil && k < batchFrames; k++ {
		next := e.Next()
		o, _ := e.Value.(*outlet)
		marked = l.mark(o) || marked
		e = next
	}
	if marked {
		l.poke()
	}
}

// markAll queues a tail mark for every open epoch: the node says its last numbers before it closes.
func (l *lane) markAll() {
	l.mu.Lock()
	if l.open {
		for e := l.aged.Front(); e != nil; {
			next := e.Next()
			o, _ := e.Value.(*outlet)
			l.mark(o)
			e = next
		}
	}
	l.mu.Unlock()
	l.poke()
}

// drain waits until nothing waits or is under way, or the link is not up.
func (l *lane) drain(ctx context.Context) error {
	l.mu.Lock()
	if l.bytes == 0 || !l.open {
		l.mu.Unlock()
		return nil
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
