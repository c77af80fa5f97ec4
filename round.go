package backplane

import (
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// round is one question to all members.
type round struct {
	nonce uint64
	conn  uint64      // the connection's
	born  time.Time   // when the first interest joined it, or it began
	gate  bool        // the first of its connection
	ins   []*interest // guarded by interestTable.mu

	// Guarded by barrier.mu.
	asked   bool                        // the question is on its way to all who were known
	whole   bool                        // with it all subscriptions of a connect are in force
	company bool                        // there is somebody
	waits   map[wire.Publisher]*awaited // who has not answered
	epochs  map[wire.Publisher]beat     // who has, at which tick, and the newest epoch it had begun then
	over    bool                        // nobody is waited for
	begun   time.Time
	again   time.Time     // when who is silent is asked anew
	pause   time.Duration // and after that
	least   time.Time     // a gate: when it is over at the earliest; zero while its question has not come back to ourselves
	until   time.Time     // and when it is over if nobody answers
}

// awaited is who has not answered a round.
type awaited struct {
	until time.Time // when it is not waited for any more; zero for a member, whose death is noticed
	heard time.Time // and when those who named it had last heard of it
}

// run looks after a round that takes long, and puts many interests in force; what is quick is done by whoever brings it
// about.
func (b *barrier) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-b.wake:
		case <-timer.C:
		case <-b.l.n.ctx.Done():
			return
		}
		next, under := b.chase(time.Now())
		b.step(false)
		if under {
			timer.Reset(next)
		}
	}
}

// step makes the rounds: it finishes one that is over, and begins the next. Where another call is at it, that one does it.
// quick leaves what takes longer to run. No lock is held.
func (b *barrier) step(quick bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stepping {
		return
	}
	b.stepping = true
	defer func() { b.stepping = false }()
	for {
		r := b.current
		switch {
		case r != nil && r.over && quick && len(r.ins) > quickMost:
			b.poke()
			return
		case r != nil && r.over:
			b.current = nil
			b.mu.Unlock()
			b.finish(r)
			b.mu.Lock()
		case r == nil && b.ready && (!b.passed || b.next != nil):
			r = b.start()
			b.mu.Unlock()
			b.ask(r)
			b.mu.Lock()
		default:
			return
		}
	}
}

// quickMost is how many interests are put in force without leaving it to run.
const quickMost = 256

// start makes the next round the current one. mu is held.
func (b *barrier) start() *round {
	r := b.next
	if r == nil {
		r = newRound()
	}
	b.next, b.current = nil, r
	b.newest++
	r.nonce, r.conn = b.newest, b.conn
	r.gate = !b.passed
	r.begun = time.Now()
	r.pause = b.l.n.o.ProbeInterval / askSlowly
	if r.gate {
		r.pause = b.l.n.o.ProbeInterval / askQuickly
	}
	r.again = r.begun.Add(r.pause)
	if !b.chasing {
		b.chasing = true
		b.poke()
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
	r.company = r.company || len(others) > 0
	b.mu.Unlock()
	for _, p := range others { // who went meanwhile is not told about any more
		if n.members.standing(p) != nil {
			b.forget(p)
		}
	}
	if len(others) > 0 || r.gate {
		n.sendOwn(membersAddress, wire.Barrier, barrierQuestion(r.flags(), r.nonce))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r.asked = true
	b.look(r, time.Now())
}

// Who is silent is asked anew, soon at a gate, and then ever later up to a probe interval.
const (
	askQuickly = 256 // the part of a probe interval after which a gate's question is sent again
	askSlowly  = 16  // and that of another round
	askSlower  = 2   // each time
)

// chase asks those anew who are silent, and gives those up that nobody knows and whose time is over. It reports whether
// there is a round, and when to look again.
func (b *barrier) chase(now time.Time) (next time.Duration, under bool) {
	n := b.l.n
	b.mu.Lock()
	r := b.current
	if b.chasing = r != nil; !b.chasing {
		b.mu.Unlock()
		return 0, false
	}
	again := !now.Before(r.again)
	if again {
		r.pause = min(askSlower*r.pause, n.o.ProbeInterval)
		r.again = now.Add(r.pause)
	}
	next = r.again.Sub(now)
	for _, t := range []time.Time{r.least, r.until} {
		if d := t.Sub(now); d > 0 && d < next {
			next = d
		}
	}
	var late []wire.Publisher
	unmet := map[wire.Publisher]time.Time{}
	for p, a := range r.waits {
		if !a.until.IsZero() && !now.Before(a.until) {
			delete(r.waits, p)
			unmet[p] = a.heard
			continue
		}
		late = append(late, p)
	}
	b.look(r, now)
	b.mu.Unlock()
	for p, heard := range unmet {
		b.unmet(p, heard)
	}
	if again && r.gate {
		n.sendHeartbeat(flagHello) // who has come at the same moment may not have been known to our server
		n.sendOwn(membersAddress, wire.Barrier, barrierQuestion(r.flags(), r.nonce))
	}
	if again {
		for _, p := range late {
			n.sendOwn(inboxAddress(nodeID(p)), wire.Barrier, barrierQuestion(r.flags(), r.nonce))
		}
	}
	return next, true
}

func (r *round) flags() barrierFlags {
	if r.gate {
		return barrierGate
	}
	return 0
}

// echoed notes that a question came back to ourselves: from now on there is somebody, or soon nobody.
func (b *barrier) echoed(nonce uint64) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.current; r != nil && r.nonce == nonce && r.gate && r.until.IsZero() {
		long := min(gateEchoes*now.Sub(r.begun), b.l.n.o.ProbeInterval) // or a starved machine would wait for half a minute
		if least := now.Add(max(b.l.n.o.ProbeInterval/gateLeast, long)); least.After(r.least) {
			r.least = least
		}
		r.until = now.Add(max(b.l.n.o.ProbeInterval/gatePatience, long))
		b.poke() // to look then
	}
}

// look ends a round in which nobody is waited for; step goes on from there. mu is held.
func (b *barrier) look(r *round, now time.Time) {
	if !r.asked || len(r.waits) > 0 {
		return
	}
	end := r.least
	if !r.company {
		end = r.until
	}
	r.over = !r.gate || !end.IsZero() && !now.Before(end)
}

// finish puts the interests of a round in force, and opens the gate.
func (b *barrier) finish(r *round) {
	l, n := b.l, b.l.n
	t := &n.interests
	tick := n.ticks.Add(1)
	since := b.slow(r)
	var waiters []*waiter
	t.mu.Lock()
	b.mu.Lock()
	void := b.conn != r.conn // the connection was lost
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
			in.keepHeardSince(n, r.epochs)
			if !since.IsZero() {
				in.tellAgain(since)
			}
			waiters = append(waiters, l.confirm(in, tick)...)
		}
	}
	t.mu.Unlock()
	for _, w := range waiters {
		w.done <- nil
	}
	if void {
		return
	}
	n.members.answered(r.epochs)
	b.mu.Lock()
	if void = b.conn != r.conn; !void {
		b.whole = b.whole || r.whole
		b.open()
	}
	b.mu.Unlock()
	if void {
		return
	}
	if r.gate {
		l.lane.openGate(r.conn)
	}
	if r.gate || r.whole {
		n.health.look()
	}
}

