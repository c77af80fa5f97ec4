package mutant

import (
	"context"
	"sync"

	"github.com/gobackplane/backplane"
)

func handlers() []Mutant {
	return []Mutant{
		{
			Name: "concurrent-handler", Defect: "each event is handled by a goroutine of its own.", Breaks: "handler/serial", Full: true,
			Seen: "watermill's gochannel",
			world: each(func(n *Node) {
				var running sync.WaitGroup
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					running.Go(func() { s.handler(ctx, e) })
				}
				n.close = func(ctx context.Context) error {
					err := n.Node.Close(ctx)
					running.Wait()
					return err
				}
			}),
		},
		{
			Name: "head-of-line", Defect: "one goroutine calls all handlers of an instance.", Breaks: "handler/stalls-only-itself",
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
			Name: "lock-held", Defect: "a lock is held while a handler runs that Publish needs, too.", Breaks: "handler/reentrant",
			world: each(func(n *Node) {
				lock := make(chan struct{}, 1)
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					select {
					case lock <- struct{}{}:
					case <-ctx.Done():
						return
					}
					defer func() { <-lock }()
					s.handler(ctx, e)
				}
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					select {
					case lock <- struct{}{}:
						<-lock
					case <-ctx.Done():
						return refused("publish", to, backplane.ErrUnavailable)
					}
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
	}
}
