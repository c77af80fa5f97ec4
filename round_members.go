package backplane

import (
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// What members do to the rounds of barrier.go: they answer, come, connect anew, and go.

// gone acts on a node that left, or was declared dead: nobody waits for it.
func (b *barrier) gone(p wire.Publisher) {
	b.mu.Lock()
	delete(b.gates, p)
	b.mu.Unlock()
	b.forget(p)
	b.step(true)
	if b.l.n.members.unheard(p) { // else it is back just now, and owes for both
		b.paid(p, 0, 0)
	}
}

// gateOf acts on the gate of a member, which was answered. The first time, there is nothing left to ask it: it has just
// connected, so it publishes when it has our answer, which is behind our subscriptions; and its question came behind its own.
// Asked again, it may have had an answer to the first question, from before our newest subscription. And at our own gate one
// who is new is to tell whom it knows. Of a round for subscriptions it is to tell its numbers: it is asked at once, since it
// may not have heard the question.
func (b *barrier) gateOf(p wire.Publisher, nonce uint64) {
	known := b.l.n.members.since(p)
	b.mu.Lock()
	first := b.gates[p] != nonce
	b.gates[p] = nonce
	settled := first && (b.passed || known.Before(b.since))
	r := b.current
	asks := settled && r != nil && !r.gate && r.waits[p] != nil
	if settled && r != nil {
		r.company = true // as good as an answer
	}
	b.mu.Unlock()
	switch {
	case asks:
		b.l.n.sendOwn(inboxAddress(nodeID(p)), wire.Barrier, r.question)
	case settled:
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
		r.waits[p] = &awaited{}
	}
	b.mu.Unlock()
	if asks && (!direct || !r.gate) {
		b.l.n.sendOwn(inboxAddress(nodeID(p)), wire.Barrier, r.question)
	}
	return passed
}

// answered notes an answer. It returns false if it is none to the current round.
func (b *barrier) answered(p wire.Publisher, a barrierReply) bool {
	n := b.l.n
	unknown := make(map[wire.Publisher]time.Duration) // of those named; looked up before mu is taken
	for q, silent := range a.named {
		if q != n.publisher && n.members.unheard(q) && silent < n.o.MemberTimeout {
			unknown[q] = silent
		}
	}
	now := time.Now()
	var ask []wire.Publisher
	b.mu.Lock()
	r := b.current
	if r == nil || r.nonce != a.nonce {
		b.mu.Unlock()
		return false
	}
	if !r.over {
		if _, again := r.epochs[p]; !again { // the first answer is the lowest
			r.epochs[p] = beat{b.l.n.ticks.Add(1), a.epoch}
			r.told[p] = a.numbers
			b.extend(r, now)
		}
		delete(r.waits, p)
		r.company = true
		for q, silent := range unknown {
			if _, heard := r.epochs[q]; r.gate && r.waits[q] == nil && q != p && !heard {
				r.waits[q] = &awaited{until: now.Add(min(n.o.MemberTimeout-silent, n.o.ProbeInterval))}
				ask = append(ask, q)
			}
		}
		b.look(r, now)
	}
	b.mu.Unlock()
	for _, q := range ask {
		_ = n.greet(q)
		n.sendOwn(inboxAddress(nodeID(q)), wire.Barrier, barrierQuestion(barrierGate, a.nonce))
	}
	b.step(true)
	return true
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
