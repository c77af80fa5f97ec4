package conformance

import (
	"fmt"
	"slices"

	"github.com/gobackplane/backplane"
)

// settle makes sure that all that had to be delivered was: each instance sends one more message, a fence, to every place
// that it published to and somebody subscribed to, and each subscription there has to hear it, or a gap and then another one.
func (w *world) settle() {
	type job struct {
		by   *instance
		at   place
		subs []int
	}
	var jobs []job
	instances := w.allInstances()
	w.rec.mu.Lock()
	seen := map[place]map[int]bool{}
	for i := range w.rec.h.Pubs {
		p := &w.rec.h.Pubs[i]
		if seen[p.Place][p.Node] {
			continue
		}
		if seen[p.Place] == nil {
			seen[p.Place] = map[int]bool{}
		}
		seen[p.Place][p.Node] = true
		if subs := w.rec.listening(p.Place); len(subs) > 0 && !w.rec.h.Nodes[p.Node].Close.Call.happened() {
			jobs = append(jobs, job{instances[p.Node], p.Place, subs})
		}
	}
	w.rec.mu.Unlock()

	const atOnce = 16
	w.each(min(atOnce, len(jobs)), func(k int) {
		for i := k; i < len(jobs); i += atOnce {
			w.hears(jobs[i].by, jobs[i].at.Address, jobs[i].subs)
		}
	})
}

// hears publishes until the subscriptions whose links are well have heard a message itself. A gap stands for what was lost in
// a fault and may still be on its way; it does not for ever stand for what is sent now.
func (w *world) hears(by *instance, to backplane.Address, subs []int) {
	w.eventually("subscriptions to "+to.String()+" to hear messages again, and not gaps only", func() bool {
		pub := by.publish(to)
		w.arrives(pub, subs)
		w.rec.mu.Lock()
		defer w.rec.mu.Unlock()
		listening := w.rec.listening(w.rec.h.Pubs[pub].Place)
		return !slices.ContainsFunc(subs, func(s int) bool {
			return w.rec.subs[s].heard[pub] == 0 && !w.rec.faults[w.rec.h.Subs[s].Node] && slices.Contains(listening, s)
		})
	})
	for _, s := range subs {
		if w.rec.hasGaps(s) {
			w.rec.mark(markCaughtUp, w.rec.nodeOf(s), s)
		}
	}
}

// arrives waits until subscriptions have heard a publish, or a gap after its call.
func (w *world) arrives(pub int, subs []int) {
	for _, s := range subs {
		w.await(w.describe(s, pub), func() bool {
			return w.rec.delivered(s, pub) || !slices.Contains(w.rec.listening(w.rec.h.Pubs[pub].Place), s)
		})
	}
}

func (w *world) describe(sub, pub int) string {
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	p, s := &w.rec.h.Pubs[pub], &w.rec.h.Subs[sub]
	return fmt.Sprintf("%s to hear %s#%d on %v", w.rec.h.Nodes[s.Node].Name, w.rec.h.Nodes[p.Node].Name, p.Seq, p.Place.Address)
}
