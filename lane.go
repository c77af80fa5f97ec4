package backplane

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
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
	keptBuffers   = 2 << 20   // of all of them together
	ownBytes      = 1 << 20   // what may wait of the engine's own traffic, beyond what publishers may
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
	away    bool          // the last attempt to connect failed
	ended   bool          // the node is closed
	failing error         // publishes fail at once with it, until the link is up again
	bytes   int           // what waits or is under way
	owed    int           // items that wait or are under way and must be finished before the node closes
	space   chan struct{} // closed when bytes shrink; nil if nobody waits
	urgent  outletList    // with something to send: the engine's own traffic
	ready   outletList    // with something to send
	resting []*outlet     // with something to send, but only later: an attempt failed
	rested  time.Time     // when the first of them has rested; zero if none rests
	aged    *list.List    // outlets with an open epoch, the longest silent first
	idle    chan struct{} // closed when nothing is owed; nil if nobody waits
	company bool          // the last batch had more than one item
	free    [][]byte      // frame buffers
	kept    int           // their capacity
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
	defer l.mu.Unlock()
	for {
		switch {
		case o.dead || o.lane != l:
			return false, nil
		case l.failing != nil:
			l.drop(o)
			return false, l.failing
		}
		roomy := l.bytes == 0 || l.bytes+it.size() <= l.n.o.PublishBytes
		counted := it.typ != wire.Data || o.aged != nil || l.aged.Len() < l.n.o.MaxCounters
		if roomy && counted {
			break
		}
		if !counted {
			l.markOldest()
		}
		if err := l.waitForSpace(ctx); err != nil {
			l.drop(o)
			return false, err
		}
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
	l.poke()
	return true, nil
}

// waitForSpace lets go of mu until something left the queue or the tables. mu is held.
func (l *lane) waitForSpace(ctx context.Context) error {
	if l.space == nil {
		l.space = make(chan struct{})
	}
	space := l.space
	l.mu.Unlock()
	defer l.mu.Lock()
	select {
	case <-space:
	case <-ctx.Done():
	case <-l.n.ctx.Done():
		return ErrClosed
	}
	if ctx.Err() != nil {
		return notSent(fmt.Errorf("the publish queue is full: %w", context.Cause(ctx)))
	}
	return nil
}

// addOwn queues a message of the engine's own, without waiting for space: they are small and few. It is dropped while
// the link is not up, and where too many wait because the link is slow.
func (l *lane) addOwn(o *outlet, it *item) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.dead || o.lane != l {
		return false
	}
	if !l.open || l.bytes > max(l.n.o.PublishBytes, l.n.o.MaxPayload)+ownBytes {
		l.drop(o)
		return true
	}
	l.put(o, it)
	l.poke()
	return true
}

// put appends an item to its outlet. mu is held.
func (l *lane) put(o *outlet, it *item) {
	it.outlet = o
	it.state = itemQueued
	o.queue = append(o.queue, it)
	l.bytes += it.size()
	if it.owed() {
		l.owed++
	}
	l.schedule(o)
}

// schedule lists an outlet that has something to send. mu is held.
func (l *lane) schedule(o *outlet) {
	if o.ready || o.flight || o.resting || len(o.queue) == 0 && o.retry == nil {
		return
	}
	o.ready = true
	l.listOf(o).push(o)
}

// unschedule takes an outlet off the lists. mu is held.
func (l *lane) unschedule(o *outlet) {
	if o.ready {
		o.ready = false
		l.listOf(o).remove(o)
	}
	if o.resting {
		o.resting = false
		l.resting = slices.DeleteFunc(l.resting, func(other *outlet) bool { return other == o })
	}
}

func (l *lane) listOf(o *outlet) *outletList {
	if o.addr.kind == kindSystem {
		return &l.urgent
	}
	return &l.ready
}

// rest keeps an outlet from being tried again for a while, after attempts that failed: the first retry is immediate. The
// others do not wait for it. mu is held.
func (l *lane) rest(o *outlet) {
	o.failures++
	if o.failures < 2 || o.ready || o.resting {
		return
	}
	o.resting = true
	o.rested = time.Now().Add(l.n.backoff(o.failures - 1))
	l.resting = append(l.resting, o)
	if l.rested.IsZero() || o.rested.Before(l.rested) {
		l.rested = o.rested
	}
}

// wakeRested lists the outlets that have rested, or all of them. mu is held.
func (l *lane) wakeRested(everybody bool) {
	if len(l.resting) == 0 {
		l.rested = time.Time{}
		return
	}
	now := time.Now()
	if !everybody && now.Before(l.rested) {
		return
	}
	l.rested = time.Time{}
	l.resting = slices.DeleteFunc(l.resting, func(o *outlet) bool {
		if !everybody && now.Before(o.rested) {
			if l.rested.IsZero() || o.rested.Before(l.rested) {
				l.rested = o.rested
			}
			return false
		}
		o.resting = false
		l.schedule(o)
		return true
	})
}

