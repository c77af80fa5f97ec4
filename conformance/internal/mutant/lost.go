package mutant

import (
	"context"
	"slices"
	"sync"

	"github.com/gobackplane/backplane"
)

// lost are mutants that do not tell well what vanished on a healthy link.
func lost() []Mutant {
	counting := func(count func(*backplane.Gap)) func(*World) func(*Node) {
		return each(func(n *Node) {
			n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
				if g, is := e.(*backplane.Gap); is && g.Cause == backplane.GapNumbers {
					other := *g
					count(&other)
					e = &other
				}
				s.handler(ctx, e)
			}
		})
	}
	return []Mutant{
		{
			Name: "numberless", Defect: "what vanishes on a healthy link is not missed.", Breaks: "link/lost-middle",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if !byNumbers(e) {
						s.handler(ctx, e)
					}
				}
			}),
		},
		{
			Name: "counts-but-one", Defect: "a gap does not count the last message that is missing.", Breaks: "link/lost-middle",
			world: counting(func(g *backplane.Gap) { g.Missed = max(1, g.Missed-1) }),
		},
		{
			Name: "does-not-count", Defect: "a gap says that something is missing, and not how much of whom.", Breaks: "link/lost-middle",
			world: counting(func(g *backplane.Gap) { g.Missed, g.Publisher = 0, "" }),
		},
		{
			Name: "counts-afterwards", Defect: "the gap of what vanished comes after the message that shows it.", Breaks: "link/lost-middle",
			world: each(func(n *Node) {
				var mu sync.Mutex
				held := map[*Sub]backplane.Event{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					gap := held[s]
					delete(held, s)
					if byNumbers(e) && gap == nil {
						held[s] = e
						mu.Unlock()
						return
					}
					mu.Unlock()
					s.handler(ctx, e)
					if gap != nil {
						s.handler(ctx, gap)
					}
				}
			}),
		},
		{
			Name: "tail-on-demand", Defect: "what vanished is missed only when the next message comes.", Breaks: "link/lost-tail",
			world: each(func(n *Node) {
				var mu sync.Mutex
				held := map[*Sub][]backplane.Event{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					if byNumbers(e) {
						held[s] = append(held[s], e)
						mu.Unlock()
						return
					}
					gaps := held[s]
					delete(held, s)
					mu.Unlock()
					for _, g := range gaps {
						s.handler(ctx, g)
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// deaths are mutants that do not tell well what died with an instance.
func deaths() []Mutant {
	return []Mutant{
		{
			Name: "forgets-the-dead", Breaks: "link/last-words", Cluster: true,
			Defect: "the death of an instance shortens the list of members, and is told to nobody.",
			Seen:   "members by heartbeats, as they were in this module",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if !n.ofTheDead(e) {
						s.handler(ctx, e)
					}
				}
			}),
		},
		{
			Name: "mourns-whom-it-knew", Breaks: "link/last-words", Cluster: true,
			Defect: "the death of an instance is told only to subscriptions that had heard of it.",
			Seen:   "gaps by numbers, which need one to count from",
			world: each(func(n *Node) {
				type of struct {
					s         *Sub
					publisher backplane.NodeID
				}
				var heard sync.Map
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if m, is := message(e); is {
						heard.Store(of{s, m.Publisher}, true)
					}
					if g, is := e.(*backplane.Gap); is && n.ofTheDead(e) {
						if _, known := heard.Load(of{s, g.Publisher}); !known {
							return
						}
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// ofTheDead reports whether an event is the gap that a member's death is.
func (n *Node) ofTheDead(e backplane.Event) bool {
	g, is := e.(*backplane.Gap)
	return is && g.Cause == backplane.GapMember && !slices.ContainsFunc(n.Node.Members(), func(m backplane.Member) bool { return m.ID == g.Publisher })
}

func byNumbers(e backplane.Event) bool {
	g, is := e.(*backplane.Gap)
	return is && g.Cause == backplane.GapNumbers
}

// firsts are mutants that do not miss the first messages to a subscription.
func firsts() []Mutant {
	return []Mutant{
		{
			Name: "counts-from-the-first-heard", Breaks: "link/lost-first", Cluster: true,
			Defect: "a subscription's counts begin with the first message that it hears of a publisher.",
			Seen:   "this module's engine, before members' answers told their numbers",
			Also:   []string{"link/lost-middle"},
			world: each(func(n *Node) {
				var mu sync.Mutex
				type stream struct {
					s  *Sub
					by backplane.NodeID
				}
				heard := map[stream]bool{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					first := false
					switch e := e.(type) {
					case *backplane.Message:
						heard[stream{s, e.Publisher}] = true
					case *backplane.Gap:
						first = byNumbers(e) && !heard[stream{s, e.Publisher}]
					}
					mu.Unlock()
					if !first {
						s.handler(ctx, e)
					}
				}
			}),
		},
	}
}
