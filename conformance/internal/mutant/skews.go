package mutant

import (
	"context"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// skews are mutants that take the clocks of all instances for one.
func skews() []Mutant {
	// since makes the world function of a reader that goes on from the newest time stamp seen, which of says of what.
	since := func(of func(s *Sub, m *backplane.Message) any) func(*World) func(*Node) {
		return stamped(func(n *Node, at func(*backplane.Message) time.Time) {
			var mu sync.Mutex
			newest := map[any]time.Time{}
			n.hears(func(s *Sub, m *backplane.Message) bool {
				mu.Lock()
				defer mu.Unlock()
				key, when := of(s, m), at(m)
				if when.Before(newest[key]) {
					return false
				}
				newest[key] = when
				return true
			})
		})
	}
	type feed struct {
		s    *Sub
		from backplane.NodeID
	}
	return []Mutant{
		{
			Name: "stale-by-own-clock", Defect: "what is older than five seconds, by the reader's clock, is dropped.", Breaks: "clock/skew",
			Seen: "messages with a time to live that the receiver counts from the sender's time stamp",
			world: stamped(func(n *Node, at func(*backplane.Message) time.Time) {
				n.hears(func(_ *Sub, m *backplane.Message) bool { return n.now().Sub(at(m)) <= 5*time.Second })
			}),
		},
		{
			Name: "reads-on-by-time", Breaks: "clock/skew",
			Defect: "a subscription reads on from the newest time stamp that it has seen, by the publishers' clocks.",
			Seen:   "outbox tables that are polled for what was created since",
			world:  since(func(s *Sub, _ *backplane.Message) any { return s }),
		},
		{
			Name: "repeats-by-time", Defect: "what has an older time stamp than its publisher's last message is taken for a repeat.", Breaks: "clock/skew",
			Seen:  "ids made of the time of day, after the clock was set back",
			world: since(func(s *Sub, m *backplane.Message) any { return feed{s, m.Publisher} }),
		},
	}
}

// Stamped is no mutant: what mutants with time stamps are when nothing is broken.
func Stamped(name string) Mutant {
	return Mutant{Name: name, world: stamped(func(*Node, func(*backplane.Message) time.Time) {})}
}

// stamped makes the world function of instances that stamp what they publish with the time of day. At tells the stamp of a
// message; it travels beside it, so that there is one defect and no other format.
func stamped(breakIt func(n *Node, at func(*backplane.Message) time.Time)) func(*World) func(*Node) {
	return func(*World) func(*Node) {
		var mu sync.Mutex
		stamps := map[string]time.Time{} // by payload: the suite never publishes the same twice at different times
		at := func(m *backplane.Message) time.Time {
			mu.Lock()
			defer mu.Unlock()
			return stamps[string(m.Payload)]
		}
		return func(n *Node) {
			n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
				mu.Lock()
				stamps[string(payload)] = n.now()
				mu.Unlock()
				return n.Node.Publish(ctx, to, payload)
			}
			breakIt(n, at)
		}
	}
}

// hears makes subscriptions hear only the messages that match.
func (n *Node) hears(match func(*Sub, *backplane.Message) bool) {
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
		if m, ok := message(e); ok && !match(s, m) {
			return
		}
		s.handler(ctx, e)
	}
}
