package mutant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/transport"
)

// linger are mutants that put an unsubscribe off.
func linger() []Mutant {
	return []Mutant{
		{
			Name: "linger-goes-on", Breaks: "subscribe/again",
			Defect: "the broker's subscription lingers for half a second after the last Close, and who subscribes meanwhile does not stop the clock.",
			Seen:   "a delayed unsubscribe, made so that a page that is loaded anew costs nothing",
			world: each(func(n *Node) {
				l := &lingering{subs: map[backplane.Address][]*Sub{}, clocks: map[backplane.Address]*time.Timer{}}
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					s, err := n.subscribeHealthy(ctx, to, h)
					if err == nil {
						l.add(s)
					}
					return s, err
				}
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					l.remove(s)
					return s.healthy.Close(ctx)
				}
				end := n.close
				n.close = func(ctx context.Context) error {
					l.stop()
					return end(ctx)
				}
			}),
		},
	}
}

// lingering is which addresses an instance subscribed, and which of them it is about to give up.
type lingering struct {
	mu     sync.Mutex
	closed bool
	subs   map[backplane.Address][]*Sub
	clocks map[backplane.Address]*time.Timer
}

func (l *lingering) add(s *Sub) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs[s.to] = append(l.subs[s.to], s)
}

func (l *lingering) remove(s *Sub) {
	const linger = 500 * time.Millisecond
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.subs[s.to], s)
	if i < 0 || l.closed {
		return
	}
	l.subs[s.to] = slices.Delete(l.subs[s.to], i, i+1)
	if len(l.subs[s.to]) > 0 || l.clocks[s.to] != nil {
		return
	}
	l.clocks[s.to] = time.AfterFunc(linger, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.clocks, s.to)
		for _, deaf := range l.subs[s.to] {
			deaf.deaf.Store(true)
		}
	})
}

func (l *lingering) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, clock := range l.clocks {
		clock.Stop()
	}
}

// jsonInJSON are mutants whose envelope is JSON, and the payload a part of it.
func jsonInJSON() []Mutant {
	return []Mutant{
		{
			Name: "json-in-json", Breaks: "payload/intact",
			Defect: "a payload that is valid JSON travels as JSON, and arrives without its white space and with < > & escaped.",
			Seen:   "encoding/json: a json.RawMessage is compacted and escaped by Marshal",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if m, ok := message(e); ok && json.Valid(m.Payload) {
						if b, err := json.Marshal(json.RawMessage(m.Payload)); err == nil {
							e = &backplane.Message{Address: m.Address, Publisher: m.Publisher, Payload: b}
						}
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// failedPublishes are mutants that err in what becomes of a publish that failed.
func failedPublishes() []Mutant {
	return []Mutant{
		{
			Name: "offline-buffer", Breaks: "order/after-heal",
			Defect: "what could not be sent is called uncertain, kept, and sent right behind the next message that can be.",
			Seen:   "socket.io-client and MQTT clients: what was sent while offline goes out after a reconnect",
			world: each(func(n *Node) {
				var mu sync.Mutex
				kept := map[backplane.Address][][]byte{}
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					const most = 100
					if ctx.Err() != nil {
						return n.Node.Publish(ctx, to, payload)
					}
					err := n.Node.Publish(ctx, to, payload)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						waiting := kept[to]
						delete(kept, to)
						mu.Unlock()
						for _, old := range waiting {
							_ = n.Node.Publish(ctx, to, old) // one more attempt, and then it is over
						}
						mu.Lock()
					case errors.Is(err, backplane.ErrUnavailable) && !errors.Is(err, backplane.ErrUncertain) && len(kept[to]) < most:
						kept[to] = append(kept[to], append([]byte{}, payload...))
						return refused("publish", to, fmt.Errorf("%w: it will be sent later", backplane.ErrUncertain))
					}
					return err
				}
			}),
		},
		{
			Name: "refused-leaves-a-hole", Breaks: "errors/definite",
			Defect: "a publish that surely failed keeps its number, and everybody is told of a loss with the publisher's next message.",
			Seen:   "a counter that is raised before the send",
			world: func(*World) func(*Node) {
				type row struct {
					publisher backplane.NodeID
					at        at
				}
				var mu sync.Mutex
				holes := map[row]uint64{} // so far
				known := map[*Sub]map[backplane.NodeID]uint64{}
				return func(n *Node) {
					n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
						err := n.Node.Publish(ctx, to, payload)
						if errors.Is(err, backplane.ErrUnavailable) && !errors.Is(err, backplane.ErrUncertain) {
							mu.Lock()
							holes[row{n.Node.ID(), n.at(to)}]++
							mu.Unlock()
						}
						return err
					}
					n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
						m, ok := message(e)
						if !ok {
							s.handler(ctx, e)
							return
						}
						mu.Lock()
						if known[s] == nil {
							known[s] = map[backplane.NodeID]uint64{}
						}
						before, heard := known[s][m.Publisher]
						now := holes[row{m.Publisher, n.at(m.Address)}]
						known[s][m.Publisher] = now
						mu.Unlock()
						if heard && now > before { // before the first one no number is missed
							s.handler(ctx, &backplane.Gap{
								Address: s.to, Cause: backplane.GapNumbers, Since: time.Now(), Publisher: m.Publisher, Missed: now - before,
							})
						}
						s.handler(ctx, e)
					}
				}
			},
		},
	}
}

// longOutages are mutants that are made for short outages only, and health that is seen too late.
func longOutages() []Mutant {
	return []Mutant{
		{
			Name: "gives-up-reconnecting", Breaks: "link/resubscribe",
			Defect: "a link that could not be connected for twenty seconds is never tried again.",
			Seen:   "nats.go's MaxReconnects, socket.io's reconnectionAttempts",
			carry: carried(func(c *carrier) {
				const patience = 20 * time.Second
				dial := c.connect
				var failing time.Time // since when; of one goroutine, as Connect is
				c.connect = func(ctx context.Context) error {
					if !failing.IsZero() && time.Since(failing) > patience {
						return fmt.Errorf("%w: too many attempts", transport.ErrUnavailable)
					}
					err := dial(ctx)
					switch {
					case err == nil:
						failing = time.Time{}
					case failing.IsZero():
						failing = time.Now()
					}
					return err
				}
			}),
		},
		{
			Name: "health-from-a-cache", Defect: "Health returns what it returned within the last ten seconds.", Breaks: "link/state",
			Seen: "an expensive health check behind a cache",
			world: each(func(n *Node) {
				const fresh = 10 * time.Second
				var mu sync.Mutex
				var at time.Time
				var h backplane.Health
				n.health = func() backplane.Health {
					mu.Lock()
					defer mu.Unlock()
					if at.IsZero() || time.Since(at) > fresh {
						at, h = time.Now(), n.Node.Health()
					}
					return h
				}
			}),
		},
	}
}
