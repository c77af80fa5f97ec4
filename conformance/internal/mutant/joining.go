package mutant

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

// crowds are mutants whose Subscribe is a barrier as long as nothing else happens at the same time.
func crowds() []Mutant {
	return []Mutant{
		{
			Name: "joins-the-round-under-way", Breaks: "subscribe/crowd",
			Defect: "a Subscribe that begins while another one is under way returns with it, and others' messages are heard a little later.",
			Seen:   "barriers that are shared to save round trips, by who came after the question was sent as well",
			world: each(func(n *Node) {
				var under atomic.Int64
				var early sync.Map
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					shares := under.Add(1) > 1
					defer under.Add(-1)
					pause(time.Millisecond) // the round
					s, err := n.subscribeHealthy(ctx, to, h)
					if err == nil && shares {
						early.Store(s, true)
					}
					return s, err
				}
				n.deliver = n.deafFor(func(s *Sub, m *backplane.Message) bool {
					_, is := early.Load(s)
					return is && m.Publisher != n.ID()
				})
			}),
		},
		{
			Name: "knows-what-was", Breaks: "subscribe/newcomer",
			Defect: "for a second a newcomer sends nothing to subscriptions that were made shortly before it was opened.",
			Seen:   "nats-io/nats-server#439: a server that was just started takes publishes before it knows the others' interest",
			world: func(w *World) func(*Node) {
				order := &sequence{last: map[any]moment{}}
				return func(n *Node) {
					order.note(n)
					order.subscribing(n)
					n.unheard(func(s *Sub, by *Node) bool {
						opened := order.of(by)
						return order.of(s).before(opened) && time.Since(opened.at) < time.Second
					})
				}
			},
		},
		{
			Name: "waits-for-the-frozen", Defect: "while an instance hangs no other one can subscribe.", Breaks: "subscribe/silent-member",
			Seen: "a barrier that all known members have to answer",
			world: func(*World) func(*Node) {
				frozen := &gateway{}
				return func(n *Node) {
					n.faults = frozen.whileHung()
					n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
						select {
						case <-frozen.open():
							return n.subscribeHealthy(ctx, to, h)
						case <-ctx.Done():
							return nil, refused("subscribe", to, errors.Join(backplane.ErrUnavailable, context.Cause(ctx)))
						}
					}
				}
			},
		},
		{
			Name: "gave-up-and-stays", Breaks: "subscribe/silent-member",
			Defect: "a Subscribe that gives up while an instance hangs returns its error, and the subscription stays.",
			world: func(*World) func(*Node) {
				frozen := &gateway{}
				return func(n *Node) {
					n.faults = frozen.whileHung()
					n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
						s, err := n.subscribeHealthy(context.WithoutCancel(ctx), to, h)
						deadline, _ := ctx.Deadline()
						select {
						case <-frozen.open():
							return s, err
						default:
						}
						if err != nil || time.Until(deadline) > time.Second {
							return s, err
						}
						return nil, refused("subscribe", to, errors.Join(backplane.ErrUnavailable, context.DeadlineExceeded))
					}
				}
			},
		},
	}
}

// comebacks are mutants that go on after an outage with what they knew before it.
func comebacks() []Mutant {
	return []Mutant{
		{
			Name: "knows-who-was-there", Breaks: "link/first-words",
			Defect: "for a second after an outage an instance sends nothing to subscriptions of others that were made during it, and no gap tells them.",
			Seen:   "members that are taken back as if nothing had happened",
			world: func(w *World) func(*Node) {
				order := &sequence{last: map[any]moment{}}
				return func(n *Node) {
					n.faults = func(f Faults) Faults {
						cut, heal := f.Cut, f.Heal
						f.Cut = func() { cut(); order.note(n) }
						f.Heal = func() { heal(); order.note(away{n}) }
						return f
					}
					order.subscribing(n)
					n.unheard(func(s *Sub, by *Node) bool {
						cut, joined, back := order.of(by), order.of(s), order.of(away{by})
						return cut.before(joined) && joined.before(back) && time.Since(back.at) < time.Second
					})
				}
			},
		},
		{
			Name: "servers-learn-late", Breaks: "restart/first-words",
			Defect: "for a minute after a restart of the broker others' messages to a new subscription are heard from 20 ms on.",
			Seen:   "nats-io/nats-server#439: interest is announced anew behind the first publishes",
			world: func(w *World) func(*Node) {
				var restarted atomic.Int64
				w.restart = func() { restarted.Store(time.Now().UnixNano()) }
				return func(n *Node) {
					n.deliver = n.deafFor(func(s *Sub, m *backplane.Message) bool {
						return m.Publisher != n.ID() && time.Since(time.Unix(0, restarted.Load())) < time.Minute
					})
				}
			},
		},
	}
}

