package backplane

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

const (
	coalesceBytes = 64 << 10 // a frame is closed at this size; 4 KiB costs 40 %; for larger ones see decision 0003
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

	mu       sync.Mutex
	open     bool          // the link is up: guarded by mu, as is all below
	held     uint64        // the connection whose gate holds all but the engine's own traffic; 0 for none; see barrier.go
	closings int           // how often the link was lost
	away     bool          // the last attempt to connect failed, or the gate cannot open
	ended    bool          // the node is closed
	failing  error         // publishes fail at once with it, until the link is up again, or its gate opens
	bytes    int           // what waits or is under way
	owed     int           // items that wait or are under way and must be finished before the node closes
	space    chan struct{} // closed when bytes shrink; nil if nobody waits
	urgent   outletList    // with something to send: the engine's own traffic
	ready    outletList    // with something to send
	resting  []*outlet     // with something to send, but only later: an attempt failed
	rested   time.Time     // when the first of them has rested; zero if none rests
	aged     *list.List    // outlets with an open epoch, the longest silent first
	idle     chan struct{} // closed when nothing is owed; nil if nobody waits
	company  bool          // the last batch had more than one item
	free     [][]byte      // frame buffers
	kept     int           // their capacity
}

func newLane(n *Node, l *link) *lane {
	return &lane{n: n, link: l, wake: make(chan struct{}, 1), aged: list.New()}
}

func (l *lane) queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
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
	if it.typ == wire.Data && o.aged == nil {
		o.aged = l.aged.PushBack(o)
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
	if !l.open || !it.owed() && l.bytes > max(l.n.o.PublishBytes, l.n.o.MaxPayload)+ownBytes {
		l.drop(o)
		return true
	}
	l.put(o, it)
	l.poke()
	return true
}

// hold keeps all but the engine's own traffic waiting until the gate of a connection is over; 0 keeps nothing.
func (l *lane) hold(connection uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = connection
}

// openGate opens the gate of a connection, unless there is a newer one.
func (l *lane) openGate(connection uint64) {
	l.mu.Lock()
	if l.held == connection {
		l.held = 0
		if l.open {
			l.away, l.failing = false, nil
		}
	}
	l.mu.Unlock()
	l.poke()
}

// put appends an item to its outlet. mu is held.
func (l *lane) put(o *outlet, it *item) {
	it.outlet = o
	it.state = itemQueued
	o.queue.push(it)
	l.bytes += it.size()
	if it.owed() {
		l.owed++
	}
	l.schedule(o)
}

// schedule lists an outlet that has something to send. mu is held.
func (l *lane) schedule(o *outlet) {
	if o.ready || o.flight || o.resting || o.queue.empty() && o.retry == nil {
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

// drain waits until everything that was accepted is finished, or the broker cannot be reached. Probes and heartbeats go on
// meanwhile. What a gate holds that cannot open is not waited for either, but it is not finished.
func (l *lane) drain(ctx context.Context) error {
	l.mu.Lock()
	switch {
	case l.owed == 0 || l.away && !l.open:
		l.mu.Unlock()
		return nil
	case l.away && (l.ready.front != nil || len(l.resting) > 0):
		l.mu.Unlock()
		return ErrDenied
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
