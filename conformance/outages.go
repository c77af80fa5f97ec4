package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/gobackplane/backplane"
)

const noLink = "the instances' links cannot be made to fail: they do not dial through Instance.Dial, and Inject gives no such fault (Cut, Hang and Heal)"

// noFault says which of the [Faults] is missing.
func noFault(name string) string {
	return "the instances' links cannot be made to fail in each way: they do not dial through Instance.Dial, and Inject does not give " +
		name + " with Heal"
}

// needCut ends the property if the links of these instances cannot be cut.
func (w *world) needCut(instances ...*instance) {
	for _, n := range instances {
		if cut, _ := n.can(); !cut {
			w.notExercised(noLink)
		}
	}
}

// outage cuts an instance's link, does something meanwhile, and heals it.
func (w *world) outage(n *instance, meanwhile func()) {
	n.cut()
	meanwhile()
	n.heal()
}

// awaitGap waits until a subscription was told n gaps.
func (w *world) awaitGap(s *sub, n int) {
	w.await(fmt.Sprintf("%s to be told of a gap on %v", s.n.name, w.placeOf(s).Address), func() bool { return w.rec.subs[s.id].gaps >= n })
}

func (w *world) placeOf(s *sub) place {
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	return w.rec.h.Subs[s.id].Place
}

// publishAgain publishes until it succeeds: after an outage the first attempts may still fail.
func (n *instance) publishAgain(to backplane.Address) (pub int) {
	n.w.eventually(n.name+" to publish again", func() bool {
		ctx, cancel := n.w.patient()
		defer cancel()
		var err error
		pub, err = n.tryPublish(ctx, to, headerLen)
		return err == nil
	})
	return pub
}

// tryDuring publishes from an instance, four calls at a time, while its own link fails in several ways: answers get lost,
// then it is cut with publishes under way, then cut and healed at once. What Publish returns is for the rules.
func (w *world) tryDuring(n *instance, to backplane.Address) {
	const (
		workers = 4
		some    = 20 // messages between two faults
		least   = 300 * time.Millisecond
		patient = 2 * time.Second // long enough to be retried, should the backplane do so
	)
	over := make(chan struct{})
	w.each(workers+1, func(i int) {
		if i < workers {
			for alive := true; alive; alive = rest(w.ctx, time.Millisecond) {
				select {
				case <-over:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(w.ctx, patient)
				_, _ = n.tryPublish(ctx, to, headerLen) // the record has it
				cancel()
			}
			return
		}
		defer close(over)
		called := 0
		pass := func(messages int) {
			w.rec.mu.Lock()
			called = w.rec.seqs[n.id] + messages
			w.rec.mu.Unlock()
			w.within(least, func() bool { return w.rec.seqs[n.id] >= called })
		}
		pass(some)
		if n.canDeafen() {
			n.deafen()
			pass(workers)
			rest(w.ctx, time.Millisecond) // so that one is under way, and not only called
		} else {
			w.leavesOut(noFault("Deafen"))
		}
		n.cut()
		pass(some)
		n.heal()
		pass(some)
		n.cut()
		n.heal()
		pass(some)
	})
}
