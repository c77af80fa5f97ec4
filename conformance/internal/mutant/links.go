package mutant

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

func links() []Mutant {
	return []Mutant{
		{
			Name: "own-dialer", Defect: "the instance dials by itself, so that nobody can make its link fail.", Breaks: "link/used", Strict: true,
			world: each(func(n *Node) { n.faults = func(Faults) Faults { return Faults{} } }),
		},
		{
			Name: "silent-loss", Defect: "after an outage subscriptions are restored, and nobody is told.", Breaks: "link/loss-is-loud",
			Seen: "dotnet/aspnetcore#38944: documented behaviour of SignalR",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if !isGap(e) {
						s.handler(ctx, e)
					}
				}
			}),
		},
		{
			Name: "gap-late", Defect: "the gap of a first outage is told after the next message.", Breaks: "link/loss-is-loud",
			world: each(func(n *Node) {
				var mu sync.Mutex
				told := map[*Sub]bool{}
				first := n.holdingGaps(func(ctx context.Context, s *Sub, gaps []backplane.Event, m backplane.Event) {
					s.handler(ctx, m)
					if len(gaps) > 0 {
						s.handler(ctx, gaps[0])
						mu.Lock()
						told[s] = true
						mu.Unlock()
					}
				})
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					again := told[s]
					mu.Unlock()
					if again {
						s.handler(ctx, e)
						return
					}
					first(ctx, s, e)
				}
			}),
		},
		{
			Name: "gap-counts-too-many", Defect: "a gap counts also what was heard.", Breaks: "link/loss-is-loud",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if g, ok := e.(*backplane.Gap); ok && g.Missed > 0 {
						more := *g
						more.Missed += 1000
						e = &more
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// gaps are mutants that tell too few or too many.
func gaps() []Mutant {
	return []Mutant{
		{
			Name: "gap-on-demand", Defect: "a gap is told when the next message comes, and else never.", Breaks: "link/gap-complete",
			world: each(func(n *Node) {
				n.deliver = n.holdingGaps(func(ctx context.Context, s *Sub, gaps []backplane.Event, m backplane.Event) {
					for _, g := range gaps {
						s.handler(ctx, g)
					}
					s.handler(ctx, m)
				})
			}),
		},
		{
			Name: "gap-to-be-safe", Defect: "an address that was silent for a while gets a gap with its next message.", Breaks: "link/gap-true",
			world: each(func(n *Node) {
				var mu sync.Mutex
				last := map[*Sub]time.Time{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					silent := !last[s].IsZero() && time.Since(last[s]) > 500*time.Millisecond
					last[s] = time.Now()
					mu.Unlock()
					if silent {
						s.handler(ctx, &backplane.Gap{Address: s.to, Cause: backplane.GapLink, Since: time.Now()})
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// outages are mutants whose verbs err while the link is down.
func outages() []Mutant {
	return []Mutant{
		{
			Name: "forgets-subscriptions", Defect: "after an outage only the first 50 subscriptions are restored.", Breaks: "link/resubscribe",
			Seen: "socketio/socket.io#950",
			world: each(func(n *Node) {
				var restored atomic.Int64
				n.faults = func(f Faults) Faults {
					heal := f.Heal
					f.Heal = func() {
						restored.Store(0)
						heal()
					}
					return f
				}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					s.handler(ctx, e)
					if isGap(e) && restored.Add(1) > 50 {
						s.deaf.Store(true)
					}
				}
			}),
		},
	}
}

// afterwards are mutants that are not well again after an outage.
func afterwards() []Mutant {
	return []Mutant{
		{
			Name: "gaps-for-ever", Defect: "after its first link gap a subscription is told of a gap in place of each message.", Breaks: "link/resubscribe",
			world: each(func(n *Node) {
				var mu sync.Mutex
				told := map[*Sub]bool{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					told[s] = told[s] || isGap(e)
					gap := told[s]
					mu.Unlock()
					if gap {
						e = &backplane.Gap{Address: s.to, Cause: backplane.GapLink, Since: time.Now()}
					}
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "gaps-to-be-sure", Defect: "after its first link gap a subscription is told of a gap before each message.", Breaks: "link/resubscribe",
			world: each(func(n *Node) {
				var mu sync.Mutex
				told := map[*Sub]bool{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					told[s] = told[s] || isGap(e)
					gap := told[s] && !isGap(e)
					mu.Unlock()
					if gap {
						s.handler(ctx, &backplane.Gap{Address: s.to, Cause: backplane.GapLink, Since: time.Now()})
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// voids are mutants that publish and subscribe into the void while the link is down.
func voids() []Mutant {
	return []Mutant{
		{
			Name: "nil-into-the-void", Defect: "Publish while the link is down is reported as done.", Breaks: "link/publish-down",
			Seen: "client-side buffers that are dropped when a reconnect fails",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					err := n.Node.Publish(ctx, to, payload)
					if errors.Is(err, backplane.ErrUnavailable) {
						return nil
					}
					return err
				}
			}),
		},
		{
			Name: "naked-errors", Defect: "errors of the client library are passed on.", Breaks: "link/publish-down",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if err := n.Node.Publish(ctx, to, payload); err != nil {
						return io.ErrUnexpectedEOF
					}
					return nil
				}
			}),
		},
		{
			Name: "uncertain-and-definite", Defect: "an error of Publish says that it may have been taken, and that it was not.", Breaks: "link/publish-down",
			Seen: "our own engine, which passed the cause of a doubt on as one of its own",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if err := n.Node.Publish(ctx, to, payload); err != nil {
						return refused("publish", to, fmt.Errorf("%w: %w", backplane.ErrUncertain, backplane.ErrUnavailable))
					}
					return nil
				}
			}),
		},
		{
			Name: "heard-although-refused", Defect: "a publish whose answer was lost is reported as not sent.", Breaks: "link/publish-down",
			world: each(func(n *Node) {
				lost := n.answerLost()
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					err := n.Node.Publish(ctx, to, payload)
					if err == nil && lost() {
						return refused("publish", to, backplane.ErrUnavailable)
					}
					return err
				}
			}),
		},
		{
			Name: "deaf-subscribe", Defect: "Subscribe while the link is down is reported as done, and not made up for.", Breaks: "link/subscribe-down",
			world: each(func(n *Node) {
				down := n.whileCut()
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					if down() {
						return &Sub{n: n, to: to, handler: h, healthy: nothing{}}, nil
					}
					return n.subscribeHealthy(ctx, to, h)
				}
			}),
		},
	}
}

// doubts are mutants that do not know what they do not know.
func doubts() []Mutant {
	return []Mutant{
		{
			Name: "half-open-blind", Defect: "health believes the socket, and so a link that carries nothing is healthy.", Breaks: "link/half-open",
			Seen: "SignalR/SignalR#4048",
			world: each(func(n *Node) {
				n.onHealth = func(f func(backplane.Health)) (stop func()) {
					f(backplane.Health{State: backplane.Up})
					return func() {}
				}
			}),
		},
		{
			Name: "retry-as-new", Defect: "a publish of uncertain outcome is published again.", Breaks: "link/no-repeat",
			Seen: "retries in client libraries",
			world: each(func(n *Node) {
				lost := n.answerLost()
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					err := n.Node.Publish(ctx, to, payload)
					if err != nil || !lost() {
						return err
					}
					for ctx.Err() == nil {
						if n.Node.Publish(ctx, to, payload) == nil {
							return nil
						}
						pause(10 * time.Millisecond)
					}
					return &backplane.Error{Op: "publish", Address: to, Err: backplane.ErrUncertain}
				}
			}),
		},
	}
}

// answerLost makes the instance send one more publish when it is to go deaf, and tells that publish that its answer got
// lost. So it does not hang on the schedule whether a link fails between a publish and its answer.
func (n *Node) answerLost() (lost func() bool) {
	var losing atomic.Bool
	n.faults = func(f Faults) Faults {
		deafen := f.Deafen
		f.Deafen = func() {
			losing.Store(true)
			for range 100 {
				if pause(time.Millisecond); !losing.Load() {
					break
				}
			}
			deafen()
		}
		return f
	}
	return func() bool { return losing.CompareAndSwap(true, false) }
}

// holdingGaps keeps gaps until a message comes.
func (n *Node) holdingGaps(
	hand func(ctx context.Context, s *Sub, gaps []backplane.Event, m backplane.Event),
) func(context.Context, *Sub, backplane.Event) {
	var mu sync.Mutex
	held := map[*Sub][]backplane.Event{}
	return func(ctx context.Context, s *Sub, e backplane.Event) {
		mu.Lock()
		if isGap(e) {
			held[s] = append(held[s], e)
			mu.Unlock()
			return
		}
		gaps := held[s]
		delete(held, s)
		mu.Unlock()
		hand(ctx, s, gaps, e)
	}
}

// nothing is the subscription that was never made.
type nothing struct{}

func (nothing) Close(context.Context) error { return nil }
