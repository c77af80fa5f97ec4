package mutant

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

// outsiders are mutants by somebody who had seen the contract and not the properties.
func outsiders() []Mutant {
	return []Mutant{
		{
			Name: "same-body-once", Defect: "a payload published a second time to its address within two minutes is taken for a retry and dropped.",
			Breaks: "deliver/once", Seen: "JetStream's window of duplicates, with an id that is made of the body",
			world: each(func(n *Node) { n.publish = n.onceForEachBody(2 * time.Minute) }),
		},
		{
			Name: "cancelled-goes-out", Defect: "a Publish whose context had ended before it says that nothing was sent, and sends.", Breaks: "ctx/canceled",
			Seen: "a queue that is filled first, and a context that is looked at while waiting for the result",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if ctx.Err() == nil {
						return n.Node.Publish(ctx, to, payload)
					}
					late, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
					defer done()
					if err := n.Node.Publish(late, to, payload); err != nil {
						return err //nolint:wrapcheck // the healthy instance's word, as it is
					}
					return refused("publish", to, fmt.Errorf("%w: %w", backplane.ErrUnavailable, ctx.Err()))
				}
			}),
		},
		{
			Name: "second-close-hurries", Defect: "a second Close of a subscription does not wait for the run that the first one gave up waiting for.",
			Breaks: "unsubscribe/barrier", Seen: "sync.Once around all of a Close",
			world: each(func(n *Node) {
				var closed sync.Map
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					if _, again := closed.LoadOrStore(s, true); again {
						return nil
					}
					return s.healthy.Close(ctx)
				}
			}),
		},
		{
			Name: "gaps-rate-limited", Defect: "a subscription is told of one outage in five seconds, and of no other.", Breaks: "link/gap-complete",
			Seen:  "a limit meant for lines in a log",
			world: each(func(n *Node) { n.deliver = gapsRarely(5 * time.Second) }),
		},
		{
			Name: "close-gives-up", Defect: "a Close whose context ends while it waits for a handler has closed nothing, and never will.", Breaks: "close/busy",
			Seen:  "a Close that waits first, and returns early",
			world: each(func(n *Node) { n.close = n.closeAfterHandlers() }),
		},
		{
			Name: "late-members-unseen", Defect: "health stays up when members are late.", Breaks: "members/death",
			Seen: "health that asks about the own connection only",
			world: each(func(n *Node) {
				n.onHealth = func(f func(backplane.Health)) (stop func()) {
					var last backplane.State
					return n.Node.OnHealth(func(h backplane.Health) {
						if h = withoutMembers(h); h.State != last {
							last = h.State
							f(h)
						}
					})
				}
				n.health = func() backplane.Health { return withoutMembers(n.Node.Health()) }
			}),
		},
		{
			Name: "repeated-question", Defect: "a question that its asker asks again within ten seconds gets the old answer.", Breaks: "ask/answers",
			Seen:  "questions that are recognised by their content, so that a retry does no harm",
			world: each(func(n *Node) { n.answer = n.answerOnce(10 * time.Second) }),
		},
		{
			Name: "trusts-the-first", Defect: "a Subscribe that finds another one to its address under way returns before the broker has confirmed.",
			Breaks: "subscribe/barrier", Seen: "a count of subscriptions that is raised before the broker is asked",
			world: each(func(n *Node) { n.subscribe = n.subscribeBesideAnother() }),
		},
		{
			Name: "serial-until-reconnect", Defect: "after a reconnect the handler is called again while it still runs, if that takes more than a millisecond.",
			Breaks: "handler/serial", Seen: "the old connection's reader beside the new one's",
			world: each(func(n *Node) { n.deliver = besideItself() }),
		},
		{
			Name: "all-has-no-scope", Defect: "the address of all is one address in all scopes.", Breaks: "isolate/scopes",
			Seen:  "a scope that is put before the name, where there is a name",
			world: each(withoutScopeOfAll),
		},
	}
}

// onceForEachBody publishes a payload only once to an address within a time.
func (n *Node) onceForEachBody(window time.Duration) func(context.Context, backplane.Address, []byte) error {
	type body struct {
		to  backplane.Address
		sum [sha256.Size]byte
	}
	var mu sync.Mutex
	sent := map[body]time.Time{}
	return func(ctx context.Context, to backplane.Address, payload []byte) error {
		b := body{to, sha256.Sum256(payload)}
		mu.Lock()
		at, again := sent[b]
		mu.Unlock()
		if again && time.Since(at) < window {
			return nil
		}
		err := n.Node.Publish(ctx, to, payload)
		if err == nil {
			mu.Lock()
			sent[b] = time.Now()
			mu.Unlock()
		}
		return err
	}
}

