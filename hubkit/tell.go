package hubkit

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"time"
)

// teller puts gaps into outboxes: at once, or each at a random moment of Options.GapSpread. On many instances these
// moments spread evenly, so that after a reconnect of the broker not all clients fetch their state in the same second.
type teller struct {
	hub *Hub

	mu      sync.Mutex
	queue   tellQueue                // guarded by mu
	waits   map[*Connection]*telling // guarded by mu: who is in the queue
	running bool                     // guarded by mu: the goroutine that tells runs
}

// telling is a connection that will be told. Guarded by the teller's mu.
type telling struct {
	at   time.Time
	conn *Connection
	gap  *Gap
}

// tell tells the connections. One that still waits to be told of an earlier gap is told once, of both.
func (t *teller) tell(gap *Gap, concerned []*Connection) {
	spread := t.hub.opts.GapSpread
	if spread <= 0 {
		for _, c := range concerned {
			c.tell(gap)
		}
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waits == nil {
		t.waits = make(map[*Connection]*telling)
	}
	for _, c := range concerned {
		if earlier := t.waits[c]; earlier != nil {
			earlier.gap = earlier.gap.and(gap)
			continue
		}
		at := now.Add(time.Duration(rand.Int64N(int64(spread)))) //nolint:gosec // jitter is no secret
		t.waits[c] = &telling{at: at, conn: c, gap: gap}
		heap.Push(&t.queue, t.waits[c])
	}
	if !t.running && len(t.queue) > 0 {
		t.running = t.hub.spawn(t.run)
	}
}

// run tells who is due until nobody waits. A connection that is added meanwhile with an earlier moment is told up to a
// step late.
func (t *teller) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-t.hub.closing.Done():
			return
		}
		next, more := t.step(time.Now())
		if !more {
			return
		}
		timer.Reset(next)
	}
}

// step tells who is due and returns how long to wait for the next one.
func (t *teller) step(now time.Time) (next time.Duration, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.queue) > 0 {
		if wait := t.queue[0].at.Sub(now); wait > 0 {
			return min(wait, maxTellStep), true
		}
		due, _ := heap.Pop(&t.queue).(*telling)
		delete(t.waits, due.conn)
		due.conn.tell(due.gap)
	}
	t.running = false
	return 0, false
}

// maxTellStep bounds how late somebody can be told.
const maxTellStep = 100 * time.Millisecond

// tellQueue is a heap by time.
type tellQueue []*telling

func (q tellQueue) Len() int           { return len(q) }
func (q tellQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q tellQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *tellQueue) Push(x any) {
	if t, ok := x.(*telling); ok {
		*q = append(*q, t)
	}
}

// Pop implements heap.Interface.
func (q *tellQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return last
}
