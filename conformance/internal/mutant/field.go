package mutant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

// fieldLinks are defects at a link's failure that were seen in the field.
func fieldLinks() []Mutant {
	return []Mutant{
		{
			Name: "local-although-refused", Defect: "the own instance hears what it publishes, also when the broker is not there.", Breaks: "link/publish-down",
			Seen: "Socket.IO's adapters serve local clients and swallow the broker's error; Phoenix.PubSub returns :ok",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					err := n.Node.Publish(ctx, to, payload)
					if !errors.Is(err, backplane.ErrUnavailable) {
						return err
					}
					for _, s := range n.world.openSubs(func(s *Sub) bool { return s.n == n && s.to == to }) {
						s.handler(ctx, &backplane.Message{Address: to, Publisher: n.ID(), Payload: append([]byte{}, payload...)})
					}
					return err
				}
			}),
		},
		{
			Name: "gives-up", Defect: "after the third outage the instance does not come back.", Breaks: "link/loss-is-loud",
			Seen: "AnyCable ends after 5 failed attempts, Laravel Reverb gives up after 60 s",
			world: each(func(n *Node) {
				var outages atomic.Int64
				n.faults = func(f Faults) Faults {
					cut, heal := f.Cut, f.Heal
					f.Cut = func() {
						outages.Add(1)
						cut()
					}
					f.Heal = func() {
						if outages.Load() <= 3 {
							heal()
						}
					}
					return f
				}
			}),
		},
		{
			Name: "restores-the-first", Defect: "what was subscribed since the last outage is not restored after the next one.", Breaks: "link/resubscribe",
			Seen: "lists of subscriptions that are given to the client's constructor once",
			world: each(func(n *Node) {
				var mu sync.Mutex
				outages := 0
				n.faults = func(f Faults) Faults {
					cut := f.Cut
					f.Cut = func() {
						cut()
						mu.Lock()
						outages++
						mu.Unlock()
					}
					return f
				}
				made := map[*Sub]int{}
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					s, err := n.subscribeHealthy(ctx, to, h)
					if err == nil {
						mu.Lock()
						made[s] = outages
						mu.Unlock()
					}
					return s, err
				}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					forgotten := made[s] > 0 && outages > made[s]
					mu.Unlock()
					if !forgotten || isGap(e) {
						s.handler(ctx, e)
					}
				}
			}),
		},
	}
}

// fieldReturns are defects after a link's failure that were seen in the field.
func fieldReturns() []Mutant {
	return []Mutant{
		{
			Name: "gap-for-the-first", Defect: "of several subscriptions to an address one is told of a gap.", Breaks: "link/loss-is-loud",
			Seen: "Redis client libraries call one listener for each connection's end",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if isGap(e) && n.beside(s)[0] != s {
						return
					}
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "resume-replays-the-last", Defect: "after an outage the last message that was heard comes again.", Breaks: "link/no-repeat",
			Seen: "consumers that commit after they handle: Kafka, pending entries of Redis Streams",
			world: each(func(n *Node) {
				var mu sync.Mutex
				last := map[*Sub]backplane.Event{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					again := last[s]
					if !isGap(e) {
						last[s] = e
					}
					mu.Unlock()
					s.handler(ctx, e)
					if isGap(e) && again != nil {
						s.handler(ctx, again)
					}
				}
			}),
		},
		{
			Name: "retry-goes-last", Defect: "a publish whose answer was lost is sent again behind those that came after it.", Breaks: "order/after-heal",
			Seen: "Kafka's producer: retries with max.in.flight.requests.per.connection above 1 may reorder",
			world: each(func(n *Node) {
				lost := n.answerLost()
				var mu sync.Mutex
				var held []byte
				later := 0
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if lost() {
						mu.Lock()
						held = append([]byte{}, payload...)
						mu.Unlock()
						return nil
					}
					err := n.Node.Publish(ctx, to, payload)
					mu.Lock()
					defer mu.Unlock()
					if err != nil || held == nil {
						return err
					}
					if later++; later > 8 { // those under way at the same time have no order
						_ = n.Node.Publish(ctx, to, held) // nobody is told
						held = nil
					}
					return nil
				}
			}),
		},
		{
			Name: "payload-in-errors", Defect: "the error of a publish shows what was to be published.", Breaks: "link/publish-down",
			Seen: "redis/node-redis, ioredis: errors carry the command with its arguments",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					err := n.Node.Publish(ctx, to, payload)
					if err == nil {
						return nil
					}
					return refused("publish", to, fmt.Errorf("%w: PUBLISH %q %q", err, to.Name(), payload[:min(len(payload), 100)]))
				}
			}),
		},
	}
}

// fieldEnds are defects of beginnings and ends that were seen in the field.
func fieldEnds() []Mutant {
	return []Mutant{
		{
			Name: "queued-until-somebody-comes", Defect: "what nobody hears is kept for the first who subscribes.", Breaks: "deliver/nobody",
			Seen: "durable queues of AMQP; ThreeDotsLabs/watermill's suite publishes before it subscribes",
			world: func(*World) func(*Node) {
				var mu sync.Mutex
				kept := map[at]*backplane.Message{}
				return func(n *Node) {
					n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
						err := n.Node.Publish(ctx, to, payload)
						hears := func(s *Sub) bool { return s.n.Namespace() == n.Namespace() && s.to == to }
						if err == nil && len(n.world.openSubs(hears)) == 0 {
							mu.Lock()
							kept[n.at(to)] = &backplane.Message{Address: to, Publisher: n.ID(), Payload: append([]byte{}, payload...)}
							mu.Unlock()
						}
						return err
					}
					n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
						mu.Lock()
						m := kept[n.at(to)]
						delete(kept, n.at(to))
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
			Name: "shared-consumer", Defect: "the end of a subscription ends those of other instances to the same address.", Breaks: "subscribe/independent",
			Seen: "nats.go: Unsubscribe deletes a JetStream consumer that others are bound to",
			world: each(func(n *Node) {
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					for _, o := range n.world.openSubs(func(o *Sub) bool { return o.n != n && o.n.Namespace() == n.Namespace() && o.to == s.to }) {
						o.deaf.Store(true)
					}
					return s.healthy.Close(ctx)
				}
			}),
		},
	}
}

