package backplane

import (
	"context"
	"errors"
	mathrand "math/rand/v2"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// A broker, or a client library, can confirm a subscription that does not deliver, or lose one that did, and say nothing.
// Numbers do not show it: nothing comes in that has one. So each interest is proven: by whatever comes in on its channel
// after the confirmation, or else by a message that the node publishes there and hears back. An interest that was silent
// for a minute is proven again. The message goes to everybody who is subscribed and proves the channel for all of them, so
// that a channel costs about one small message a minute, however many nodes share it.
//
// An interest that is not proven in time gets a gap, and is unsubscribed and subscribed anew.

const (
	verifySilence = time.Minute // after which an interest is proven again
	verifyMost    = 128         // messages in one probe interval, so that 100,000 interests take a quarter of an hour
	verifySlack   = 1024        // dead entries that the lists may hold beside as many as there are interests
)

// errNotDelivered is the cause of the gap.
var errNotDelivered = errors.New("the broker confirmed a subscription that does not deliver")

// proof is when something last came in on an interest's channel, or when it was confirmed, in tenths of a second since the
// node was opened, times two; plus one if something came in. So it fits into four bytes.
type proof uint32

const proofUnit = 100 * time.Millisecond

func (n *Node) proofAt(t time.Time, proven bool) proof {
	p := proof(t.Sub(n.opened)/proofUnit) << 1 //nolint:gosec // 2^31 tenths are 6.8 years
	if proven {
		p |= 1
	}
	return p
}

func (p proof) proven() bool           { return p&1 != 0 }
func (p proof) time(n *Node) time.Time { return n.opened.Add(time.Duration(p>>1) * proofUnit) }

// prove is called for each frame that comes in on the interest's channel.
func (in *interest) prove(p proof) {
	if in.heard.Load() != uint32(p) { // most often the same: leave the cache line alone
		in.heard.Store(uint32(p))
	}
}

func (in *interest) proof() proof { return proof(in.heard.Load()) }

// verifier is the part of the interestTable that proves interests. Its fields are guarded by interestTable.mu, but for asked.
type verifier struct {
	fresh  []*interest       // confirmed, and to be proven soon
	all    []*interest       // every interest that was confirmed once; may hold removed ones
	next   int               // place in all of the next one to be looked at
	own    []*interest       // the engine's own; not in all
	failed map[*interest]int // those that do not deliver, and how often that was found out in a row
	asked  []asked           // used by the goroutine of verify only: the messages that are awaited, in the order of their times
}

// asked is an interest on whose channel a message was published.
type asked struct {
	in    *interest
	tick  uint64 // its since: it was not confirmed anew meanwhile
	nonce uint64 // the link's newest probe when the broker had taken the message
	from  proof  // what came in since then proves it
	taken time.Time
}

// toProve lists an interest that the broker has just confirmed. mu is held.
func (t *interestTable) toProve(in *interest) {
	v := &t.verifier
	if in.own {
		return
	}
	if !in.known {
		in.known = true
		if v.all = append(v.all, in); t.crowded(v.all) {
			v.all = t.withoutRemoved(v.all, func(in *interest) { in.known = false })
		}
	}
	if !in.proving {
		in.proving = true
		if v.fresh = append(v.fresh, in); t.crowded(v.fresh) {
			v.fresh = t.withoutRemoved(v.fresh, func(in *interest) { in.proving = false })
		}
	}
}

// crowded reports whether a list must hold many interests that were removed. mu is held.
func (t *interestTable) crowded(list []*interest) bool { return len(list) > 2*len(t.m)+verifySlack }

// withoutRemoved drops removed interests from a list. mu is held.
func (t *interestTable) withoutRemoved(list []*interest, dropped func(*interest)) []*interest {
	kept := list[:0]
	for _, in := range list {
		if t.m[in.channel] == in {
			kept = append(kept, in)
		} else {
			dropped(in)
		}
	}
	clear(list[len(kept):])
	return kept
}

// inForce reports whether an interest is wanted, and confirmed for all we know. mu is held.
func (t *interestTable) inForce(in *interest) bool {
	return in.refs > 0 && in.confirmed && !in.renew && t.m[in.channel] == in
}

// due takes the interests that are to be proven now.
func (t *interestTable) due(n *Node, now time.Time) []*interest {
	silent := func(in *interest, d time.Duration) bool { return now.Sub(in.proof().time(n)) >= d }
	t.mu.Lock()
	defer t.mu.Unlock()
	v := &t.verifier
	var due []*interest
	take := func(in *interest) {
		in.proving = true
		due = append(due, in)
	}
	for _, in := range v.own { // not after a minute: the members would be declared dead before
		if !in.proving && t.inForce(in) && in != in.link.probe && (!in.proof().proven() || silent(in, n.o.MemberTimeout/2)) {
			take(in)
		}
	}
	for len(v.fresh) > 0 && len(due) < verifyMost {
		in := v.fresh[0]
		v.fresh[0] = nil
		v.fresh = v.fresh[1:]
		if in.proving = false; t.inForce(in) && !in.proof().proven() {
			take(in)
		}
	}
	if len(v.fresh) == 0 {
		v.fresh = nil // and its array
	}
	// A part of all, so that each is looked at about once in the time of silence.
	silence := verifySilence + mathrand.N(verifySilence/4) //nolint:gosec // jitter: nodes that share a channel should not ask together
	part := min(1+int(float64(len(v.all))*n.o.ProbeInterval.Seconds()/verifySilence.Seconds()), len(v.all))
	for ; part > 0 && len(due) < verifyMost; part-- {
		if v.next >= len(v.all) {
			v.next = 0
		}
		in := v.all[v.next]
		if t.m[in.channel] != in {
			last := len(v.all) - 1
			v.all[v.next], v.all[last] = v.all[last], nil
			v.all = v.all[:last]
			in.known = false
			continue
		}
		v.next++
		switch {
		case in.proving || !t.inForce(in) || !silent(in, silence):
		case v.failed[in] > 0:
			t.renew(in) // and it is proven when it is confirmed
		default:
			take(in)
		}
	}
	return due
}

// verify is the goroutine that proves interests; it ends with the node.
func (n *Node) verify() {
	timer := time.NewTimer(mathrand.N(n.o.ProbeInterval)) //nolint:gosec // jitter: nodes that share a channel should not ask together
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-n.ctx.Done():
			return
		}
		n.interests.judge(n, time.Now())
		n.prove(n.interests.due(n, time.Now()))
		timer.Reset(n.o.ProbeInterval)
	}
}

