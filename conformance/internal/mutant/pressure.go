package mutant

import (
	"context"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// pressure are mutants that err where a receiver cannot keep up.
func pressure() []Mutant {
	return []Mutant{
		{
			Name: "head-of-line", Defect: "one goroutine calls all handlers of an instance.", Breaks: "pressure/handler",
			Seen: "reearth/ygo#187",
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
			}),
		},
		{
			Name: "slowest-sets-the-pace", Defect: "Publish waits until all handlers of its address that run now have returned.", Breaks: "pressure/instance",
			Seen: "a synchronous fan-out",
			world: func(w *World) func(*Node) {
				var mu sync.Mutex
				running := map[at]map[*Sub]chan struct{}{}
				return func(n *Node) {
					n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
						where, done := n.at(s.to), make(chan struct{})
						mu.Lock()
						if running[where] == nil {
							running[where] = map[*Sub]chan struct{}{}
						}
						running[where][s] = done
						mu.Unlock()
						s.handler(ctx, e)
						mu.Lock()
						delete(running[where], s)
						mu.Unlock()
						close(done)
					}
					n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
						mu.Lock()
						var all []chan struct{}
						for _, done := range running[n.at(to)] {
							all = append(all, done)
						}
						mu.Unlock()
						for _, done := range all {
							select {
							case <-done:
							case <-ctx.Done():
								return refused("publish", to, backplane.ErrUnavailable)
							}
						}
						return n.Node.Publish(ctx, to, payload)
					}
				}
			},
		},
		{
			Name: "drops-when-full", Defect: "what does not fit into a queue is dropped, and nobody is told.", Breaks: "pressure/loud",
			Seen: "redis/go-redis#2267: channel is full, message is dropped",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if !overflowed(e) {
						s.handler(ctx, e)
					}
				}
			}),
		},
		{
			Name: "overflow-told-late", Defect: "an overflow is told after the next message.", Breaks: "pressure/loud",
			world: each(func(n *Node) {
				n.deliver = n.onOverflow(func(ctx context.Context, s *Sub, gap, next backplane.Event) {
					if next != nil {
						s.handler(ctx, next)
						s.handler(ctx, gap)
					}
				})
			}),
		},
		{
			Name: "overflow-counts-itself", Defect: "the gap of an overflow counts one message only.", Breaks: "pressure/loud",
			world: each(func(n *Node) {
				n.deliver = n.onOverflow(func(ctx context.Context, s *Sub, gap, next backplane.Event) {
					m, ok := message(next)
					if !ok {
						s.handler(ctx, gap)
						return
					}
					s.handler(ctx, &backplane.Gap{
						Address: s.to, Cause: backplane.GapOverflow, Since: time.Now(), Publisher: m.Publisher, Missed: 1,
					})
					s.handler(ctx, next)
				})
			}),
		},
	}
}

// overflows are mutants that do not recover from an overflow.
func overflows() []Mutant {
	return []Mutant{
		{
			Name: "slow-consumer-cut-off", Defect: "a subscription that overflowed is told so and hears nothing any more.", Breaks: "pressure/recovers",
			Seen: "NATS cuts off slow consumers; Redis, at client-output-buffer-limit",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					s.handler(ctx, e)
					s.deaf.Store(overflowed(e))
				}
			}),
		},
		{
			Name: "full-for-good", Defect: "a subscription that overflowed once is told of an overflow with each fourth message.", Breaks: "pressure/recovers",
			Seen: "a count of what waits that nobody takes back",
			world: each(func(n *Node) {
				var mu sync.Mutex
				since := map[*Sub]int{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					if since[s] > 0 || overflowed(e) {
						since[s]++
					}
					again := since[s] > 1 && since[s]%4 == 0
					mu.Unlock()
					s.handler(ctx, e)
					if again {
						s.handler(ctx, &backplane.Gap{Address: s.to, Cause: backplane.GapOverflow, Since: time.Now()})
					}
				}
			}),
		},
		{
			Name: "spilled-comes-last", Defect: "after an overflow every tenth message is heard behind the next.", Breaks: "pressure/recovers",
			Seen: "a queue that spills to a second one",
			world: each(func(n *Node) {
				var mu sync.Mutex
				full := map[*Sub]bool{}
				swap := overtaking(1, func() func(*Sub, *backplane.Message) bool {
					heard := 0
					return func(*Sub, *backplane.Message) bool {
						heard++
						return heard%10 == 0
					}
				})
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					full[s] = full[s] || overflowed(e)
					swaps := full[s]
					mu.Unlock()
					if swaps {
						swap(ctx, s, e)
						return
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// overflowed reports whether an event tells of an overflow.
func overflowed(e backplane.Event) bool {
	g, ok := e.(*backplane.Gap)
	return ok && g.Cause == backplane.GapOverflow
}

// onOverflow calls late with the gap of an overflow and the event that comes after it.
func (n *Node) onOverflow(
	late func(ctx context.Context, s *Sub, gap, next backplane.Event),
) func(context.Context, *Sub, backplane.Event) {
	var mu sync.Mutex
	held := map[*Sub]backplane.Event{}
	return func(ctx context.Context, s *Sub, e backplane.Event) {
		mu.Lock()
		gap := held[s]
		delete(held, s)
		if gap == nil && overflowed(e) {
			held[s] = e
			mu.Unlock()
			return
		}
		mu.Unlock()
		if gap != nil {
			late(ctx, s, gap, e)
			return
		}
		s.handler(ctx, e)
	}
}
