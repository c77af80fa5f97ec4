package mutant

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/gobackplane/backplane"
)

// restarts are mutants that rely on what a broker or an instance forgets when it is restarted.
func restarts() []Mutant {
	return []Mutant{
		{
			Name: "scripts-are-gone", Defect: "what an instance put at the broker when it was opened is not put there again.", Breaks: "restart/recovers",
			Seen: "NOSCRIPT after a restart of Redis",
			world: func(w *World) func(*Node) {
				var gone atomic.Bool
				w.restart = func() { gone.Store(true) }
				return func(n *Node) {
					n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
						if gone.Load() {
							return refused("publish", to, backplane.ErrUnavailable)
						}
						return n.Node.Publish(ctx, to, payload)
					}
				}
			},
		},
		{
			Name: "streams-are-gone", Defect: "an address that was used before a restart of the broker is deaf afterwards.", Breaks: "restart/recovers",
			world: func(w *World) func(*Node) {
				w.restart = func() {
					for _, s := range w.openSubs(func(*Sub) bool { return true }) {
						s.deaf.Store(true)
					}
				}
				return func(*Node) {}
			},
		},
		{
			Name: "silent-restart", Defect: "after a restart of the broker subscriptions are restored, and nobody is told.", Breaks: "restart/loud",
			world: func(w *World) func(*Node) {
				var restarted atomic.Bool
				w.restart = func() { restarted.Store(true) }
				return func(n *Node) {
					n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
						if !isGap(e) || !restarted.Load() {
							s.handler(ctx, e)
						}
					}
				}
			},
		},
		{
			Name: "stale-cursor", Breaks: "restart/counters",
			Defect: "after a restart of the broker, whose numbers start over, messages are taken for old ones.",
			Seen:   "SignalR/SignalR#3091, #2572",
			Also:   []string{"deliver/once"}, // instances number at the same time
			world: func(w *World) func(*Node) {
				var broker atomic.Uint64 // its numbers
				w.restart = func() { broker.Store(0) }
				return numbered(func(*Node) uint64 { return broker.Add(1) }, func(*backplane.Message, *Node) string { return "" })
			},
		},
		{
			Name: "knows-the-name", Defect: "an instance that was restarted is taken for the old one, whose numbers went further.", Breaks: "restart/counters",
			world: func(w *World) func(*Node) {
				var mu sync.Mutex
				numbers := map[*Node]uint64{}
				return numbered(func(n *Node) uint64 {
					mu.Lock()
					defer mu.Unlock()
					numbers[n]++
					return numbers[n]
				}, func(m *backplane.Message, _ *Node) string { return w.label(m.Publisher) })
			},
		},
	}
}

// numbered sends a number with each message, and drops what is not newer than the newest heard from the same source.
func numbered(next func(*Node) uint64, source func(*backplane.Message, *Node) string) func(*Node) {
	return func(n *Node) {
		var publishing sync.Mutex // the order of the numbers is that of the messages
		n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
			publishing.Lock()
			defer publishing.Unlock()
			return n.Node.Publish(ctx, to, append(binary.BigEndian.AppendUint64(nil, next(n)), payload...))
		}
		var mu sync.Mutex
		newest := map[*Sub]map[string]uint64{}
		n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
			m, is := message(e)
			if !is {
				s.handler(ctx, e)
				return
			}
			bare := *m
			bare.Payload = m.Payload[8:]
			number, from := binary.BigEndian.Uint64(m.Payload), source(m, n)
			mu.Lock()
			if newest[s] == nil {
				newest[s] = map[string]uint64{}
			}
			old := number <= newest[s][from]
			if !old {
				newest[s][from] = number
			}
			mu.Unlock()
			if !old {
				s.handler(ctx, &bare)
			}
		}
	}
}

// label is what a node was opened as.
func (w *World) label(id backplane.NodeID) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		if n.Node.ID() == id {
			return n.as
		}
	}
	return ""
}
