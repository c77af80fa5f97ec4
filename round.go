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
	ins   []*interest // guarded by interestTable.mu and barrier.mu; constant from the start of the round
	bytes int         // what their addresses take; guarded by barrier.mu
	// question is what members are asked. Constant from the start.
	question []byte

	// Guarded by barrier.mu.
	asked   bool                        // the question is on its way to all who were known
	whole   bool                        // with it all subscriptions of a connect are in force
	company bool                        // somebody answered: who was only seen may have been about to leave
	waits   map[wire.Publisher]*awaited // who has not answered
	epochs  map[wire.Publisher]beat     // who has, at which tick, and the newest epoch it had begun then
	told    map[wire.Publisher][]baseline
	over    bool // nobody is waited for
	begun   time.Time
	again   time.Time     // when who is silent is asked anew
	pause   time.Duration // and after that
	least   time.Time     // a gate: when it is over at the earliest; zero while its question has not come back to ourselves
	until   time.Time     // and when it is over if nobody answers
}

// awaited is who has not answered a round.
type awaited struct {
	until time.Time // when it is not waited for any more; zero for a member, whose death is noticed
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
		case r == nil && b.ready && (!b.passed || len(b.waiting) > 0):
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

// start makes the next round the current one: the gate, or the first of those that wait. mu is held.
func (b *barrier) start() *round {
	var r *round
	if b.passed {
		r, b.waiting = b.waiting[0], b.waiting[1:]
	} else {
		r = newRound()
		r.gate = true
	}
	b.current = r
	b.newest++
	r.nonce, r.conn = b.newest, b.conn
	r.question = r.asks()
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
	b.mu.Unlock()
	for _, p := range others { // who went meanwhile is not told about any more
		if n.members.standing(p) != nil {
			b.forget(p)
		}
	}
	if len(others) > 0 || r.gate {
		n.sendOwn(membersAddress, wire.Barrier, r.question)
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
	for p, a := range r.waits {
		if !a.until.IsZero() && !now.Before(a.until) {
			delete(r.waits, p)
			continue
		}
		late = append(late, p)
	}
	b.look(r, now)
	b.mu.Unlock()
	if again && r.gate {
		n.sendHeartbeat(flagHello) // who has come at the same moment may not have been known to our server
		n.sendOwn(membersAddress, wire.Barrier, r.question)
	}
	if again {
		room := askedBytes // in no particular order, so all get their turn
		for _, p := range late {
			n.sendOwn(inboxAddress(nodeID(p)), wire.Barrier, r.question)
			if room -= len(r.question); room <= 0 {
				break
			}
		}
	}
	return next, true
}

// askedBytes bounds what is asked anew at a time: a long list of addresses goes to some of those who are silent, and to others the
// next time.
const askedBytes = 1 << 20

// asks is the question of a round. What repeats a gate's stays small: it is for no subscription.
func (r *round) asks() []byte {
	if r.gate {
		return barrierQuestion(barrierGate, r.nonce)
	}
	return appendAddresses(barrierQuestion(0, r.nonce), r.ins)
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
	if !void {
		l.countFrom(r, tick, since)
	}
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
