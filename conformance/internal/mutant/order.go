package mutant

import (
	"context"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

func order() []Mutant {
	return []Mutant{
		{
			Name: "publish-pool", Defect: "publishes go over a pool of connections, each with its own pace.", Breaks: "order/per-publisher",
			Also: []string{"deliver/once"},
			Seen: "go-redis publishes over a pool",
			world: each(func(n *Node) {
				var k int
				n.publish = n.publishLater(func([]byte) time.Duration {
					k++
					return time.Duration(k%3) * time.Millisecond
				})
			}),
		},
		{
			Name: "swap-neighbours", Defect: "each second message is delivered before the one in front of it.", Breaks: "order/per-publisher",
			Also: []string{"deliver/once"},
			Seen: "watermill's gochannel delivers each message on a goroutine of its own",
			world: each(func(n *Node) {
				n.deliver = overtaking(1, func() func(*Sub, *backplane.Message) bool {
					k := 0
					return func(*Sub, *backplane.Message) bool {
						k++
						return k%2 == 1
					}
				})
			}),
		},
		{
			Name: "large-are-slow", Defect: "payloads above 32 KiB are sent by a goroutine that compresses them.", Breaks: "order/sizes",
			world: each(func(n *Node) {
				n.publish = n.publishLater(func(payload []byte) time.Duration {
					if len(payload) > 32<<10 {
						return time.Millisecond
					}
					return 0
				})
			}),
		},
		{
			Name: "publishers-collide", Defect: "with several publishers, some messages are overtaken by eight others.", Breaks: "order/interleaved",
			Also: []string{"deliver/once"},
			world: each(func(n *Node) {
				n.deliver = overtaking(8, func() func(*Sub, *backplane.Message) bool {
					heard := map[backplane.NodeID]int{}
					return func(_ *Sub, m *backplane.Message) bool {
						heard[m.Publisher]++
						return len(heard) > 1 && heard[m.Publisher]%16 == 1
					}
				})
			}),
		},
		{
			Name: "addresses-collide", Defect: "when addresses take turns, a message is overtaken by the next one of its address.", Breaks: "order/addresses",
			Seen: "a pool of workers that share all addresses",
			world: each(func(n *Node) {
				var mu sync.Mutex
				var last backplane.Address
				n.deliver = overtaking(1, func() func(*Sub, *backplane.Message) bool {
					return func(_ *Sub, m *backplane.Message) bool {
						mu.Lock()
						defer mu.Unlock()
						turn := last != m.Address && last != backplane.Address{}
						last = m.Address
						return turn
					}
				})
			}),
		},
	}
}

// drained are mutants that deliver what an old connection still carried.
func drained() []Mutant {
	return []Mutant{
		{
			Name: "old-connection-lives", Defect: "what was under way when a link failed arrives after what was sent on the next.", Breaks: "order/after-heal",
			Seen: "a proxy that still drains the old connection",
			world: each(func(n *Node) {
				var mu sync.Mutex
				var underWay backplane.Event // what the failing link still carries
				failing := false
				n.faults = func(f Faults) Faults {
					cut := f.Cut
					f.Cut = func() {
						mu.Lock()
						failing = true
						mu.Unlock()
						for range 100 { // until it carries something
							pause(time.Millisecond)
							mu.Lock()
							carries := underWay != nil
							mu.Unlock()
							if carries {
								break
							}
						}
						cut()
					}
					return f
				}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					old := underWay
					switch {
					case isGap(e): // the next link works
						failing, old = false, nil
					case failing && old == nil:
						underWay = e
						mu.Unlock()
						return
					case failing:
						old = nil
					default:
						underWay = nil
					}
					mu.Unlock()
					s.handler(ctx, e)
					if old != nil {
						s.handler(ctx, old)
					}
				}
			}),
		},
	}
}

// publishLater reports messages as taken and sends them after a time of their own.
func (n *Node) publishLater(later func(payload []byte) time.Duration) func(context.Context, backplane.Address, []byte) error {
	var mu sync.Mutex
	var sending sync.WaitGroup
	healthy := n.close
	n.close = func(ctx context.Context) error {
		sending.Wait()
		return healthy(ctx)
	}
	return func(ctx context.Context, to backplane.Address, payload []byte) error {
		mu.Lock()
		d := later(payload)
		mu.Unlock()
		if d == 0 {
			return n.Node.Publish(ctx, to, payload)
		}
		payload = append([]byte{}, payload...)
		sending.Go(func() {
			pause(d)
			_ = n.Node.Publish(context.WithoutCancel(ctx), to, payload) // the defect: nobody is told
		})
		return nil
	}
}

// overtaking delivers the messages for which a subscription's slow says true after some more of their publisher.
func overtaking(by int, slow func() func(*Sub, *backplane.Message) bool) func(context.Context, *Sub, backplane.Event) {
	type state struct {
		slow func(*Sub, *backplane.Message) bool
		held map[backplane.NodeID]backplane.Event
		left map[backplane.NodeID]int // that overtake yet
	}
	var mu sync.Mutex
	states := map[*Sub]*state{}
	return func(ctx context.Context, s *Sub, e backplane.Event) {
		mu.Lock()
		st := states[s]
		if st == nil {
			st = &state{slow: slow(), held: map[backplane.NodeID]backplane.Event{}, left: map[backplane.NodeID]int{}}
			states[s] = st
		}
		mu.Unlock()
		m, ok := message(e)
		if !ok {
			s.handler(ctx, e)
			return
		}
		held := st.held[m.Publisher]
		if st.slow(s, m) && held == nil {
			st.held[m.Publisher], st.left[m.Publisher] = e, by
			return
		}
		s.handler(ctx, e)
		if st.left[m.Publisher]--; held != nil && st.left[m.Publisher] == 0 {
			delete(st.held, m.Publisher)
			s.handler(ctx, held)
		}
	}
}
