package mutant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/transport"
)

// assumptions are mutants that take for granted what holds most of the time.
func assumptions() []Mutant {
	return slices.Concat(assumedStreams(), assumedNames(), assumedHandlers(), assumedTimes())
}

// assumedStreams are mutants that believe to know who listens, and what was sent.
func assumedStreams() []Mutant {
	return []Mutant{
		{
			Name: "nobody-for-a-second", Breaks: "subscribe/barrier-remote",
			Defect: "an instance that has published to nobody sends nothing to that address for a second.",
			Seen:   "NATS gateways: an account's answer that nobody is interested is kept; PUBSUB NUMSUB, cached",
			world: func(w *World) func(*Node) {
				return func(n *Node) { n.publish = n.publishUnlessNobody(w) }
			},
		},
		{
			Name: "woken-too-late", Breaks: "clock/idle",
			Defect: "the message that ends a second of silence is handled behind the next one, if that comes within 20 ms.",
			Seen:   "workers that are started for the first message, while the next one finds a worker that runs",
			world:  each(func(n *Node) { n.wakeLate() }),
		},
		{
			Name: "counted-in-all", Breaks: "link/lost-middle",
			Defect: "a gap counts all that a subscription has missed of that publisher since it began.",
			Seen:   "nats.go: Subscription.Dropped is a sum that nobody sets back",
			world: each(func(n *Node) {
				type of struct {
					s         *Sub
					publisher backplane.NodeID
				}
				var mu sync.Mutex
				missed := map[of]uint64{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if g, ok := e.(*backplane.Gap); ok && g.Missed > 0 {
						sum := *g
						mu.Lock()
						missed[of{s, g.Publisher}] += g.Missed
						sum.Missed = missed[of{s, g.Publisher}]
						mu.Unlock()
						e = &sum
					}
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "must-be-there-at-first", Breaks: "restart/newcomer",
			Defect: "an instance that is opened while the broker is not there stays without it.",
			Seen:   "nats.go without RetryOnFailedConnect, clients that reconnect only what was connected",
			carry: carried(func(c *carrier) {
				dial := c.connect
				var tried, given atomic.Bool
				c.connect = func(ctx context.Context) error {
					if given.Load() {
						return fmt.Errorf("%w: the first attempt failed", transport.ErrUnavailable)
					}
					err := dial(ctx)
					if !tried.Swap(true) && err != nil {
						given.Store(true)
					}
					return err
				}
			}),
		},
	}
}

// assumedNames are mutants that believe to know what names mean.
func assumedNames() []Mutant {
	return []Mutant{
		{
			Name: "names-are-numbers", Defect: "a name of digits loses the zeros that it begins with.", Breaks: "isolate/confusable",
			Seen: "ids that go through strconv.Atoi, or through a table of a scripting language",
			world: renamed(func(a backplane.Address) backplane.Address {
				if a.Name() == "" || strings.Trim(a.Name(), "0123456789") != "" {
					return a
				}
				number := strings.TrimLeft(a.Name(), "0")
				if number == "" {
					number = "0"
				}
				return renameTo(a, number)
			}),
		},
	}
}

// assumedHandlers are mutants that believe to know what handlers do.
func assumedHandlers() []Mutant {
	return []Mutant{
		{
			Name: "ends-when-it-is-through", Breaks: "handler/reentrant",
			Defect: "a subscription that is closed by its own handler goes on with what waits behind the message.",
			Seen:   "a loop that looks whether it is to end when its queue is empty",
			world: each(func(n *Node) {
				type run struct{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					s.handler(context.WithValue(ctx, run{}, s), e)
				}
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					if ctx.Value(run{}) != s {
						return s.healthy.Close(ctx)
					}
					go func() {
						select {
						case <-time.After(20 * time.Millisecond):
						case <-ctx.Done():
						}
						_ = s.healthy.Close(ctx) // from a handler, so it does not wait
					}()
					return nil
				}
			}),
		},
		{
			Name: "errors-are-no-panics", Defect: "a handler's panic with an error, as the runtime's are, is recovered.", Breaks: "handler/panic",
			Seen: "recover().(error), written to the log",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					defer func() {
						why := recover()
						if _, isError := why.(error); why != nil && !isError {
							panic(why)
						}
					}()
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "waits-and-then-cancels", Breaks: "ctx/scope",
			Defect: "Close waits for the handlers that run, and ends their contexts afterwards.",
			Seen:   "wg.Wait(); cancel()",
			world: each(func(n *Node) {
				life, end := context.WithCancel(context.Background())
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					s.handler(outliving{ctx, life}, e)
				}
				healthy := n.close
				n.close = func(ctx context.Context) error {
					defer end()
					return healthy(ctx)
				}
			}),
		},
	}
}

// outliving is a handler's context that ends with another one.
type outliving struct {
	context.Context // its values

	life context.Context
}

func (o outliving) Deadline() (time.Time, bool) { return o.life.Deadline() }
func (o outliving) Done() <-chan struct{}       { return o.life.Done() }
func (o outliving) Err() error                  { return o.life.Err() }

// assumedTimes are mutants that believe that all clocks show one time.
func assumedTimes() []Mutant {
	return []Mutant{
		{
			Name: "deadline-by-the-clock", Breaks: "clock/skew",
			Defect: "a question tells its deadline as a time of day, and whoever is past it by the own clock does not answer.",
			Seen:   "deadlines in headers; gRPC sends what is left instead",
			world: func(w *World) func(*Node) {
				return func(n *Node) {
					late := func(ctx context.Context, node backplane.NodeID) bool {
						deadline, ok := ctx.Deadline()
						return ok && w.clockOf(node).After(n.now().Add(time.Until(deadline)))
					}
					silence := fmt.Errorf("%w: %w", backplane.ErrTimeout, backplane.ErrUnavailable)
					n.ask = func(ctx context.Context, node backplane.NodeID, service string, request []byte) ([]byte, error) {
						if late(ctx, node) {
							<-ctx.Done()
							return nil, refused("ask", backplane.Address{}, silence)
						}
						return n.Node.Ask(ctx, node, service, request)
					}
					n.askAll = func(ctx context.Context, service string, request []byte) ([]backplane.Answer, error) {
						answers, err := n.Node.AskAll(ctx, service, request)
						for i, a := range answers {
							if late(ctx, a.Node) {
								<-ctx.Done()
								answers[i] = backplane.Answer{Node: a.Node, Err: refused("ask", backplane.Address{}, silence)}
							}
						}
						return answers, err //nolint:wrapcheck // the healthy instance's word, as it is
					}
				}
			},
		},
	}
}

// clockOf is the time by the clock of one instance; the zero time if there is none of that id.
func (w *World) clockOf(id backplane.NodeID) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		if n.Node.ID() == id {
			return n.now()
		}
	}
	return time.Time{}
}

