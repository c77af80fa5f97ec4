package mutant

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

func delivery() []Mutant {
	return []Mutant{
		{
			Name: "drop-rare", Defect: "one message in 500 is lost.", Breaks: "deliver/once", Full: true,
			world: each(func(n *Node) {
				var heard atomic.Int64
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if heard.Add(1)%500 != 0 {
						s.handler(ctx, e)
					}
				}
			}),
		},
		{
			Name: "repeat-always", Defect: "every message is delivered twice.", Breaks: "deliver/once",
			Also: []string{"order/per-publisher"},
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					s.handler(ctx, e)
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "compete", Defect: "instances share a queue, and each message reaches one of them.", Breaks: "deliver/every-instance",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "NATS queue groups",
			world: func(*World) func(*Node) {
				var mu sync.Mutex
				taken := map[string]*Node{} // by payload
				return func(n *Node) {
					n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
						if m, ok := message(e); ok {
							mu.Lock()
							if taken[string(m.Payload)] == nil {
								taken[string(m.Payload)] = n
							}
							mine := taken[string(m.Payload)] == n
							mu.Unlock()
							if !mine {
								return
							}
						}
						s.handler(ctx, e)
					}
				}
			},
		},
		{
			Name: "one-handler", Defect: "a second subscription to an address takes the place of the first.", Breaks: "deliver/every-instance",
			world: each(func(n *Node) {
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					for _, s := range n.world.openSubs(func(s *Sub) bool { return s.n == n && s.to == to }) {
						s.deaf.Store(true)
					}
					return n.subscribeHealthy(ctx, to, h)
				}
			}),
		},
		{
			Name: "promiscuous", Defect: "subscriptions hear what was published to other addresses.", Breaks: "deliver/only-subscribed",
			world: each(func(n *Node) {
				n.publish = n.publishAlso(func(backplane.Address, backplane.Address) bool { return true })
			}),
		},
		{
			Name: "no-self", Defect: "the publishing instance does not hear itself.", Breaks: "deliver/self",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "NATS connections with NoEcho",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if m, ok := message(e); !ok || m.Publisher != n.ID() {
						s.handler(ctx, e)
					}
				}
			}),
		},
		{
			Name: "echo-twice", Defect: "the publishing instance delivers at once, and again when the broker's echo comes.", Breaks: "deliver/self",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "socketio/socket.io-redis-adapter#124, #477",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if m, ok := message(e); ok && m.Publisher == n.ID() {
						s.handler(ctx, e)
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// traces are mutants that tell or keep what they should not.
func traces() []Mutant {
	return []Mutant{
		{
			Name: "history-leak", Defect: "a new subscription first gets the last message of the address.", Breaks: "deliver/no-history",
			Seen: "MQTT retained messages",
			world: func(*World) func(*Node) {
				var mu sync.Mutex
				last := map[at]*backplane.Message{}
				return func(n *Node) {
					n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
						err := n.Node.Publish(ctx, to, payload)
						mu.Lock()
						defer mu.Unlock()
						last[n.at(to)] = &backplane.Message{Address: to, Publisher: n.ID(), Payload: append([]byte{}, payload...)}
						return err
					}
					n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
						mu.Lock()
						m := last[n.at(to)]
						mu.Unlock()
						if m != nil {
							h(ctx, m)
						}
						return n.subscribeHealthy(ctx, to, h)
					}
				}
			},
		},
		{
			Name: "goroutine-for-each-address", Defect: "publishing leaves a goroutine behind for each address.", Breaks: "deliver/nobody",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					go pause(time.Minute)
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
		{
			Name: "wrong-origin", Defect: "messages carry the id of the instance that relays them.", Breaks: "deliver/origin",
			Also: []string{"deliver/once", "order/per-publisher"},
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if m, ok := message(e); ok {
						e = &backplane.Message{Address: m.Address, Publisher: n.ID(), Payload: m.Payload}
					}
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "scope-lost", Defect: "messages do not tell the scope of their address.", Breaks: "deliver/origin",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if m, ok := message(e); ok {
						e = &backplane.Message{Address: without(m.Address), Publisher: m.Publisher, Payload: m.Payload}
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// loads are mutants that only much traffic shows.
func loads() []Mutant {
	return []Mutant{
		{
			Name: "drop-under-load", Defect: "with more than 16 publishes at once, the rest is reported as done and dropped.", Breaks: "deliver/crowd",
			Seen: "redis/go-redis#2267: a full channel drops messages; redpanda-data/connect#4284",
			world: func(*World) func(*Node) {
				var underWay atomic.Int64
				return func(n *Node) {
					n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
						defer underWay.Add(-1)
						full := underWay.Add(1) > 16
						pause(time.Millisecond) // on its way to the broker
						if full {
							return nil
						}
						return n.Node.Publish(ctx, to, payload)
					}
				}
			},
		},
		{
			Name: "numbers-wrap", Defect: "the 32,768th message of a publisher counts as an old one.", Breaks: "deliver/volume",
			Seen: "a counter of 15 bits and a sign",
			world: each(func(n *Node) {
				n.deliver = func() func(context.Context, *Sub, backplane.Event) {
					var heard atomic.Int64
					return func(ctx context.Context, s *Sub, e backplane.Event) {
						if heard.Add(1) != 1<<15 {
							s.handler(ctx, e)
						}
					}
				}()
			}),
		},
	}
}

// publishAlso publishes, and again to every other address that somebody of the namespace subscribed to and that matches.
func (n *Node) publishAlso(match func(subscribed, published backplane.Address) bool) func(context.Context, backplane.Address, []byte) error {
	return func(ctx context.Context, to backplane.Address, payload []byte) error {
		if err := n.Node.Publish(ctx, to, payload); err != nil {
			return err
		}
		also := map[backplane.Address]bool{}
		for _, s := range n.world.openSubs(func(s *Sub) bool { return s.n.Namespace() == n.Namespace() && s.to != to && match(s.to, to) }) {
			also[s.to] = true
		}
		for a := range also {
			if err := n.Node.Publish(ctx, a, payload); err != nil {
				return err
			}
		}
		return nil
	}
}

// without returns an address without its scope.
func without(a backplane.Address) backplane.Address { return withKind(a.Kind(), a.Name()) }

func withKind(k backplane.Kind, name string) backplane.Address {
	switch k {
	case backplane.KindGroup:
		return backplane.Group(name)
	case backplane.KindUser:
		return backplane.User(name)
	case backplane.KindConnection:
		return backplane.Connection(name)
	case backplane.KindInbox:
		return backplane.Inbox(backplane.NodeID(name))
	default:
		return backplane.All()
	}
}