// prove publishes a message on the channel of each interest, and notes those that the broker has taken.
func (n *Node) prove(due []*interest) {
	if len(due) == 0 {
		return
	}
	from := n.proofAt(time.Now(), true)
	ctx, cancel := context.WithTimeout(n.ctx, n.o.ProbeTimeout)
	defer cancel()
	errs := n.publishProofs(ctx, due)
	t := &n.interests
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, in := range due {
		if errs[i] != nil {
			in.proving = false
			switch {
			case errors.Is(errs[i], ErrDenied): // who may not publish there cannot know
				in.prove(n.proofAt(time.Now(), true))
			case t.inForce(in) && !in.proof().proven():
				t.toProve(in)
			}
			continue
		}
		in.mu.Lock()
		tick := in.since
		in.mu.Unlock()
		t.verifier.asked = append(t.verifier.asked, asked{in: in, tick: tick, nonce: in.link.newestProbe(), from: from, taken: time.Now()})
	}
}

// publishProofs publishes the messages and returns the fate of each.
func (n *Node) publishProofs(ctx context.Context, due []*interest) []error {
	c := n.newCall(ctx, len(due))
	errs := make([]error, len(due))
	refused := 0
	for i, in := range due {
		c.items[i].typ = wire.Probe
		if _, errs[i] = n.enqueue(ctx, n.outletFor(in.addr), &c.items[i]); errs[i] != nil {
			refused++
		}
	}
	whole := c.wait(refused)
	for i := range c.items {
		if errs[i] == nil {
			errs[i] = c.items[i].err
		}
	}
	if whole {
		n.endCall(c)
	}
	return errs
}

// judge looks for messages that have come back, and for those that should have.
func (t *interestTable) judge(n *Node, now time.Time) {
	t.mu.Lock()
	v := &t.verifier
	before := len(v.failed)
	for in := range v.failed {
		if in.proof().proven() || t.m[in.channel] != in {
			delete(v.failed, in)
		}
	}
	given := 0
	waiting := v.asked[:0]
	for _, a := range v.asked {
		in := a.in
		in.mu.Lock()
		anew := in.since != a.tick
		in.mu.Unlock()
		switch p := in.proof(); {
		case anew || !t.inForce(in):
			if in.proving = false; t.inForce(in) && !p.proven() {
				t.toProve(in)
			}
		case p.proven() && p >= a.from:
			in.proving = false
		case now.Sub(a.taken) < n.o.ProbeTimeout || !in.link.probedAfter(a.nonce):
			// What is heard on a link keeps its order: a probe that came back and was sent later says that the message is
			// not merely behind others.
			waiting = append(waiting, a)
		default:
			in.proving = false
			t.undelivered(n, in)
			given++
		}
	}
	clear(v.asked[len(waiting):])
	v.asked = waiting
	changed := len(v.failed) != before
	t.mu.Unlock()
	if given > 0 {
		n.log.Error("the broker confirmed subscriptions that do not deliver; subscribing anew", "channels", given)
	}
	if changed {
		n.health.look()
	}
}

// undelivered gives an interest up that does not deliver: it is unsubscribed, subscribed anew, and gets its gap. One that fails
// again gets there when it has its turn with all. mu is held.
func (t *interestTable) undelivered(n *Node, in *interest) {
	v := &t.verifier
	if v.failed == nil {
		v.failed = map[*interest]int{}
	}
	v.failed[in]++
	if in == in.link.first {
		n.settle() // the silence of the members was our own
	}
	in.lose(&loss{cause: GapBroker, since: in.proof().time(n), err: errNotDelivered})
	if v.failed[in] == 1 || in.own { // the own ones are few, and not among all
		t.renew(in)
	}
}

// renew lets an interest be unsubscribed and subscribed anew. mu is held.
func (t *interestTable) renew(in *interest) {
	in.renew = true
	t.queue(in)
}

// undelivering counts the interests that are confirmed and do not deliver.
func (t *interestTable) undelivering() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.verifier.failed)
}
