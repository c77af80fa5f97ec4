package conformance

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

// How long a call may take whose instance has a link that carries nothing, and one whose link has just been healed: the
// first will fail or not, the second should not, and both are in the record.
const (
	inVain  = 60 * time.Millisecond
	inDoubt = 2 * time.Second
)

// play is a schedule under way.
type play struct {
	w        *world
	beside   sync.WaitGroup
	troubled atomic.Bool // a fault was made: from now on verbs may fail

	mu       sync.Mutex
	seats    []*seat      // their content is guarded by mu
	watchers []*healthLog // guarded by mu
}

// seat is the place of an instance: when it was closed, another one may open there.
type seat struct {
	lives int
	n     *instance // nil while none is open
	busy  bool      // it is being replaced
	subs  []*playedSub
}

// playedSub is a subscription whose handler can be made to block.
type playedSub struct {
	*sub
	address int
	mu      sync.Mutex
	gate    chan struct{} // guarded by mu; what the handler waits for; nil: nothing
}

// play runs a schedule, step by step, and ends it so that all can be judged: links healthy, handlers free, and everything
// heard that has to be.
func (s schedule) play(w *world) {
	p := &play{w: w, seats: make([]*seat, s.instances)}
	for i := range p.seats {
		p.seats[i] = &seat{lives: 1, n: w.newNamed(w.namespace(), seatName(i, 1))}
	}
	w.each(s.instances, func(i int) {
		p.seats[i].n.open()
		p.join(p.seats[i].n)
	})
	w.onEnd(func() { p.releaseAll() })
	for _, st := range s.steps {
		if do := p.step(st); st.beside {
			p.beside.Go(do)
		} else {
			do()
		}
		w.check()
	}
	for i := range p.seats {
		if n := p.instance(i); n != nil {
			n.heal()
		}
	}
	p.releaseAll()
	func() {
		defer w.while("the steps that were under way")()
		p.beside.Wait()
	}()
	w.check()
	w.each(len(p.seats), func(i int) { // whoever had an outage is back
		if n := p.instance(i); n != nil && p.troubled.Load() {
			n.publishAgain(group("back"))
		}
	})
	p.together()
}

// step returns what a step does, to the instance that is there now: also where it is done beside the steps that follow.
func (p *play) step(st step) (do func()) {
	seat, n := p.seats[st.node], p.instance(st.node)
	switch {
	case st.verb == doPause:
		return func() { rest(p.w.ctx, st.pause) }
	case st.verb == doRestart:
		return p.restart
	case st.verb == doReopen:
		return func() { p.reopen(st.node, n) }
	case n == nil:
		return func() {}
	}
	switch st.verb {
	case doSubscribe:
		return func() { p.w.each(max(1, st.callers), func(int) { p.subscribe(seat, n, st.address) }) }
	case doUnsubscribe:
		return func() { p.unsubscribe(seat, n, st) }
	case doAsk:
		return func() { p.ask(n) }
	case doPublish:
		return func() { p.publish(n, st) }
	case doClose:
		return func() { p.close(seat, n) }
	case doStall:
		return func() { p.stall(seat, st.address) }
	case doRelease:
		return func() { p.release(seat, func(s *playedSub) bool { return s.address == st.address }) }
	case doHeal:
		return n.heal
	default:
		return func() {
			p.troubled.Store(true)
			n.breakLink(st)
		}
	}
}

// restart makes the broker forget everything.
func (p *play) restart() {
	p.troubled.Store(true)
	p.w.restartBroker(func() {})
}

// breakLink makes a fault.
func (n *instance) breakLink(st step) {
	switch st.verb {
	case doCut:
		n.cut()
	case doHang:
		n.hang()
	case doDeafen:
		n.deafen()
	case doMute:
		n.mute()
	case doTear:
		n.tearAfter(st.size)
	default:
		n.w.fatalf("the suite knows no fault %q", st.verb)
	}
}

// instance returns who sits at a place; nil for nobody.
func (p *play) instance(node int) *instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seats[node].n
}

func (n *instance) faulty() bool {
	n.w.rec.mu.Lock()
	defer n.w.rec.mu.Unlock()
	return n.w.rec.hurt[n.id]
}

// patient is a context for one call of an instance, as its link is.
func (p *play) patient(n *instance) (context.Context, context.CancelFunc) {
	switch {
	case n.faulty():
		return context.WithTimeout(p.w.ctx, inVain)
	case p.troubled.Load():
		return context.WithTimeout(p.w.ctx, inDoubt)
	default:
		return p.w.patient()
	}
}

// must fails the schedule for an error that has no excuse.
func (p *play) must(n *instance, what string, err error) {
	if err != nil && !p.troubled.Load() && p.w.ctx.Err() == nil && !n.closing() {
		p.w.fatalf("%s of %s failed, and nothing had happened: %w", what, n.name, err)
	}
	p.w.check()
}

