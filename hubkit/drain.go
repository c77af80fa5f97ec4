package hubkit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// DrainOptions say at what pace [Hub.Drain] sends clients away. The zero value works.
type DrainOptions struct {
	// Over is the time over which the connections are told to go, evenly but each at a random moment of its share, so
	// that the instances that take them over are not overrun. Default: half the time until the context's deadline, or
	// 10 s if it has none.
	Over time.Duration
	// Tell is called for each connection when it is its turn: it may send a message that makes the client connect
	// elsewhere. It must not block. Default none: the close of the socket, with [ReasonGoingAway], tells the client.
	Tell func(*Connection)
	// Grace is how long after Tell a connection goes on as if nothing were, so that its client can connect elsewhere
	// before it leaves here. Whoever has not left by then is closed. Default 0.
	Grace time.Duration
}

// DrainProgress says how far a drain is. It counts the connections that were open when it began.
type DrainProgress struct {
	Since       time.Time `json:"since"` // when it began
	Connections int       `json:"connections"`
	Told        int       `json:"told"`     // those whose turn has come
	Closed      int       `json:"closed"`   // those that have ended, be it by themselves
	Messages    int       `json:"messages"` // what waits, or is being written, for those that have not
}

// DrainReport is the outcome of a drain. Of the connections that were open when it began, each has left by itself before
// its turn, was flushed, or is among the Remained or the Cut without anything that waited.
type DrainReport struct {
	Connections int // open when the drain began
	Left        int // that ended by themselves before it was their turn
	Flushed     int // that were closed when everything was written, or left after they were told with nothing waiting
	Cut         int // that were closed because the context ended, or the hub was closed
	// Remained names the connections that were told or cut, and for which something was not written.
	Remained []Remained
}

// Remained is what was not written to one connection.
type Remained struct {
	Connection *Connection
	Messages   int // discarded; those whose write was under way, or failed, are among them
	Bytes      int // their payloads
}

const defaultDrain = 10 * time.Second

// drainState is the state of Hub.Drain.
type drainState struct {
	begun bool          // guarded by the hub's gate, like the making of connections
	ended chan struct{} // closed when the drain is over and report is set; made with begun

	mu     sync.Mutex    // held by who runs the drain only to write
	since  time.Time     // guarded by mu, as all that follows
	conns  []*Connection // in the order of their turns
	told   []bool        // whose turn has come before they ended; as conns
	report DrainReport
	err    error
}