// publishUnlessNobody makes the Publish of an instance that remembers for a second that nobody listens.
func (n *Node) publishUnlessNobody(w *World) func(context.Context, backplane.Address, []byte) error {
	var mu sync.Mutex
	until := map[backplane.Address]time.Time{}
	return func(ctx context.Context, to backplane.Address, payload []byte) error {
		mu.Lock()
		quiet := time.Now().Before(until[to])
		mu.Unlock()
		if quiet { // sent where nobody is, so that what is wrong with the instance is told all the same
			err := n.Node.Publish(ctx, to.In("nobody"), payload)
			if told, is := errors.AsType[*backplane.Error](err); is {
				return refused(told.Op, to, told.Err)
			}
			return err
		}
		listen := w.openSubs(func(s *Sub) bool { return s.n.at(s.to) == n.at(to) })
		err := n.Node.Publish(ctx, to, payload)
		if err == nil && len(listen) == 0 {
			mu.Lock()
			until[to] = time.Now().Add(time.Second)
			mu.Unlock()
		}
		return err
	}
}

// wakeLate makes the subscriptions of an instance handle the first message after a silence behind the second one.
func (n *Node) wakeLate() {
	const (
		silence = time.Second
		waking  = 20 * time.Millisecond
	)
	type state struct {
		turn chan struct{} // holds one while the handler runs
		last time.Time
		held *backplane.Message
	}
	var mu sync.Mutex
	states := map[*Sub]*state{}
	of := func(s *Sub) *state {
		mu.Lock()
		defer mu.Unlock()
		if states[s] == nil {
			states[s] = &state{turn: make(chan struct{}, 1), last: s.born}
		}
		return states[s]
	}
	type run struct{}
	hand := func(ctx context.Context, s *Sub, e backplane.Event) {
		s.handler(context.WithValue(ctx, run{}, n), e)
	}
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
		st := of(s)
		st.turn <- struct{}{}
		defer func() { <-st.turn }()
		m, isMessage := message(e)
		woken := isMessage && time.Since(st.last) > silence
		st.last = time.Now()
		if woken && st.held == nil {
			st.held = m
			go func() {
				select {
				case <-time.After(waking):
				case <-ctx.Done():
				}
				st.turn <- struct{}{}
				defer func() { <-st.turn }()
				if st.held == m && !s.deaf.Load() && ctx.Err() == nil {
					st.held = nil
					hand(ctx, s, m)
				}
			}()
			return
		}
		held := st.held
		st.held = nil
		switch {
		case held == nil:
			hand(ctx, s, e)
		case isMessage && m.Publisher == held.Publisher: // the defect
			hand(ctx, s, e)
			hand(ctx, s, held)
		default:
			hand(ctx, s, held)
			hand(ctx, s, e)
		}
	}
	n.unsubscribe = func(ctx context.Context, s *Sub) error {
		s.deaf.Store(true)
		err := s.healthy.Close(ctx)
		if err != nil || ctx.Value(run{}) == n {
			return err
		}
		st := of(s)
		select {
		case st.turn <- struct{}{}:
			<-st.turn
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