// extend lets a gate last longer whose answers come from far away. mu is held.
func (b *barrier) extend(r *round, now time.Time) {
	far, most := now.Add(gateAnswers*now.Sub(r.begun)), r.begun.Add(b.l.n.o.ProbeInterval/gateMost)
	if far.After(most) {
		far = most
	}
	if r.gate && far.After(r.least) {
		r.least = far
		b.poke() // to look then
	}
}

// gone acts on a node that left, or was declared dead: nobody waits for it.
func (b *barrier) gone(p wire.Publisher) {
	b.mu.Lock()
	delete(b.gates, p)
	b.mu.Unlock()
	b.forget(p)
	b.step(true)
	if b.l.n.members.unheard(p) { // else it is back just now, and owes for both
		b.paid(p, 0)
	}
}

// gateOf acts on the gate of a member, which was answered. The first time, there is nothing left to ask it: it has just
// connected, so it publishes when it has our answer, which is behind our subscriptions; and its question came behind its own.
// Asked again, it may have had an answer to the first question, from before our newest subscription. And at our own gate one
// who is new is to tell whom it knows.
func (b *barrier) gateOf(p wire.Publisher, nonce uint64) {
	known := b.l.n.members.since(p)
	b.mu.Lock()
	first := b.gates[p] != nonce
	b.gates[p] = nonce
	settled := first && (b.passed || known.Before(b.since))
	b.mu.Unlock()
	if settled {
		b.forget(p)
		b.step(true)
	}
}

// forget takes a node out of the round that waits for it.
func (b *barrier) forget(p wire.Publisher) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.current; r != nil && r.waits[p] != nil {
		delete(r.waits, p)
		b.look(r, time.Now())
	}
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
func (b *barrier) answered(p wire.Publisher, nonce, epoch uint64, named map[wire.Publisher]time.Duration) bool {
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
		if _, again := r.epochs[p]; !again { // the first answer is the lowest
			r.epochs[p] = beat{b.l.n.ticks.Add(1), epoch}
			b.extend(r, now)
		}
		delete(r.waits, p)
		r.company = true
		for q, silent := range unknown {
			if _, heard := r.epochs[q]; r.gate && r.waits[q] == nil && q != p && !heard {
				r.waits[q] = &awaited{until: now.Add(min(n.o.MemberTimeout-silent, n.o.ProbeInterval)), heard: now.Add(-silent)}
				ask = append(ask, q)
			}
		}
		b.look(r, now)
	}
	b.mu.Unlock()
	for _, q := range ask {
		_ = n.greet(q)
		n.sendOwn(inboxAddress(nodeID(q)), wire.Barrier, barrierQuestion(barrierGate, nonce))
	}
	b.step(true)
	return true
}
