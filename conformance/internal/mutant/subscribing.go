package mutant

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

func subscribing() []Mutant {
	return []Mutant{
		{
			Name: "late-subscribe", Defect: "Subscribe returns before the broker knows.", Breaks: "subscribe/barrier",
			Seen: "nats-io/nats.rs#1274, nats-io/nats-server#2876", Also: []string{"deliver/once", "order/per-publisher"},
			world: each(func(n *Node) {
				n.deliver = n.deafFor(func(*Sub, *backplane.Message) bool { return true })
			}),
		},
		{
			Name: "local-barrier", Defect: "after Subscribe own publishes are heard, and those of others a little later.", Breaks: "subscribe/barrier-remote",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "nats-io/nats-server#2150: a cluster's other servers learn of the subscription later",
			world: each(func(n *Node) {
				n.deliver = n.deafFor(func(s *Sub, m *backplane.Message) bool { return m.Publisher != s.n.ID() })
			}),
		},
		{
			Name: "double-doubles", Defect: "a second subscription to an address doubles what each hears.", Breaks: "subscribe/twice",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					for range n.beside(s) {
						s.handler(ctx, e)
					}
				}
			}),
		},
		{
			Name: "unsubscribe-all", Defect: "the end of one subscription ends all of the instance to that address.", Breaks: "subscribe/independent",
			Seen: "SignalR has a test for it",
			world: each(func(n *Node) {
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					n.deafen(s.to)
					return s.healthy.Close(ctx)
				}
			}),
		},
		{
			Name: "racing-subscribe", Defect: "a Subscribe during an unsubscribe of the same address gets lost.", Breaks: "subscribe/churn",
			world: each(func(n *Node) {
				var mu sync.Mutex
				leaving := map[backplane.Address]int{}
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					mu.Lock()
					leaving[s.to]++
					mu.Unlock()
					pause(time.Millisecond) // on its way to the broker
					mu.Lock()
					leaving[s.to]--
					mu.Unlock()
					return s.healthy.Close(ctx)
				}
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					mu.Lock()
					lost := leaving[to] > 0
					mu.Unlock()
					s, err := n.subscribeHealthy(ctx, to, h)
					if err == nil && lost {
						s.deaf.Store(true)
					}
					return s, err
				}
			}),
		},
		{
			Name: "unsubscribe-overtaken", Defect: "an unsubscribe reaches the broker after the next subscribe of the address.", Breaks: "subscribe/again",
			Seen: "socketio/socket.io#950",
			world: each(func(n *Node) {
				var mu sync.Mutex
				pending := map[backplane.Address]bool{}
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					mu.Lock()
					pending[s.to] = true
					mu.Unlock()
					return s.healthy.Close(ctx)
				}
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					s, err := n.subscribeHealthy(ctx, to, h)
					mu.Lock()
					defer mu.Unlock()
					if err == nil && pending[to] {
						delete(pending, to)
						s.deaf.Store(true)
					}
					return s, err
				}
			}),
		},
		{
			Name: "limit-of-subscriptions", Defect: "from the 4,096th on, subscriptions are not made, and nobody is told.", Breaks: "subscribe/many",
			world: each(func(n *Node) {
				var made atomic.Int64
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					s, err := n.subscribeHealthy(ctx, to, h)
					if err == nil && made.Add(1) > 4096 {
						s.deaf.Store(true)
					}
					return s, err
				}
			}),
		},
	}
}

// unsubscribing are mutants that do not end what they should, or too much.
func unsubscribing() []Mutant {
	return []Mutant{
		{
			Name: "unsubscribe-does-not-wait", Defect: "Close of a subscription returns while its handler runs.", Breaks: "unsubscribe/barrier",
			world: each(func(n *Node) {
				n.unsubscribe = func(_ context.Context, s *Sub) error {
					now, cancel := context.WithCancel(context.Background())
					cancel()
					_ = s.healthy.Close(now) // its error is that it did not wait
					return nil
				}
			}),
		},
		{
			Name: "unsubscribe-noop", Defect: "Close of a subscription does nothing.", Breaks: "unsubscribe/barrier",
			world: each(func(n *Node) {
				n.unsubscribe = func(context.Context, *Sub) error { return nil }
			}),
		},
		{
			Name: "close-counts-twice", Defect: "a second Close of a subscription ends another one of its address.", Breaks: "unsubscribe/again-is-noop",
			world: each(func(n *Node) {
				var mu sync.Mutex
				closed := map[*Sub]bool{}
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					mu.Lock()
					again := closed[s]
					closed[s] = true
					mu.Unlock()
					if again {
						n.deafen(s.to)
					}
					return s.healthy.Close(ctx)
				}
			}),
		},
		{
			Name: "second-close-fails", Defect: "a second Close of a subscription is an error.", Breaks: "unsubscribe/again-is-noop",
			world: each(func(n *Node) {
				var mu sync.Mutex
				closed := map[*Sub]bool{}
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					mu.Lock()
					defer mu.Unlock()
					if closed[s] {
						return refused("unsubscribe", s.to, backplane.ErrClosed)
					}
					closed[s] = true
					return s.healthy.Close(ctx)
				}
			}),
		},
	}
}

// deafFor misses, in the first 20 ms of a subscription, the messages that match.
func (n *Node) deafFor(match func(*Sub, *backplane.Message) bool) func(context.Context, *Sub, backplane.Event) {
	return func(ctx context.Context, s *Sub, e backplane.Event) {
		if m, ok := message(e); ok && time.Since(s.born) < 20*time.Millisecond && match(s, m) {
			return
		}
		s.handler(ctx, e)
	}
}

// beside returns the open subscriptions of the instance to the same address, this one included.
func (n *Node) beside(s *Sub) []*Sub {
	return n.world.openSubs(func(o *Sub) bool { return o.n == n && o.to == s.to })
}

// deafen makes the instance's open subscriptions to an address deaf.
func (n *Node) deafen(to backplane.Address) {
	for _, s := range n.world.openSubs(func(s *Sub) bool { return s.n == n && s.to == to }) {
		s.deaf.Store(true)
	}
}
