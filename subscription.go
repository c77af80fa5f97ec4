package backplane

import (
	"context"
	"slices"
	"sync"
	"time"
)

// subscription is one handler's queue of events. There are many and most are idle: a goroutine runs it only while
// something waits, and an idle one keeps no buffer.
type subscription struct {
	n       *Node
	in      *interest
	handler Handler
	next    *subscription // of the same interest; guarded by interest.mu
	joined  uint64        // the tick at which it came into force; guarded by interest.mu

	mu       sync.Mutex // guards what follows
	queue    []Event
	overflow *Gap          // the last event of queue, if it stands for what did not fit
	done     chan struct{} // closed when the run in progress has ended; nil if nobody waits
	messages int32         // in queue or taken by the run and not handled yet
	bytes    int32         // their size
	unsure   bool          // how much overflow stands for is not known
	running  bool
	ended    bool
}

// gapRoom is how many gaps a full queue takes before they are merged.
const gapRoom = 16

// eventOverhead is what a message without payload counts in a queue.
const eventOverhead = 64

// push appends events. It is called with interest.mu held, so it only queues.
func (s *subscription) push(events []Event) {
	now := time.Time{}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	stats := &s.n.stats
	s.queue = slices.Grow(s.queue, len(events))
	for _, e := range events {
		switch e := e.(type) {
		case *Message:
			size := len(e.Payload) + eventOverhead
			if s.fits(size) {
				s.queue = append(s.queue, e)
				s.overflow = nil
				s.messages++
				s.bytes += int32(size) //nolint:gosec // QueueBytes bounds it
				stats.receiveMessages.Add(1)
				stats.receiveBytes.Add(int64(size))
				continue
			}
			if now.IsZero() {
				now = time.Now()
			}
			s.spill(now, 1)
			stats.knownMissed.Add(1)
		case *Gap:
			stats.knownMissed.Add(e.Missed)
			if s.overflow != nil || len(s.queue) >= s.n.o.QueueMessages+gapRoom {
				s.spill(e.Since, e.Missed) // one gap for all of them, or gaps would be the unbounded queue
				continue
			}
			stats.gaps.Add(1)
			s.queue = append(s.queue, e)
		}
	}
	start := !s.running && len(s.queue) > 0
	if start {
		s.running = true
		s.n.running.Add(1) // under mu: not after end, and so not while Close waits
	}
	s.mu.Unlock()
	if start {
		go s.run()
	}
}

// spill notes what does not fit, in one gap at the end of the queue: missed messages since a time, 0 for unknown. mu is held.
func (s *subscription) spill(since time.Time, missed uint64) {
	if s.overflow == nil {
		s.overflow, s.unsure = &Gap{Address: s.in.addr, Cause: GapOverflow, Since: since}, false
		s.queue = append(s.queue, s.overflow)
		s.n.stats.gaps.Add(1)
	}
	g := s.overflow
	if since.Before(g.Since) {
		g.Since = since
	}
	s.unsure = s.unsure || missed == 0
	if g.Missed += missed; s.unsure {
		g.Missed = 0
	}
}

// fits reports whether a message may be queued: a queue takes one message of any size. mu is held.
func (s *subscription) fits(size int) bool {
	switch {
	case s.messages == 0:
		return s.n.stats.receiveBytes.Load() < int64(s.n.o.ReceiveBytes)
	case int(s.messages) >= s.n.o.QueueMessages, int(s.bytes)+size > s.n.o.QueueBytes:
		return false
	default:
		return s.n.stats.receiveBytes.Load()+int64(size) <= int64(s.n.o.ReceiveBytes)
	}
}

// run hands events to the handler until none are left. Only one run is in progress at a time.
func (s *subscription) run() {
	defer s.n.running.Done()
	stats := &s.n.stats
	var batch, spare []Event
	for {
		s.mu.Lock()
		if s.ended || len(s.queue) == 0 {
			s.running = false
			s.queue = nil // an idle one keeps no buffer
			if s.done != nil {
				close(s.done)
				s.done = nil
			}
			s.mu.Unlock()
			return
		}
		batch, s.queue = s.queue, spare
		s.overflow = nil
		s.mu.Unlock()
		for i, e := range batch {
			batch[i] = nil
			size := int32(0)
			if m, ok := e.(*Message); ok {
				size = int32(len(m.Payload) + eventOverhead) //nolint:gosec // MaxPayload bounds it
			}
			s.mu.Lock()
			if s.ended {
				s.mu.Unlock()
				break
			}
			if size > 0 { // it leaves the queue when its handler starts
				s.messages--
				s.bytes -= size
			}
			s.mu.Unlock()
			if size > 0 {
				stats.receiveMessages.Add(-1)
				stats.receiveBytes.Add(-int64(size))
				stats.delivered.Add(1)
			}
			s.handler(s.n.handlers, e)
		}
		spare = batch[:0]
	}
}

// Close implements [Subscription].
func (s *subscription) Close(ctx context.Context) error {
	if s.end() {
		s.n.interests.leave(s)
	}
	if s.n.insideHandler(ctx) {
		return nil
	}
	if err := s.wait(ctx); err != nil {
		return s.n.error("unsubscribe", s.in.addr, err)
	}
	return nil
}

// end lets no further run of the handler start, and frees what waits. It returns true the first time.
func (s *subscription) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.ended = true
	s.n.stats.receiveMessages.Add(-int64(s.messages))
	s.n.stats.receiveBytes.Add(-int64(s.bytes))
	s.messages, s.bytes = 0, 0
	s.queue, s.overflow = nil, nil
	return true
}

// wait waits for the run in progress.
func (s *subscription) wait(ctx context.Context) error {
	s.mu.Lock()
	if !s.running {
		s.mu.Unlock()
		return nil
	}
	if s.done == nil {
		s.done = make(chan struct{})
	}
	done := s.done
	s.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
