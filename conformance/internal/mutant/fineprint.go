package mutant

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// finePrint are mutants that break what the documentation of a type or method says in half a sentence.
func finePrint() []Mutant {
	return slices.Concat(finePrintEvents(), finePrintCloses(), finePrintCluster(), finePrintHealth())
}

func finePrintEvents() []Mutant {
	gaps := func(change func(*backplane.Gap)) func(*World) func(*Node) {
		return each(func(n *Node) {
			n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
				if g, ok := e.(*backplane.Gap); ok {
					changed := *g
					change(&changed)
					e = &changed
				}
				s.handler(ctx, e)
			}
		})
	}
	return []Mutant{
		{
			Name: "all-is-overflow", Defect: "an outage is told as an overflow.", Breaks: "link/gap-complete",
			world: gaps(func(g *backplane.Gap) {
				if g.Cause == backplane.GapLink {
					g.Cause = backplane.GapOverflow
				}
			}),
		},
		{
			Name: "room-behind-payloads", Breaks: "payload/kept",
			Defect: "the payloads of a subscription lie one behind the other in one buffer, and who appends to one writes where the next will be.",
			Seen:   "b[:n] where b[:n:n] was meant",
			world: each(func(n *Node) {
				const buffer, small = 64 << 10, 1 << 10
				var mu sync.Mutex
				buffers := map[*Sub][]byte{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					m, ok := message(e)
					if !ok || len(m.Payload) > small {
						s.handler(ctx, e)
						return
					}
					mu.Lock()
					b := buffers[s]
					if cap(b)-len(b) < 2*small {
						b = make([]byte, 0, buffer)
					}
					from := len(b)
					b = append(b, m.Payload...)
					buffers[s] = b
					mu.Unlock()
					s.handler(ctx, &backplane.Message{Address: m.Address, Publisher: m.Publisher, Payload: b[from:]})
				}
			}),
		},
		{
			Name: "departed-fill-the-table", Breaks: "close/alone", Full: true,
			Defect: "an instance knows 32 publishers, those that have left included, and hears no other.",
			Seen:   "a table that is never tidied up",
			world: each(func(n *Node) {
				const most = 32
				var mu sync.Mutex
				known := map[backplane.NodeID]bool{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if m, ok := message(e); ok {
						mu.Lock()
						if len(known) < most {
							known[m.Publisher] = true
						}
						hears := known[m.Publisher]
						mu.Unlock()
						if !hears {
							return
						}
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// insideRun is the key of a handler's context: the subscription whose handler runs.
type insideRun struct{}

func finePrintCloses() []Mutant {
	return []Mutant{
		{
			Name: "canceled-close-does-nothing", Defect: "Close of a subscription with a context that has ended does nothing.", Breaks: "ctx/canceled",
			Seen: "if err := ctx.Err(); err != nil { return err }",
			world: each(func(n *Node) {
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					if ctx.Err() != nil {
						return refused("unsubscribe", s.to, ctx.Err())
					}
					return s.healthy.Close(ctx) //nolint:wrapcheck // the healthy instance's word, as it is
				}
			}),
		},
		{
			Name: "close-drains-first", Breaks: "unsubscribe/barrier",
			Defect: "Close of a subscription waits until all that waits for its handler has been handled.",
			Seen:   "close(queue) before the loop over it has ended",
			world:  each(func(n *Node) { n.drainFirst() }),
		},
		{
			Name: "leaves-the-queue-to-it", Breaks: "handler/reentrant",
			Defect: "a subscription that another one's handler closes is handed what waits for it yet.",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					s.handler(context.WithValue(ctx, insideRun{}, s), e)
				}
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					if by, inside := ctx.Value(insideRun{}).(*Sub); inside && by != s {
						go func() {
							pause(time.Millisecond)
							_ = s.healthy.Close(context.WithoutCancel(ctx)) // the defect: nobody waits for it
						}()
						return nil
					}
					return s.healthy.Close(ctx) //nolint:wrapcheck // the healthy instance's word, as it is
				}
			}),
		},
		{
			Name: "removed-by-address", Breaks: "handler/reentrant",
			Defect: "what a handler closes is removed when it has returned, and with it what it subscribed in its place.",
			Seen:   "a delete from a map by address, put off until no lock is held",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					at := func(a backplane.Address) []*Sub {
						return n.world.openSubs(func(o *Sub) bool { return o.n == n && o.to == a })
					}
					before := at(s.to)
					s.handler(context.WithValue(ctx, insideRun{}, s), e)
					if slices.Contains(at(s.to), s) || !slices.Contains(before, s) {
						return
					}
					for _, o := range at(s.to) {
						o.deaf.Store(o.deaf.Load() || !slices.Contains(before, o))
					}
				}
			}),
		},
	}
}

