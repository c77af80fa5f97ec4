package mutant

import (
	"context"
	"slices"
	"sync"

	"github.com/gobackplane/backplane"
)

// claims are mutants that do not have the abilities they should, or not as they should.
func claims() []Mutant {
	return []Mutant{
		{
			Name: "ability-lost", Defect: "a wrapper passes on the three verbs only.", Breaks: "claims/honest", Bare: true,
			Seen: "http.ResponseWriter in middleware, without Flusher and Hijacker",
		},
		{
			Name: "id-of-the-host", Defect: "all instances of a host have one id.", Breaks: "members/id",
			Also:  []string{"deliver/once", "order/per-publisher"},
			world: each(func(n *Node) { n.id = func() backplane.NodeID { return "00000000deadbeef" } }),
		},
		{
			Name: "two-ids", Defect: "messages carry another id than the instance tells.", Breaks: "members/id",
			Also: []string{"deliver/once", "order/per-publisher"},
			world: each(func(n *Node) {
				n.id = func() backplane.NodeID {
					id := []byte(n.Node.ID())
					slices.Reverse(id)
					return backplane.NodeID(id)
				}
			}),
		},
		{
			Name: "others-only", Defect: "an instance does not list itself.", Breaks: "members/live",
			world: each(func(n *Node) {
				n.members = func() []backplane.Member {
					return slices.DeleteFunc(n.Node.Members(), func(m backplane.Member) bool { return m.Self })
				}
			}),
		},
		{
			Name: "first-come", Defect: "the list is made when two are there, and stays.", Breaks: "members/live",
			world: each(func(n *Node) {
				var mu sync.Mutex
				var list []backplane.Member
				n.members = func() []backplane.Member {
					mu.Lock()
					defer mu.Unlock()
					if len(list) < 2 {
						list = n.Node.Members()
					}
					return slices.Clone(list)
				}
			}),
		},
		{
			Name: "no-goodbye", Defect: "an instance that was closed stays in the lists.", Breaks: "members/goodbye",
			world: each(func(n *Node) { n.members = n.everSeen(nil) }),
		},
		{
			Name: "immortal", Defect: "only a goodbye takes an instance out of the lists.", Breaks: "members/death",
			Seen: "presence kept in a Redis set",
			world: func(*World) func(*Node) {
				var mu sync.Mutex
				closed := map[backplane.NodeID]bool{}
				return func(n *Node) {
					n.close = func(ctx context.Context) error {
						mu.Lock()
						closed[n.Node.ID()] = true
						mu.Unlock()
						return n.Node.Close(ctx)
					}
					n.members = n.everSeen(func(id backplane.NodeID) bool {
						mu.Lock()
						defer mu.Unlock()
						return closed[id]
					})
				}
			},
		},
	}
}

// askings are mutants that err with questions.
func askings() []Mutant {
	return []Mutant{
		{
			Name: "silence-left-out", Defect: "who did not answer is missing among the answers.", Breaks: "ask/answers",
			Seen: "fetchSockets with a timeout",
			world: each(func(n *Node) {
				n.askAll = func(ctx context.Context, service string, request []byte) ([]backplane.Answer, error) {
					answers, err := n.Node.AskAll(ctx, service, request)
					return slices.DeleteFunc(answers, func(a backplane.Answer) bool { return a.Err != nil }), err
				}
			}),
		},
		{
			Name: "answers-mixed-up", Defect: "the answers of two members are told as each other's.", Breaks: "ask/answers",
			world: each(func(n *Node) {
				n.askAll = func(ctx context.Context, service string, request []byte) ([]backplane.Answer, error) {
					answers, err := n.Node.AskAll(ctx, service, request)
					if len(answers) > 1 {
						answers[0].Payload, answers[1].Payload = answers[1].Payload, answers[0].Payload
					}
					return answers, err
				}
			}),
		},
		{
			Name: "answers-wait-for-handlers", Defect: "questions are answered by the goroutine that calls the handlers.", Breaks: "ask/answers",
			world: each(func(n *Node) {
				turn := make(chan struct{}, 1)
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					select {
					case turn <- struct{}{}:
					case <-ctx.Done():
						return
					}
					defer func() { <-turn }()
					s.handler(ctx, e)
				}
				n.answer = func(service string, f backplane.AnswerFunc) (stop func()) {
					return n.Node.Answer(service, func(ctx context.Context, from backplane.NodeID, request []byte) ([]byte, error) {
						select {
						case turn <- struct{}{}:
						case <-ctx.Done():
							return nil, ctx.Err()
						}
						defer func() { <-turn }()
						return f(ctx, from, request)
					})
				}
			}),
		},
	}
}

// everSeen lists who was ever listed, but for those of whom gone is true.
func (n *Node) everSeen(gone func(backplane.NodeID) bool) func() []backplane.Member {
	var mu sync.Mutex
	seen := map[backplane.NodeID]backplane.Member{}
	return func() []backplane.Member {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range n.Node.Members() {
			seen[m.ID] = m
		}
		var list []backplane.Member
		for _, m := range seen {
			if gone == nil || !gone(m.ID) {
				list = append(list, m)
			}
		}
		return list
	}
}
