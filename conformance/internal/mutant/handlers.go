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
			Also: []string{"deliver/once", "order/per-publisher"},
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
			Name: "swallows-panics", Defect: "a handler's panic is recovered, and the next event is handled.", Breaks: "handler/panic",
			Seen: "recover middleware around message handlers",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					defer func() { _ = recover() }()
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "panics-elsewhere", Defect: "a handler's panic is recovered and thrown again by another goroutine.", Breaks: "handler/panic",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					defer func() {
						if what := recover(); what != nil {
							go panic(what)
							<-ctx.Done()
						}
					}()
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "panic-ends-the-loop", Defect: "a handler's panic ends the goroutine that called it, and nothing else.", Breaks: "handler/panic",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					defer func() {
						if recover() != nil {
							s.deaf.Store(true)
						}
					}()
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
