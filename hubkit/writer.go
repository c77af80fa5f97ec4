package hubkit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

// tally counts what became of a message on its way into outboxes, so that the hub's counters are touched once for each
// fan-out.
type tally struct{ delivered, repeats, dropped, slow, gone uint64 }

// enqueue puts a message into the outbox and sees to it that a writer runs. It never blocks: it is called while a topic
// is locked. With a serial, the message is taken once only (H1).
func (c *Connection) enqueue(m *message, serial uint64, t *tally) {
	c.out.mu.Lock()
	if c.closed != nil {
		c.out.mu.Unlock()
		t.gone++
		return
	}
	entered := true
	if serial != 0 {
		if c.out.seen == nil {
			c.out.seen = new(window)
		}
		switch c.out.seen.mark(serial) {
		case markedBefore:
			t.repeats++
			c.out.mu.Unlock()
			return
		case markedTooOld:
			c.out.tail = c.out.tail.with(mark{missed: 1})
			t.dropped++
			entered = false
		}
	}
	slow := false
	if entered {
		dropped, ok := c.out.put(m)
		t.dropped += uint64(dropped) //nolint:gosec // a count
		switch {
		case !ok:
			slow = c.closeLocked(Reason{Code: ReasonSlow, Text: "too many messages wait"})
			t.slow++
		case dropped == 0 || c.out.limits.Policy != DropNewest:
			t.delivered++
		}
	}
	start := c.wakeLocked()
	unasked := c.out.unasked
	c.out.unasked = nil
	c.out.mu.Unlock()
	for ; unasked != nil; unasked = unasked.next {
		c.endInvocation(unasked.id, nil, backplane.ErrBusy)
	}
	switch {
	case slow:
		go c.finish()
	case start:
		go c.run()
	}
}

// tell puts a gap of the backplane into the outbox. Gaps that wait are one.
func (c *Connection) tell(g *Gap) {
	c.out.mu.Lock()
	start := false
	if c.closed == nil {
		c.out.tail = c.out.tail.with(mark{gap: g})
		start = c.wakeLocked()
	}
	c.out.mu.Unlock()
	if start {
		go c.run()
	}
}

// wakeLocked reports whether the caller has to start the writer. Called with out.mu held.
func (c *Connection) wakeLocked() (start bool) {
	if c.writing || c.closed != nil || !c.out.waits() && (c.resume == nil || !c.resume.due) {
		return false
	}
	c.writing = true
	return true
}

// write is the writer: it runs while something waits. There is at most one for a connection.
func (c *Connection) write() {
	for {
		c.out.mu.Lock()
		c.out.inFlight = remains{}
		if c.tokenDueLocked() {
			c.out.mu.Unlock()
			c.handOut()
			continue
		}
		if c.closed != nil && !c.flushing || !c.out.waits() {
			c.writing = false
			c.out.rest()
			flushed, last := c.flushing, c.shut
			c.flushing = false
			c.out.mu.Unlock()
			switch {
			case flushed:
				go c.finish()
			case last:
				c.end()
			}
			return
		}
		if m := c.out.takeQuestion(); m != nil {
			c.ask(m)
			continue
		}
		b := c.hub.batches.get(c.out.n)
		b.deliveries = c.out.take(b.deliveries)
		c.out.mu.Unlock()

		err := c.conn.Write(c.hub.deadlines.context(), b.deliveries)
		c.hub.batches.put(b)
		if err != nil {
			c.failed(err)
		}
	}
}

// ask writes a question, unless nobody waits for its answer any more. It is called with out.mu held, and lets go of it.
func (c *Connection) ask(m *message) {
	open := c.invocations[m.question.id] != nil
	c.out.mu.Unlock()
	invoker, can := c.conn.(Invoker)
	if !open || !can {
		return
	}
	if err := invoker.Invoke(c.hub.deadlines.context(), m.question.id, m.payload); err != nil {
		c.failed(err)
	}
}

func (c *Connection) failed(err error) {
	c.out.mu.Lock()
	first := c.closeLocked(Reason{Code: ReasonFailed, Err: err})
	c.out.mu.Unlock()
	if first {
		c.hub.stats.failedWrites.Add(1)
		go c.finish()
	}
}

// batches keeps the slices that Conn.Write is called with: small ones, because most writes are of one message to
// each of many connections, and full ones.
type batches struct{ small, full sync.Pool }

type batch struct{ deliveries []Delivery }

const smallBatch = 4

// get returns an empty batch for an outbox in which so many messages wait.
func (p *batches) get(waiting int) *batch {
	pool, size := &p.full, maxBatch
	if waiting < smallBatch {
		pool, size = &p.small, smallBatch
	}
	if b, ok := pool.Get().(*batch); ok {
		return b
	}
	return &batch{deliveries: make([]Delivery, 0, size)}
}

func (p *batches) put(b *batch) {
	clear(b.deliveries)
	b.deliveries = b.deliveries[:0]
	if cap(b.deliveries) == smallBatch {
		p.small.Put(b)
	} else {
		p.full.Put(b)
	}
}

// deadlines makes the contexts of Conn.Write. Writes that begin within a sixteenth of the time-out share one, so that
// a fan-out to thousands of connections does not make thousands of timers.
type deadlines struct {
	timeout time.Duration
	parent  context.Context //nolint:containedctx // the hub's life

	newest atomic.Pointer[sharedContext]
	mu     sync.Mutex
	old    []*sharedContext // guarded by mu; those whose deadline may not have passed, the newest last
}

type sharedContext struct {
	ctx    context.Context //nolint:containedctx // this is what it holds
	cancel context.CancelFunc
	renew  time.Time // from then on a new one is made
	end    time.Time
}

const deadlineShare = 16

// context returns a context that ends between one time-out and 17/16 of it from now.
func (d *deadlines) context() context.Context {
	now := time.Now()
	if s := d.newest.Load(); s != nil && now.Before(s.renew) {
		return s.ctx
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.newest.Load(); s != nil && now.Before(s.renew) {
		return s.ctx
	}
	for len(d.old) > 0 && now.After(d.old[0].end) {
		d.old[0].cancel()
		d.old = d.old[1:]
	}
	share := d.timeout / deadlineShare
	s := &sharedContext{renew: now.Add(share), end: now.Add(d.timeout).Add(share)} // the sum may be no Duration
	s.ctx, s.cancel = context.WithDeadline(d.parent, s.end)
	d.old = append(d.old, s)
	d.newest.Store(s)
	return s.ctx
}