// closing reports whether the instance's end has begun.
func (n *instance) closing() bool {
	n.w.rec.mu.Lock()
	defer n.w.rec.mu.Unlock()
	return n.w.rec.h.Nodes[n.id].Close.Call.happened()
}

func (p *play) publish(n *instance, st step) {
	p.w.each(max(1, st.callers), func(int) {
		for range max(1, st.count/max(1, st.callers)) {
			to := stepAddress(st.address)
			n.pace(to, st.size)
			ctx, cancel := p.patient(n)
			if st.canceled {
				cancel()
			}
			_, err := n.tryPublish(ctx, to, min(st.size, p.w.suite.largest()))
			cancel()
			if st.canceled {
				p.w.check()
				continue
			}
			if p.must(n, "Publish", err); err != nil {
				return
			}
		}
	})
}

func (p *play) subscribe(seat *seat, n *instance, address int) {
	s := &playedSub{address: address}
	ctx, cancel := p.patient(n)
	defer cancel()
	var err error
	s.sub, err = n.trySubscribe(ctx, stepAddress(address), func(context.Context, backplane.Event, int) { s.wait() })
	if p.must(n, "Subscribe", err); err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if seat.n == n {
		seat.subs = append(seat.subs, s)
	}
}

// wait blocks the handler as long as the schedule wants it.
func (s *playedSub) wait() {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

// unsubscribe closes the oldest subscription to an address. A handler that blocks is let go afterwards.
func (p *play) unsubscribe(seat *seat, n *instance, st step) {
	p.mu.Lock()
	i := slices.IndexFunc(seat.subs, func(s *playedSub) bool { return s.n == n && s.address == st.address })
	if i < 0 {
		p.mu.Unlock()
		return
	}
	s := seat.subs[i]
	seat.subs = slices.Delete(seat.subs, i, i+1)
	p.mu.Unlock()
	defer s.release()
	ctx, cancel := p.w.patient()
	stuck := s.blocks()
	if stuck {
		cancel()
		ctx, cancel = context.WithTimeout(p.w.ctx, inVain)
	}
	defer cancel()
	p.w.each(max(1, st.callers), func(int) {
		err := s.tryClose(ctx)
		p.w.check()
		if err != nil && !stuck {
			p.w.fatalf("Close of a subscription of %s failed: %w", n.name, err) // it never waits for the broker
		}
	})
}

func (s *playedSub) blocks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate != nil
}

// stall makes the newest handler of an address block, from its next run on.
func (p *play) stall(seat *seat, address int) {
	p.mu.Lock()
	defer p.mu.Unlock() // until the gate is there: who takes the subscription off its seat has to see it, and releases it
	var s *playedSub
	for _, other := range seat.subs {
		if other.address == address {
			s = other
		}
	}
	if s != nil {
		s.stall()
	}
}

func (s *playedSub) stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate == nil {
		s.n.w.rec.mark(markStall, s.n.id, s.id)
		s.gate = make(chan struct{})
	}
}

func (s *playedSub) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate != nil {
		s.n.w.rec.mark(markRelease, s.n.id, s.id)
		close(s.gate)
		s.gate = nil
	}
}

// release lets handlers go on.
func (p *play) release(seat *seat, which func(*playedSub) bool) {
	p.mu.Lock()
	subs := slices.Clone(seat.subs)
	p.mu.Unlock()
	for _, s := range subs {
		if which(s) {
			s.release()
		}
	}
}

func (p *play) releaseAll() {
	for _, seat := range p.seats {
		p.release(seat, func(*playedSub) bool { return true })
	}
}

// close ends the instance n at a seat, if it is there still. It is given no time where a handler blocks or the link is bad, and ends once more
// when neither is so.
func (p *play) close(seat *seat, n *instance) {
	p.mu.Lock()
	if seat.n != n || n == nil {
		p.mu.Unlock()
		return
	}
	subs := seat.subs
	seat.n, seat.subs = nil, nil
	p.mu.Unlock()
	ctx, cancel := p.patient(n)
	if slices.ContainsFunc(subs, (*playedSub).blocks) {
		cancel()
		ctx, cancel = context.WithTimeout(p.w.ctx, inVain)
	}
	defer cancel()
	err := n.tryClose(ctx)
	for _, s := range subs {
		s.release()
	}
	p.w.check()
	if err != nil {
		n.heal()
		n.close()
	}
}

// reopen closes the instance old at a seat, if one is there, and opens another, whose link is healthy.
func (p *play) reopen(node int, old *instance) {
	seat := p.seats[node]
	p.mu.Lock()
	late := seat.busy || seat.n != old
	seat.busy = seat.busy || !late
	p.mu.Unlock()
	if late {
		return
	}
	p.close(seat, old)
	p.mu.Lock()
	seat.lives++
	name := seatName(node, seat.lives)
	p.mu.Unlock()
	n := p.w.newNamed(p.w.namespace(), name)
	n.open()
	p.join(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	seat.n, seat.busy = n, false
}
