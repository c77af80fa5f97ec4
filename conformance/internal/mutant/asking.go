package mutant

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// registrations are mutants that err in who answers.
func registrations() []Mutant {
	return []Mutant{
		{
			Name: "stop-takes-the-newer", Breaks: "ask/registration",
			Defect: "stopping a registration stops whatever is registered for its service by then.",
			Seen:   "handlers in a map by name, deleted by name",
			world: each(func(n *Node) {
				var mu sync.Mutex
				newest := map[string]func(){}
				n.answer = func(service string, f backplane.AnswerFunc) (stop func()) {
					mu.Lock()
					defer mu.Unlock()
					newest[service] = n.Node.Answer(service, f)
					return func() {
						mu.Lock()
						defer mu.Unlock()
						newest[service]()
					}
				}
			}),
		},
		{
			Name: "first-registration-stays", Defect: "a service that is answered already is not registered again.", Breaks: "ask/registration",
			world: each(func(n *Node) {
				var mu sync.Mutex
				registered := map[string]bool{}
				n.answer = func(service string, f backplane.AnswerFunc) (stop func()) {
					mu.Lock()
					defer mu.Unlock()
					if registered[service] {
						return func() {}
					}
					registered[service] = true
					stop = n.Node.Answer(service, f)
					return func() {
						mu.Lock()
						defer mu.Unlock()
						registered[service] = false
						stop()
					}
				}
			}),
		},
		{
			Name: "one-question-at-a-time", Defect: "the questions to an instance are answered after one another.", Breaks: "ask/side-by-side",
			world: each(func(n *Node) {
				turn := make(chan struct{}, 1)
				n.answer = func(service string, f backplane.AnswerFunc) (stop func()) {
					return n.Node.Answer(service, func(ctx context.Context, from backplane.NodeID, request []byte) ([]byte, error) {
						select {
						case turn <- struct{}{}:
							defer func() { <-turn }()
							return f(ctx, from, request)
						case <-ctx.Done():
							return nil, ctx.Err()
						}
					})
				}
			}),
		},
	}
}

// asked are mutants that err in what comes of a question.
func asked() []Mutant {
	const cut = 1<<16 - 1
	return []Mutant{
		{
			Name: "waits-for-the-departed", Defect: "a question to a member that closes waits until its context ends.", Breaks: "ask/ends",
			Seen: "request and reply over a broker that does not know who listens",
			world: each(func(n *Node) {
				n.ask = func(ctx context.Context, node backplane.NodeID, service string, request []byte) ([]byte, error) {
					answer, err := n.Node.Ask(ctx, node, service, request)
					if errors.Is(err, backplane.ErrNodeLeft) {
						<-ctx.Done()
					}
					return answer, err //nolint:wrapcheck // the healthy instance's word, as it is
				}
			}),
		},
		{
			Name: "answers-in-one-buffer", Defect: "the answers that an instance gets are all read into one buffer.", Breaks: "ask/payload",
			world: each(func(n *Node) {
				var mu sync.Mutex
				buffer := make([]byte, 0, 1<<20)
				n.ask = func(ctx context.Context, node backplane.NodeID, service string, request []byte) ([]byte, error) {
					answer, err := n.Node.Ask(ctx, node, service, request)
					mu.Lock()
					defer mu.Unlock()
					return append(buffer, answer...), err //nolint:wrapcheck // the healthy instance's word, as it is
				}
			}),
		},
		{
			Name: "long-questions-are-cut", Defect: "a question arrives with its first 65,535 bytes.", Breaks: "ask/payload",
			Seen: "a length in two bytes",
			world: each(func(n *Node) {
				n.answer = func(service string, f backplane.AnswerFunc) (stop func()) {
					return n.Node.Answer(service, func(ctx context.Context, from backplane.NodeID, request []byte) ([]byte, error) {
						return f(ctx, from, request[:min(len(request), cut)])
					})
				}
			}),
		},
	}
}

// views are mutants that err in what they say of themselves and of the others.
func views() []Mutant {
	return []Mutant{
		{
			Name: "down-for-no-reason", Defect: "health that is not up does not say why.", Breaks: "link/state",
			world: each(func(n *Node) {
				n.onHealth = func(f func(backplane.Health)) (stop func()) {
					return n.Node.OnHealth(func(h backplane.Health) {
						h.Causes = nil
						f(h)
					})
				}
			}),
		},
		{
			Name: "as-of-now", Defect: "health is told as of the moment in which it is asked.", Breaks: "link/state",
			world: each(func(n *Node) {
				n.health = func() backplane.Health {
					h := n.Node.Health()
					h.Since = time.Now()
					return h
				}
			}),
		},
		{
			Name: "members-as-they-come", Defect: "members are listed with this instance first.", Breaks: "members/live",
			Seen: "the own entry, and then those of a map",
			world: each(func(n *Node) {
				n.members = func() []backplane.Member {
					all := n.Node.Members()
					self := slices.IndexFunc(all, func(m backplane.Member) bool { return m.Self })
					return slices.Concat(all[self:self+1], all[:self], all[self+1:])
				}
			}),
		},
	}
}