// fieldWaits are defects of what waits for what.
func fieldWaits() []Mutant {
	return []Mutant{
		{
			Name: "unsubscribe-late", Defect: "a message that waits when a subscription is closed is handled afterwards.", Breaks: "unsubscribe/barrier",
			Seen: "nats.go: callbacks may run after Unsubscribe for what is pending",
			world: each(func(n *Node) {
				n.unsubscribe = n.handingOverAfter(func(ctx context.Context, s *Sub) error { return s.healthy.Close(ctx) })
			}),
		},
		{
			Name: "close-drains", Defect: "Close of an instance returns, and then hands over what still waits.", Breaks: "close/barrier",
			Seen: "go-redis: messages in the channel outlive Close",
			world: each(func(n *Node) {
				hand := n.handingOverAfter(func(context.Context, *Sub) error { return nil })
				n.close = func(ctx context.Context) error {
					subs := n.world.openSubs(func(s *Sub) bool { return s.n == n })
					err := n.Node.Close(ctx)
					for _, s := range subs {
						_ = hand(ctx, s) // it cannot fail
					}
					return err
				}
			}),
		},
		{
			Name: "open-ignores-its-context", Defect: "Open goes on trying although its context has ended.", Breaks: "open/fails-clean",
			Seen: "drivers that dial with a timeout of their own",
			open: func(open Opener) Opener {
				return func(ctx context.Context, in Instance) (*backplane.Node, error) {
					if ctx.Err() != nil {
						pause(time.Minute)
					}
					return open(ctx, in)
				}
			},
		},
		{
			Name: "close-from-a-handler-deadlocks", Defect: "closing a subscription from its own handler waits for that handler.", Breaks: "handler/reentrant",
			Seen: "net/http: Shutdown called from a handler waits for it",
			world: each(func(n *Node) {
				var mu sync.Mutex
				running := map[*Sub]chan struct{}{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					done := make(chan struct{})
					mu.Lock()
					running[s] = done
					mu.Unlock()
					defer close(done)
					s.handler(ctx, e)
				}
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					mu.Lock()
					done := running[s]
					mu.Unlock()
					if done != nil {
						select {
						case <-done:
						case <-ctx.Done():
							return ctx.Err() //nolint:wrapcheck // as the healthy instance does
						}
					}
					return s.healthy.Close(ctx)
				}
			}),
		},
	}
}

// fieldCalls are defects of single calls that were seen in the field.
func fieldCalls() []Mutant {
	return []Mutant{
		{
			Name: "close-blames-the-broker", Defect: "Close that its context ends returns that the broker is not there.", Breaks: "close/busy",
			Seen: "the connection's error instead of the caller's",
			world: each(func(n *Node) {
				n.close = func(ctx context.Context) error {
					if n.Node.Close(ctx) != nil {
						return refused("close", backplane.Address{}, backplane.ErrUnavailable)
					}
					return nil
				}
			}),
		},
		{
			Name: "waits-for-the-first", Defect: "a Subscribe that joins one under way returns at once, and is deaf until that one is done.",
			Breaks: "subscribe/churn", Seen: "calls joined by a single-flight group whose waiters do not wait",
			world: each(func(n *Node) {
				var mu sync.Mutex
				underWay := map[backplane.Address]int{}
				until := map[*Sub]time.Time{}
				const trip = 2 * time.Millisecond
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					mu.Lock()
					joins := underWay[to] > 0
					underWay[to]++
					mu.Unlock()
					if !joins {
						pause(trip)
					}
					s, err := n.subscribeHealthy(ctx, to, h)
					mu.Lock()
					defer mu.Unlock()
					underWay[to]--
					if err == nil && joins {
						until[s] = time.Now().Add(trip)
					}
					return s, err
				}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					deaf := time.Now().Before(until[s])
					mu.Unlock()
					if !deaf {
						s.handler(ctx, e)
					}
				}
			}),
		},
	}
}

// handingOverAfter keeps the newest message of each subscription back from nobody, and hands it over once more time has
// passed since a close.
func (n *Node) handingOverAfter(closes func(context.Context, *Sub) error) func(context.Context, *Sub) error {
	var mu sync.Mutex
	waiting := map[*Sub]backplane.Event{}
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
		mu.Lock()
		_, held := waiting[s]
		if !held && !isGap(e) {
			waiting[s] = e
		}
		mu.Unlock()
		s.handler(ctx, e)
	}
	return func(ctx context.Context, s *Sub) error {
		err := closes(ctx, s)
		mu.Lock()
		e := waiting[s]
		mu.Unlock()
		if e != nil {
			go func() {
				pause(time.Millisecond)
				s.handler(context.WithoutCancel(ctx), e)
			}()
		}
		return err
	}
}
