package mutant

import (
	"context"
	"sync"

	"github.com/gobackplane/backplane"
)

// combinations are mutants whose defect shows only where two things meet that no property about one thing brings together.
func combinations() []Mutant {
	return []Mutant{
		{
			Name: "newcomers-are-strangers", Breaks: "model/random", Full: true,
			Defect: "after an outage an instance goes on with the list of members from before, and drops what newcomers publish.",
			world:  newcomersAreStrangers,
		},
		{
			Name: "unsubscribe-is-made-up-for", Breaks: "model/random", Full: true,
			Defect: "an unsubscribe during an outage is made up for after it, although another subscription to the address is left.",
			Seen:   "socketio/socket.io#950: leaving and joining while disconnected",
			world:  each(unsubscribeIsMadeUpFor),
		},
		{
			Name: "count-of-before-its-time", Breaks: "model/random", Full: true,
			Defect: "a subscription made in an outage, beside an older one, is told the count of what is missing since before it.",
			Seen:   "this module's engine, which model/random found out",
			world:  each(countOfBeforeItsTime),
		},
	}
}

func newcomersAreStrangers(w *World) func(*Node) {
	return func(n *Node) {
		var mu sync.Mutex
		strangers := map[backplane.NodeID]bool{}
		var before map[backplane.NodeID]bool // who was there when the outage began
		members := func() map[backplane.NodeID]bool {
			all := map[backplane.NodeID]bool{}
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, m := range w.nodes {
				all[m.ID()] = true
			}
			return all
		}
		n.faults = func(f Faults) Faults {
			cut, heal := f.Cut, f.Heal
			f.Cut = func() {
				cut()
				mu.Lock()
				defer mu.Unlock()
				before = members()
			}
			f.Heal = func() {
				mu.Lock()
				if before != nil {
					for m := range members() {
						if !before[m] {
							strangers[m] = true
						}
					}
					before = nil
				}
				mu.Unlock()
				heal()
			}
			return f
		}
		n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
			mu.Lock()
			m, is := message(e)
			drop := is && strangers[m.Publisher]
			mu.Unlock()
			if !drop {
				s.handler(ctx, e)
			}
		}
	}
}

func unsubscribeIsMadeUpFor(n *Node) {
	var mu sync.Mutex
	down := false
	doomed := map[*Sub]bool{} // deaf from their next gap on
	n.faults = func(f Faults) Faults {
		cut, heal := f.Cut, f.Heal
		f.Cut = func() {
			cut()
			mu.Lock()
			defer mu.Unlock()
			down = true
		}
		f.Heal = func() {
			mu.Lock()
			down = false
			mu.Unlock()
			heal()
		}
		return f
	}
	n.unsubscribe = func(ctx context.Context, s *Sub) error {
		left := n.world.openSubs(func(other *Sub) bool { return other.n == n && other.to == s.to })
		mu.Lock()
		for _, other := range left {
			doomed[other] = doomed[other] || down
		}
		mu.Unlock()
		return s.healthy.Close(ctx)
	}
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
		s.handler(ctx, e)
		mu.Lock()
		defer mu.Unlock()
		if isGap(e) && doomed[s] {
			s.deaf.Store(true)
		}
	}
}

func countOfBeforeItsTime(n *Node) {
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
		if g, is := e.(*backplane.Gap); is && g.Cause == backplane.GapNumbers && g.Missed == 0 && g.Publisher != "" {
			counted := *g
			counted.Missed = 1000
			e = &counted
		}
		s.handler(ctx, e)
	}
}
