package mutant

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/gobackplane/backplane"
)

// onTheSecondTime are defects that show the second time, or with the second of a kind, by a maker of buses who had not
// seen the suite.
func onTheSecondTime() []Mutant {
	return []Mutant{
		{
			Name: "user-has-one-home", Defect: "what is sent to a user is heard by the instance that subscribed to the user last.",
			Breaks: "deliver/every-instance", Seen: "a directory from user to instance, made for users who have one connection",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if s.to.Kind() == backplane.KindUser && !isGap(e) {
						all := n.world.openSubs(func(o *Sub) bool { return o.n.Namespace() == n.Namespace() && o.to == s.to })
						if len(all) > 0 && all[len(all)-1].n != n {
							return
						}
					}
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "overflow-told-once", Defect: "a subscription is told of its first overflow, and of no later one.", Breaks: "pressure/recovers",
			Seen: "nats.go reports a slow consumer once; a mark that is not taken away when the queue is empty again",
			world: each(func(n *Node) {
				var mu sync.Mutex
				told := map[*Sub]bool{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if g, ok := e.(*backplane.Gap); ok && g.Cause == backplane.GapOverflow {
						mu.Lock()
						again := told[s]
						told[s] = true
						mu.Unlock()
						if again {
							return
						}
					}
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "one-listener", Defect: "a second listener to health takes the place of the first.", Breaks: "link/state",
			Seen: "nats.go: SetDisconnectErrHandler and its like hold one function",
			world: each(func(n *Node) {
				var newest atomic.Int64
				n.onHealth = func(f func(backplane.Health)) (stop func()) {
					mine := newest.Add(1)
					return n.Node.OnHealth(func(h backplane.Health) {
						if newest.Load() == mine {
							f(h)
						}
					})
				}
			}),
		},
		{
			Name: "published-while-closing", Defect: "what is published while Close waits for a handler is reported as done, and lost.", Breaks: "close/busy",
			Seen: "a queue that takes messages until Close returns, and a sender that ends when Close begins",
			world: each(func(n *Node) {
				var closing atomic.Bool
				n.close = func(ctx context.Context) error {
					closing.Store(true)
					defer closing.Store(false)
					return n.Node.Close(ctx)
				}
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if closing.Load() && ctx.Err() == nil && to.Validate() == nil && len(payload) <= n.MaxPayload() {
						return nil
					}
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
	}
}
