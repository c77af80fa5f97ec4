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
