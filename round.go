package backplane

import (
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// round is one question to all members.
type round struct {
	nonce uint64
	gate  bool
	ins   []*interest // guarded by interestTable.mu

	// Guarded by barrier.mu.
	sent    bool
	whole   bool // with it all subscriptions of a connect are in force
	company bool // there is somebody
	waits   map[wire.Publisher]*awaited
	over    bool
	done    chan struct{}           // closed when nobody is waited for, or when the connection is lost
	void    bool                    // it is lost
	heard   map[wire.Publisher]bool // a gate: who has answered
	until   time.Time               // a gate: when it is over if nobody answers
}

// awaited is who has not answered a round.
type awaited struct {
	until time.Time // when it is not waited for any more; zero for a member, whose death is noticed
}

// run makes the rounds, one after the other.
func (b *barrier) run() {
	for {
		select {
		case <-b.wake:
		case <-b.l.n.ctx.Done():
			return
		}
		for r := b.start(); r != nil; r = b.start() {
			b.ask(r)
			b.wait(r)
			b.finish(r)
		}
	}
}

// start makes the next round the current one, if there is something to do.
func (b *barrier) start() *round {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ready || b.l.n.ctx.Err() != nil || b.passed && b.next == nil {
		return nil
	}
	r := b.next
	if r == nil {
		r = b.newRound()
	}
	b.next, b.current = nil, r
	b.newest++
	r.nonce = b.newest
	if r.gate = !b.passed; r.gate {
		r.until = time.Now().Add(b.l.n.o.ProbeInterval / gatePatience)
	}
	return r
}

// ask sends the question of a round to all. Whoever is found from now on is asked for himself.
func (b *barrier) ask(r *round) {
	n := b.l.n
	n.stats.barrierRounds.Add(1)
	others := n.members.others()
	b.mu.Lock()
	for _, p := range others {
		r.waits[p] = &awaited{}
	}
	r.company = len(r.waits) > 0
	b.mu.Unlock()
	for _, p := range others { // who went meanwhile is not told about any more
		if n.members.standing(p) != nil {
			b.gone(p)
		}
	}
	if r.company || r.gate {
		var flags barrierFlags
		if r.gate {
			flags = barrierGate
		}
		n.sendOwn(membersAddress, wire.Barrier, barrierQuestion(flags, r.nonce))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r.sent = true
	b.look(r, time.Now())
}

// wait waits until a round is over. It asks those anew who are silent.
func (b *barrier) wait(r *round) {
	n := b.l.n
	timer := time.NewTimer(n.o.ProbeInterval)
	defer timer.Stop()
	if r.gate {
		timer.Reset(n.o.ProbeInterval / gatePatience)
	}
	for {
		select {
		case <-r.done:
			return
		case <-n.ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(n.o.ProbeInterval)
		for _, p := range b.late(r) {
			n.sendOwn(inboxAddress(nodeID(p)), wire.Barrier, barrierQuestion(r.flags(), r.nonce))
		}
	}
}

func (r *round) flags() barrierFlags {
	if r.gate {
		return barrierGate
	}
	return 0
}

// late lists who has not answered, and gives those up that nobody knows and whose time is over.
func (b *barrier) late(r *round) []wire.Publisher {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	var late []wire.Publisher
	for p, a := range r.waits {
		if !a.until.IsZero() && !now.Before(a.until) {
			delete(r.waits, p)
			continue
		}
		late = append(late, p)
	}
	b.look(r, now)
	return late
}

// look ends a round in which nobody is waited for. mu is held.
func (b *barrier) look(r *round, now time.Time) {
	if r.over || !r.sent || len(r.waits) > 0 || r.gate && !r.company && now.Before(r.until) {
		return
	}
	r.over = true
	close(r.done)
}

// finish puts the interests of a round in force, and opens the gate.
func (b *barrier) finish(r *round) {
	l, n := b.l, b.l.n
	t := &n.interests
	tick := n.ticks.Add(1)
	var waiters []*waiter
	t.mu.Lock()
	b.mu.Lock()
	void := r.void || !r.over // the connection is lost, or the node is closed
	b.mu.Unlock()
	for _, in := range r.ins {
		if in.round != r {
			continue
		}
		in.round = nil
		switch {
		case void:
		case in.link != l: // it moved
			t.queue(in)
		default:
			waiters = append(waiters, l.confirm(in, tick, true)...)
		}
	}
	t.mu.Unlock()
	for _, w := range waiters {
		w.done <- nil
	}
	if void {
		return
	}
	b.mu.Lock()
	conn := b.conn
	current := b.current == r // and the connection is the same
	if current {
		b.current = nil
		b.whole = b.whole || r.whole
		b.open()
	}
	b.mu.Unlock()
	if current && r.gate {
		l.lane.openGate(conn)
	}
	if current && (r.gate || r.whole) {
		n.health.look()
	}
}

// gone takes a node out of the round that waits for it: it left, or it is declared dead.
func (b *barrier) gone(p wire.Publisher) {
	b.mu.Lock()
	if r := b.current; r != nil && r.waits[p] != nil {
		delete(r.waits, p)
		b.look(r, time.Now())
	}
	b.mu.Unlock()
	b.paid(p, 0)
}

// found lets the round under way ask a member that was not known when it began. It reports whether the gate is over. A
// member that answered the hello before a gate, direct, is behind the hello's question as well.
func (b *barrier) found(p wire.Publisher, direct bool) (passed bool) {
	if b.cluster == nil {
		return false
	}
	b.mu.Lock()
	passed = b.passed && b.ready
	r := b.current
	asks := r != nil && !r.over
	if asks {
		r.waits[p], r.company = &awaited{}, true
	}
	b.mu.Unlock()
	if asks && (!direct || !r.gate) {
		b.l.n.sendOwn(inboxAddress(nodeID(p)), wire.Barrier, barrierQuestion(r.flags(), r.nonce))
	}
	return passed
}

// answered notes an answer. It returns false if it is none to the current round.
func (b *barrier) answered(p wire.Publisher, nonce uint64, named map[wire.Publisher]time.Duration) bool {
	n := b.l.n
	unknown := make(map[wire.Publisher]time.Duration) // of those named; looked up before mu is taken
	for q, silent := range named {
		if q != n.publisher && n.members.unheard(q) && silent < n.o.MemberTimeout {
			unknown[q] = silent
		}
	}
	now := time.Now()
	var ask []wire.Publisher
	b.mu.Lock()
	r := b.current
	if r == nil || r.nonce != nonce {
		b.mu.Unlock()
		return false
	}
	if !r.over {
		delete(r.waits, p)
		r.company = true
		for q, silent := range unknown {
			if r.gate && r.waits[q] == nil && q != p && !r.heard[q] {
				r.waits[q] = &awaited{until: now.Add(n.o.MemberTimeout - silent)}
				ask = append(ask, q)
			}
		}
		if r.gate {
			if r.heard == nil {
				r.heard = map[wire.Publisher]bool{}
			}
			r.heard[p] = true
		}
		b.look(r, now)
	}
	b.mu.Unlock()
	for _, q := range ask {
		n.sendOwn(inboxAddress(nodeID(q)), wire.Barrier, barrierQuestion(barrierGate, nonce))
	}
	return true
}
