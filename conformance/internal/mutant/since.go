package mutant

import (
	"context"
	"time"

	"github.com/gobackplane/backplane"
)

// since are mutants that tell of a gap at the wrong time.
func since() []Mutant {
	change := func(when func(*Node) func(g *backplane.Gap) time.Time) func(*World) func(*Node) {
		return each(func(n *Node) {
			of := when(n)
			n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
				if g, is := e.(*backplane.Gap); is {
					other := *g
					other.Since = of(g)
					e = &other
				}
				s.handler(ctx, e)
			}
		})
	}
	return []Mutant{
		{
			Name: "since-it-is-told", Breaks: "link/since",
			Defect: "a gap that numbers show is told as of the moment in which it is found.",
			Seen:   "this module's engine, when the property was written",
			world: change(func(*Node) func(*backplane.Gap) time.Time {
				return func(g *backplane.Gap) time.Time {
					if g.Cause == backplane.GapNumbers {
						return time.Now()
					}
					return g.Since
				}
			}),
		},
		{
			Name: "since-the-start", Breaks: "link/since",
			Defect: "the gap of a link is told as of the start of the instance.",
			world: change(func(*Node) func(*backplane.Gap) time.Time {
				start := time.Now()
				return func(g *backplane.Gap) time.Time {
					if g.Cause == backplane.GapLink {
						return start
					}
					return g.Since
				}
			}),
		},
	}
}