// clusters are transports over a broker of several servers that do not say so when it matters.
func clusters() []Mutant {
	return []Mutant{
		{
			Name: "cluster-passes-for-one-server", Breaks: "subscribe/barrier-remote", Cluster: true,
			Defect: "the broker is a cluster, and Clustered does not say so.",
			Also:   []string{"deliver/once", "order/per-publisher"},
			Seen:   "107 of 2,000 messages were lost behind a flush of the subscriber, in a cluster of two NATS servers",
			carry:  carried(func(c *carrier) { c.clustered = func() bool { return false } }),
		},
		{
			Name: "newcomer-is-not-asked-about", Breaks: "subscribe/newcomer", Cluster: true,
			Defect: "the broker is a cluster, and Clustered says so only from a connection's first subscriptions on.",
			Also:   []string{"deliver/once", "order/per-publisher"}, // the usual instances are newcomers as well
			Seen:   "a client library that learns of the cluster from a message that follows the connect",
			carry: carried(func(c *carrier) {
				var asked atomic.Bool // since the connect
				dial, clustered := c.connect, c.clustered
				c.connect = func(ctx context.Context) error {
					asked.Store(false)
					return dial(ctx)
				}
				c.clustered = func() bool { return asked.Swap(true) && clustered() }
			}),
		},
	}
}

// away stands for the return of a node, in a sequence.
type away struct{ n *Node }

// sequence knows in which order things happened.
type sequence struct {
	mu    sync.Mutex
	count int            // guarded by mu
	last  map[any]moment // guarded by mu; when each happened last
}

// moment is when something happened. In a bubble much happens at the same time, and yet in an order.
type moment struct {
	place int // 0: never
	at    time.Time
}

func (m moment) before(other moment) bool { return m.place > 0 && m.place < other.place }

func (s *sequence) note(what any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	s.last[what] = moment{s.count, time.Now()}
}

func (s *sequence) of(what any) moment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last[what]
}

// subscribing notes each subscription of an instance.
func (s *sequence) subscribing(n *Node) {
	n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
		sub, err := n.subscribeHealthy(ctx, to, h)
		if err == nil {
			s.note(sub)
		}
		return sub, err
	}
}

// unheard makes the subscriptions of an instance deaf to what matches, of other instances.
func (n *Node) unheard(match func(s *Sub, by *Node) bool) {
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
		if m, ok := message(e); ok && m.Publisher != n.ID() && match(s, n.world.node(m.Publisher)) {
			return
		}
		s.handler(ctx, e)
	}
}

// node returns the node with an id, nil if there is none.
func (w *World) node(id backplane.NodeID) *Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		if n.Node.ID() == id {
			return n
		}
	}
	return nil
}

// gateway is closed while an instance hangs.
type gateway struct {
	mu sync.Mutex
	ch chan struct{} // guarded by mu; nil while nobody hangs
}

// open returns a channel that is closed while nobody hangs.
func (g *gateway) open() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ch != nil {
		return g.ch
	}
	closed := make(chan struct{})
	close(closed)
	return closed
}

// whileHung closes the gateway while the instance hangs.
func (g *gateway) whileHung() func(Faults) Faults {
	return func(f Faults) Faults {
		hang, heal := f.Hang, f.Heal
		f.Hang = func() {
			g.mu.Lock()
			if g.ch == nil {
				g.ch = make(chan struct{})
			}
			g.mu.Unlock()
			hang()
		}
		f.Heal = func() {
			heal()
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.ch != nil {
				close(g.ch)
				g.ch = nil
			}
		}
		return f
	}
}
