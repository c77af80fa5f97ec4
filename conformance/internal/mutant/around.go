package mutant

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/gobackplane/backplane"
)

// around are mutants for which an outage is more, or less, than it is.
func around() []Mutant {
	return []Mutant{
		{
			Name: "one-for-all", Defect: "when one instance is cut off, all are told of a gap.", Breaks: "link/others",
			world: func(w *World) func(*Node) {
				var mu sync.Mutex
				owed := map[*Sub]bool{} // a gap, before its next event
				return func(n *Node) {
					n.faults = func(f Faults) Faults {
						heal := f.Heal
						f.Heal = func() {
							heal()
							mu.Lock()
							defer mu.Unlock()
							for _, s := range w.openSubs(func(s *Sub) bool { return s.n != n }) {
								owed[s] = true
							}
						}
						return f
					}
					n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
						mu.Lock()
						gap := owed[s]
						delete(owed, s)
						mu.Unlock()
						if gap {
							s.handler(ctx, &backplane.Gap{Address: s.to, Cause: backplane.GapLink})
						}
						s.handler(ctx, e)
					}
				}
			},
		},
		{
			Name: "waits-for-the-missing", Defect: "nobody hears anything while somebody is cut off.", Breaks: "link/others",
			world: func(*World) func(*Node) {
				var mu sync.Mutex
				whole := make(chan struct{}) // closed while nobody is cut off
				close(whole)
				return func(n *Node) {
					n.faults = func(f Faults) Faults {
						cut, heal := f.Cut, f.Heal
						f.Cut = func() {
							mu.Lock()
							whole = make(chan struct{})
							mu.Unlock()
							cut()
						}
						f.Heal = func() {
							heal()
							mu.Lock()
							close(whole)
							mu.Unlock()
						}
						return f
					}
					n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
						mu.Lock()
						wait := whole
						mu.Unlock()
						select {
						case <-wait:
							s.handler(ctx, e)
						case <-ctx.Done():
						}
					}
				}
			},
		},
	}
}

// told are mutants whose health is not told as it is.
func told() []Mutant {
	return []Mutant{
		{
			Name: "state-lies", Defect: "health is up once it has been up.", Breaks: "link/state",
			world: each(func(n *Node) {
				n.onHealth = func(f func(backplane.Health)) (stop func()) {
					return n.Node.OnHealth(func(h backplane.Health) {
						if h.State == backplane.Up {
							f(h)
						}
					})
				}
			}),
		},
		{
			Name: "state-twice", Defect: "each change of health is told twice.", Breaks: "link/state",
			world: each(func(n *Node) {
				n.onHealth = func(f func(backplane.Health)) (stop func()) {
					return n.Node.OnHealth(func(h backplane.Health) {
						f(h)
						f(h)
					})
				}
			}),
		},
		{
			Name: "down-once", Defect: "health that was down and up again is not told to be down a second time.", Breaks: "link/state",
			world: each(func(n *Node) {
				n.onHealth = func(f func(backplane.Health)) (stop func()) {
					var ups int
					return n.Node.OnHealth(func(h backplane.Health) {
						if h.State == backplane.Up {
							ups++
						}
						if ups < 2 {
							f(h)
						}
					})
				}
			}),
		},
	}
}

// returns are mutants that come back from an outage with too much or too little.
func returns() []Mutant {
	return []Mutant{
		{
			Name: "comes-back", Defect: "a subscription that is closed while the link is down is restored with it.", Breaks: "link/unsubscribe-down",
			world: each(func(n *Node) {
				down := n.whileCut()
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					if down() {
						return nil
					}
					return s.healthy.Close(ctx)
				}
			}),
		},
		{
			Name: "unsubscribe-asks-the-broker", Defect: "a subscription cannot be closed while the link is down.", Breaks: "link/unsubscribe-down",
			world: each(func(n *Node) {
				down := n.whileCut()
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					if down() {
						return refused("unsubscribe", s.to, backplane.ErrUnavailable)
					}
					return s.healthy.Close(ctx)
				}
			}),
		},
		{
			Name: "reconnect-leak", Defect: "each new connection leaves a goroutine behind.", Breaks: "link/flapping",
			world: each(func(n *Node) {
				closed := make(chan struct{})
				healthy := n.close
				n.close = func(ctx context.Context) error {
					select {
					case <-closed:
					default:
						close(closed)
					}
					return healthy(ctx)
				}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if isGap(e) {
						go func() { <-closed }()
					}
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "gives-up", Defect: "after two reconnects there is no third.", Breaks: "link/flapping",
			Seen: "a limit on reconnects that counts over the life of a client",
			world: each(func(n *Node) {
				var gaps atomic.Int64
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if isGap(e) {
						gaps.Add(1)
					}
					if gaps.Load() <= 2 {
						s.handler(ctx, e)
					}
				}
			}),
		},
	}
}

// whileCut tells whether the instance's link is cut.
func (n *Node) whileCut() func() bool {
	var down atomic.Bool
	n.faults = func(f Faults) Faults {
		cut, heal := f.Cut, f.Heal
		f.Cut = func() { cut(); down.Store(true) }
		f.Heal = func() { down.Store(false); heal() }
		return f
	}
	return down.Load
}