// drainFirst makes Close of a subscription wait while its handler is called again and again.
func (n *Node) drainFirst() {
	const idle = time.Millisecond // in which it is called again, if anything waits
	var mu sync.Mutex
	busy, runs := map[*Sub]bool{}, map[*Sub]int{}
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
		mu.Lock()
		busy[s] = true
		runs[s]++
		mu.Unlock()
		s.handler(context.WithValue(ctx, insideRun{}, s), e)
		mu.Lock()
		busy[s] = false
		mu.Unlock()
	}
	n.unsubscribe = func(ctx context.Context, s *Sub) error {
		for idleAt := -1; ctx.Value(insideRun{}) == nil; { // after how many runs it was seen idle
			mu.Lock()
			drained := !busy[s] && runs[s] == idleAt
			idleAt = runs[s]
			if busy[s] {
				idleAt = -1
			}
			mu.Unlock()
			if drained {
				break
			}
			select {
			case <-ctx.Done():
				return s.healthy.Close(ctx) //nolint:wrapcheck // the healthy instance's word, as it is
			case <-time.After(idle):
			}
		}
		return s.healthy.Close(ctx) //nolint:wrapcheck // the healthy instance's word, as it is
	}
}

func finePrintCluster() []Mutant {
	answering := func(around func(backplane.AnswerFunc) backplane.AnswerFunc) func(*Node) {
		return func(n *Node) {
			n.answer = func(service string, f backplane.AnswerFunc) (stop func()) { return n.Node.Answer(service, around(f)) }
		}
	}
	return []Mutant{
		{
			Name: "eight-answer", Defect: "eight goroutines answer all questions of an instance.", Breaks: "ask/side-by-side",
			Seen: "a pool of workers",
			world: each(func(n *Node) {
				const workers = 8
				pool := make(chan struct{}, workers)
				answering(func(f backplane.AnswerFunc) backplane.AnswerFunc {
					return func(ctx context.Context, from backplane.NodeID, request []byte) ([]byte, error) {
						select {
						case pool <- struct{}{}:
						case <-ctx.Done():
							return nil, ctx.Err()
						}
						defer func() { <-pool }()
						return f(ctx, from, request)
					}
				})(n)
			}),
		},
		{
			Name: "answers-without-deadline", Defect: "the context of an answer does not end with its asker's deadline.", Breaks: "ask/answers",
			world: each(answering(func(f backplane.AnswerFunc) backplane.AnswerFunc {
				return func(ctx context.Context, from backplane.NodeID, request []byte) ([]byte, error) {
					const longest = 15 * time.Second // so that the test can end
					own, cancel := context.WithTimeout(context.WithoutCancel(ctx), longest)
					defer cancel()
					return f(own, from, request)
				}
			})),
		},
	}
}

func finePrintHealth() []Mutant {
	return []Mutant{
		{
			Name: "up-when-closed", Defect: "after Close health is what it was before.", Breaks: "link/state",
			Seen: "whatever measures it ends with the instance",
			world: each(func(n *Node) {
				var mu sync.Mutex
				var last *backplane.Health
				n.close = func(ctx context.Context) error {
					mu.Lock()
					if last == nil {
						h := n.Node.Health()
						last = &h
					}
					mu.Unlock()
					return n.Node.Close(ctx)
				}
				n.health = func() backplane.Health {
					mu.Lock()
					defer mu.Unlock()
					if last != nil {
						return *last
					}
					return n.Node.Health()
				}
			}),
		},
	}
}