// closeAfterHandlers closes once no handler runs, and not at all where that takes longer than the context allows.
func (n *Node) closeAfterHandlers() func(context.Context) error {
	type inside struct{} // the key of a handler's context, which Close must not wait for
	var running atomic.Int64
	var gaveUp atomic.Bool
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
		running.Add(1)
		defer running.Add(-1)
		s.handler(context.WithValue(ctx, inside{}, true), e)
	}
	return func(ctx context.Context) error {
		if gaveUp.Load() {
			return nil
		}
		for running.Load() > 0 && ctx.Value(inside{}) == nil {
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				gaveUp.Store(true)
				time.AfterFunc(time.Hour, func() { _ = n.Node.Close(context.Background()) }) // only so that the test can end
				return refused("close", backplane.Address{}, ctx.Err())
			}
		}
		return n.Node.Close(ctx)
	}
}

// withoutMembers is a node's health if members did not count.
func withoutMembers(h backplane.Health) backplane.Health {
	for _, c := range h.Causes {
		if c.Kind != backplane.CauseMember {
			return h
		}
	}
	h.State, h.Causes = backplane.Up, nil
	return h
}

// answerOnce answers a question that was answered a short time ago as it was then.
func (n *Node) answerOnce(window time.Duration) func(string, backplane.AnswerFunc) (stop func()) {
	type question struct {
		from    backplane.NodeID
		request string
	}
	type answer struct {
		at      time.Time
		payload []byte
		err     error
	}
	return func(service string, f backplane.AnswerFunc) (stop func()) {
		var mu sync.Mutex
		given := map[question]answer{}
		return n.Node.Answer(service, func(ctx context.Context, from backplane.NodeID, request []byte) ([]byte, error) {
			q := question{from, string(request)}
			mu.Lock()
			old, again := given[q]
			mu.Unlock()
			if again && time.Since(old.at) < window {
				return append([]byte(nil), old.payload...), old.err
			}
			payload, err := f(ctx, from, request)
			mu.Lock()
			defer mu.Unlock()
			given[q] = answer{time.Now(), append([]byte(nil), payload...), err}
			return payload, err
		})
	}
}

// subscribeBesideAnother subscribes at a broker that takes a while to confirm, and does not wait for it where another call
// already does.
func (n *Node) subscribeBesideAnother() func(context.Context, backplane.Address, backplane.Handler) (*Sub, error) {
	const roundTrip = 2 * time.Millisecond
	var mu sync.Mutex
	asked := map[backplane.Address]chan struct{}{} // closed when the broker has confirmed
	return func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
		mu.Lock()
		confirmed, second := asked[to]
		if !second {
			confirmed = make(chan struct{})
			asked[to] = confirmed
		}
		mu.Unlock()
		if !second {
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				delete(asked, to)
				close(confirmed)
			}()
			pause(roundTrip)
			return n.subscribeHealthy(ctx, to, h)
		}
		s, err := n.subscribeHealthy(ctx, to, h)
		if err != nil {
			return nil, err
		}
		select {
		case <-confirmed:
		default:
			s.deaf.Store(true)
			go func() {
				<-confirmed
				s.deaf.Store(false)
			}()
		}
		return s, nil
	}
}

// gapsRarely tells a subscription of an outage once in a time.
func gapsRarely(limit time.Duration) func(context.Context, *Sub, backplane.Event) {
	var mu sync.Mutex
	last := map[*Sub]time.Time{}
	return func(ctx context.Context, s *Sub, e backplane.Event) {
		if isOutage(e) {
			mu.Lock()
			told := last[s]
			if !told.IsZero() && time.Since(told) < limit {
				mu.Unlock()
				return
			}
			last[s] = time.Now()
			mu.Unlock()
		}
		s.handler(ctx, e)
	}
}

// besideItself does not wait long for a handler once the link has been made anew.
func besideItself() func(context.Context, *Sub, backplane.Event) {
	const patience = time.Millisecond
	var reconnected sync.Map // subscriptions
	return func(ctx context.Context, s *Sub, e backplane.Event) {
		if isOutage(e) {
			reconnected.Store(s, true)
		}
		if _, beside := reconnected.Load(s); !beside || isGap(e) {
			s.handler(ctx, e)
			return
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.handler(ctx, e)
		}()
		select {
		case <-done:
		case <-time.After(patience):
		}
	}
}

// isOutage reports whether an event is the gap of a link that failed.
func isOutage(e backplane.Event) bool {
	g, ok := e.(*backplane.Gap)
	return ok && g.Cause == backplane.GapLink
}

// withoutScopeOfAll takes all for one address in all scopes.
func withoutScopeOfAll(n *Node) {
	unscoped := func(a backplane.Address) backplane.Address {
		if a.Kind() == backplane.KindAll && a.Validate() == nil {
			return backplane.All()
		}
		return a
	}
	n.usesFor(unscoped)
}