// Drain empties this instance (H8). From its begin Connect returns [ErrDraining]. Every connection gets its turn, at the
// pace of the options: from then on nothing more enters its outbox, what waits there is still written, and then it is
// closed with [ReasonGoingAway]. Until its turn, and until the grace is over, a connection goes on as ever.
//
// Drain returns when all connections have ended. When the context ends first, those that are left are closed at once and
// what waits for them is discarded; then the error wraps the context's. The report tells what was not written, in any
// case. The hub stays open, for sends too: call [Hub.Close] next. When the hub is closed meanwhile, Drain ends with
// ErrClosed. A further Drain, whatever its options, waits for the same drain until its own context ends.
// [Hub.DrainProgress] and [Hub.Health] show how far it is.
func (h *Hub) Drain(ctx context.Context, o DrainOptions) (DrainReport, error) {
	if o.Over < 0 || o.Grace < 0 {
		return DrainReport{}, h.fail("drain", invalidOption("Over and Grace", "must not be negative, not %v and %v", o.Over, o.Grace))
	}
	if err := h.enter(); err != nil {
		return DrainReport{}, h.fail("drain", err)
	}
	defer h.leave()
	d := &h.drain
	if h.beginDrain() {
		d.begin(h)
		d.finish(h, d.run(ctx, h, o))
		close(d.ended)
	} else {
		select {
		case <-d.ended:
		case <-ctx.Done():
			return DrainReport{}, h.fail("drain", ctx.Err())
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.report, h.fail("drain", d.err)
	}
	return d.report, nil
}

// DrainProgress returns how far the drain is, or was at its end; ok is false if none was begun. It looks at every
// connection: once a second is fine.
func (h *Hub) DrainProgress() (p DrainProgress, ok bool) {
	d := &h.drain
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since.IsZero() {
		return p, false
	}
	p = DrainProgress{Since: d.since, Connections: len(d.conns)}
	for i, c := range d.conns {
		if d.told[i] {
			p.Told++
		}
		if c.hasEnded() {
			p.Closed++
			continue
		}
		c.out.mu.Lock()
		p.Messages += c.out.n + c.out.inFlight.messages
		c.out.mu.Unlock()
	}
	return p, true
}

// beginDrain lets no connection be made any more, and reports whether this call did.
func (h *Hub) beginDrain() bool {
	h.gate.Lock()
	defer h.gate.Unlock()
	if h.drain.begun {
		return false
	}
	h.drain.begun, h.drain.ended = true, make(chan struct{})
	return true
}

// Draining reports whether a drain was begun. A server that upgrades a request to a WebSocket before it calls Connect asks
// this first: afterwards it can answer with a status no more, and a balancer cannot try another instance.
func (h *Hub) Draining() bool {
	h.gate.RLock()
	defer h.gate.RUnlock()
	return h.drain.begun
}

func (d *drainState) begin(h *Hub) {
	var conns []*Connection
	h.connections.each(func(c *Connection) { conns = append(conns, c) })
	rand.Shuffle(len(conns), func(i, j int) { conns[i], conns[j] = conns[j], conns[i] }) //nolint:gosec // an order is no secret
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since, d.conns, d.told = time.Now(), conns, make([]bool, len(conns))
}

// run gives everybody their turn and waits until all have ended. It returns why it could not.
func (d *drainState) run(ctx context.Context, h *Hub, o DrainOptions) error {
	turn := turns(ctx, time.Now(), o.Over, len(d.conns))
	timer := time.NewTimer(0)
	defer timer.Stop()
	next := 0 // whose turn is next
	for i, c := range d.conns {
		for end := turn[i].Add(o.Grace); !c.over(); {
			now := time.Now()
			for ; next < len(turn) && !turn[next].After(now); next++ {
				d.tell(next, o.Tell)
			}
			if !now.Before(end) {
				c.retire(Reason{Code: ReasonGoingAway})
				break
			}
			wake := end
			if next < len(turn) && turn[next].Before(end) {
				wake = turn[next]
			}
			timer.Reset(wake.Sub(now))
			if err := h.await(ctx, c, timer.C); err != nil {
				return err
			}
		}
	}
	for _, c := range d.conns {
		if err := h.await(ctx, c, nil); err != nil {
			return err
		}
	}
	return nil
}

// tell gives a connection its turn, unless it has ended by itself.
func (d *drainState) tell(i int, hook func(*Connection)) {
	c := d.conns[i]
	if c.over() {
		return
	}
	d.mu.Lock()
	d.told[i] = true
	d.mu.Unlock()
	if hook != nil {
		hook(c)
	}
}

// await waits until a connection has ended or the time has come. The error says why it did not.
func (h *Hub) await(ctx context.Context, c *Connection, timer <-chan time.Time) error {
	if c.hasEnded() {
		return nil // whatever else is true
	}
	select {
	case <-c.Done():
		return nil
	case <-timer:
		return nil
	case <-h.closing.Done():
		return backplane.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// turns returns when each of n connections is told: at a random moment of its share of the time.
func turns(ctx context.Context, now time.Time, over time.Duration, n int) []time.Time {
	if over == 0 {
		over = defaultDrain
		if deadline, ok := ctx.Deadline(); ok {
			over = max(deadline.Sub(now)/2, 0)
		}
	}
	share := float64(over) / float64(max(n, 1))
	at := make([]time.Time, n)
	for i := range at {
		at[i] = now.Add(time.Duration(share * (float64(i) + rand.Float64()))) //nolint:gosec // jitter is no secret
	}
	return at
}

// finish cuts off who is left and makes the report.
func (d *drainState) finish(h *Hub, err error) {
	r := DrainReport{Connections: len(d.conns)}
	for i, c := range d.conns {
		cut := c.disconnect(Reason{Code: ReasonGoingAway})
		c.out.mu.Lock()
		lost := c.out.lost
		c.out.mu.Unlock()
		switch {
		case !cut && !d.told[i]:
			r.Left++
			continue
		case cut:
			r.Cut++
		case lost.messages == 0:
			r.Flushed++
		}
		if lost.messages > 0 {
			r.Remained = append(r.Remained, Remained{Connection: c, Messages: lost.messages, Bytes: lost.bytes})
		}
	}
	if err != nil {
		err = fmt.Errorf("%w: %d of %d connections were cut off, and to %d not everything was written", err, r.Cut, r.Connections, len(r.Remained))
	}
	d.mu.Lock()
	d.report, d.err = r, err
	d.mu.Unlock()
	h.log.Info("drained", "connections", r.Connections, "left", r.Left, "flushed", r.Flushed, "cut", r.Cut,
		"remained", len(r.Remained), "err", err)
}
