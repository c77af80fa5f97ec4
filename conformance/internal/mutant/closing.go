package mutant

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

func closing() []Mutant {
	return []Mutant{
		{
			Name: "close-does-not-wait", Defect: "Close returns while handlers run.", Breaks: "close/barrier",
			world: each(func(n *Node) {
				n.close = func(context.Context) error {
					now, cancel := context.WithCancel(context.Background())
					cancel()
					_ = n.Node.Close(now) // its error is that it did not wait
					return nil
				}
			}),
		},
		{
			Name: "second-close", Defect: "a second Close of an instance is an error.", Breaks: "close/idempotent",
			world: each(func(n *Node) {
				var closed atomic.Bool
				n.close = func(ctx context.Context) error {
					if closed.Swap(true) {
						return refused("close", backplane.Address{}, backplane.ErrClosed)
					}
					return n.Node.Close(ctx)
				}
			}),
		},
		{
			Name: "publish-after-close", Defect: "Publish on a closed instance is reported as done.", Breaks: "close/after",
			Seen: "ThreeDotsLabs/watermill: not noticed by its own suite",
			world: each(func(n *Node) {
				var closed atomic.Bool
				n.close = func(ctx context.Context) error {
					closed.Store(true)
					return n.Node.Close(ctx)
				}
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if closed.Load() {
						return nil
					}
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
		{
			Name: "close-hangs", Defect: "Close waits for a handler for as long as it takes.", Breaks: "close/busy",
			world: each(func(n *Node) {
				n.close = func(ctx context.Context) error { return n.Node.Close(context.WithoutCancel(ctx)) }
			}),
		},
		{
			Name: "close-takes-all", Defect: "the end of an instance ends the subscriptions of the others to its addresses.", Breaks: "close/alone",
			Seen: "instances that share a subscription at the broker",
			world: each(func(n *Node) {
				n.close = func(ctx context.Context) error {
					for _, mine := range n.world.openSubs(func(s *Sub) bool { return s.n == n }) {
						for _, s := range n.world.openSubs(func(s *Sub) bool { return s.to == mine.to }) {
							s.deaf.Store(true)
						}
					}
					return n.Node.Close(ctx)
				}
			}),
		},
		{
			Name: "goodbye-is-a-gap", Defect: "the others tell of a gap whenever an instance leaves.", Breaks: "close/alone",
			world: each(func(n *Node) {
				n.close = func(ctx context.Context) error {
					err := n.Node.Close(ctx)
					for _, s := range n.world.openSubs(func(s *Sub) bool { return s.n != n }) {
						s.leaver.Store(true)
					}
					return err
				}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if s.leaver.Swap(false) {
						s.handler(ctx, &backplane.Gap{Address: s.to, Cause: backplane.GapMember, Since: time.Now()})
					}
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "leaking-goroutine", Defect: "each subscription leaves a goroutine behind.", Breaks: "close/clean",
			world: each(func(n *Node) {
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					go pause(time.Hour)
					return n.subscribeHealthy(ctx, to, h)
				}
			}),
		},
		{
			Name: "open-leaks", Defect: "an Open that fails leaves a goroutine behind.", Breaks: "open/fails-clean",
			open: func(open Opener) Opener {
				return func(ctx context.Context, in Instance) (*backplane.Node, error) {
					n, err := open(ctx, in)
					if err != nil {
						go pause(time.Hour)
					}
					return n, err
				}
			},
		},
	}
}