func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// release gives an item's queue space back. mu is held.
func (l *lane) release(it *item) {
	l.bytes -= it.size()
	if it.owed() {
		l.owed--
	}
	l.makeRoom()
	if l.owed == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// makeRoom lets who waits for space look again. mu is held.
func (l *lane) makeRoom() {
	if l.space != nil {
		close(l.space)
		l.space = nil
	}
}

// run is the lane's goroutine; it ends with the node.
func (l *lane) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for l.n.ctx.Err() == nil {
		if l.flush() {
			continue
		}
		l.mu.Lock()
		rested := l.rested
		if !l.open { // setLink wakes us: without a link there is nothing to wake up for
			rested = time.Time{}
		}
		l.mu.Unlock()
		if !rested.IsZero() {
			timer.Reset(time.Until(rested))
		}
		select {
		case <-l.wake:
		case <-timer.C:
		case <-l.n.ctx.Done():
		}
	}
	l.end()
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
	l.mu.Unlock()
	if len(parcels) == 0 {
		return false
	}
	frames := make([]transport.Frame, len(parcels))
	for i, p := range parcels {
		frames[i] = transport.Frame{Channel: p.outlet.channel, Data: p.frame}
	}
	ctx, cancel := context.WithTimeout(l.n.ctx, l.n.o.ProbeTimeout)
	errs := l.n.t.Publish(ctx, l.link.id, frames)
	cancel()
	l.n.stats.framesSent.Add(uint64(len(frames)))

	var demoted, denied error
	heard := false // the broker answered for one of them at least
	l.mu.Lock()
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
		l.settle(p, err)
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
func (l *lane) load() []*parcel {
	if !l.open {
		return nil
	}
	l.wakeRested(false)
	var parcels []*parcel
	size, items := 0, 0
	for _, from := range []*outletList{&l.urgent, &l.ready} {
		for from.front != nil && len(parcels) < batchFrames && size < batchBytes {
			o := from.front
			l.unschedule(o)
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
	}
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
		if it.state != itemQueued { // taken back
			taken++
			o.void--
			continue
		}
		size += len(it.payload) + 8
		if p != nil && size+overhead > limit {
			break
		}
		taken++
		if it.typ == wire.TailMark && i+1 < len(o.queue) {
			o.closing = false // not silent after all
			l.release(it)
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

// settle acts on the fate of a frame that was sent. mu is held.
func (l *lane) settle(p *parcel, err error) {
	o := p.outlet
	o.flight = false
	mark := p.items[0].typ == wire.TailMark // once it is settled an item may be somebody else's
	again := errors.Is(err, ErrUnavailable) || errors.Is(err, transport.ErrReadOnly) || !refused(err)
	switch {
	case err == nil:
		o.failures = 0
		l.finish(p, nil)
	case refused(err) && !p.unknown && again && l.n.o.WaitWhenDown && p.wanted():
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
			p.unknown, p.sent = true, time.Now()
		}
		o.retry = p
		l.rest(o)
	}
	if mark && errors.Is(err, ErrDenied) {
		o.epoch, o.last = 0, 0 // who may not publish there any more has nothing to keep a number for
	}
	if l.failing != nil {
		l.failOutlet(o)
	}
	l.schedule(o)
	l.drop(o)
}

// finish settles the items of a frame and frees it. mu is held.
func (l *lane) finish(p *parcel, err error) {
	o := p.outlet
	for _, it := range p.items {
		l.release(it)
		if it.typ == wire.TailMark {
			o.closing = false
			if err == nil {
				o.epoch, o.last = 0, 0
			}
		}
		it.settle(err)
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
	l.release(it)
	it.payload = nil
	it.settle(err)
	if o.void++; 2*o.void < len(o.queue) {
		return
	}
	o.queue = slices.DeleteFunc(o.queue, func(other *item) bool { return other.state != itemQueued })
	o.void = 0
	if len(o.queue) == 0 && o.retry == nil {
		o.queue = nil
		l.unschedule(o)
		l.drop(o)
	}
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
			l.release(it)
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
	if o.dead || o.flight || o.ready || o.resting || o.retry != nil || len(o.queue) > 0 || o.epoch != 0 {
		return
	}
	if o.aged != nil {
		l.aged.Remove(o.aged)
		o.aged = nil
		l.makeRoom()
	}
	l.n.forget(o)
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
	l.open, l.away = open, !open && err != nil
	l.failing = nil
	l.makeRoom()
	if l.away && l.idle != nil {
		close(l.idle) // what waits for the broker to come back is not waited for
		l.idle = nil
	}
	l.wakeRested(true)
	if !open && err != nil {
		if !l.n.o.WaitWhenDown || l.ended {
			l.failing = err
		}
		for _, list := range []*outletList{&l.urgent, &l.ready} {
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
			l.release(it)
			err := l.failing
			if err == nil {
				err = ErrUnavailable
			}
			it.settle(err)
		}
	}
	clear(o.queue[len(kept):])
	o.queue, o.void = kept, 0
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

// drain waits until everything that was accepted is finished, or the broker cannot be reached. Probes and heartbeats go on
// meanwhile.
func (l *lane) drain(ctx context.Context) error {
	l.mu.Lock()
	if l.owed == 0 || l.away {
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
