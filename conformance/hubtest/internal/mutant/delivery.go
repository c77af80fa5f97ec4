package mutant

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/gobackplane/backplane/conformance/hubtest"
)

// sending makes a defect of how a hub sends.
func sending(f func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error) func(*hub) {
	return func(h *hub) {
		h.send = func(ctx context.Context, to hubtest.Target, payload []byte) error { return f(h, ctx, to, payload) }
	}
}

// but leaves out the connections of which is says so.
func (h *hub) but(to hubtest.Target, is func(*connection) bool) hubtest.Target {
	to.Except = append(slices.Clone(to.Except), h.node.world.find(func(c *connection) bool { return c.hub.name == h.name && is(c) })...)
	return to
}

func delivery() []Mutant {
	return []Mutant{
		{
			Name: "all-here-only", Breaks: "deliver/all",
			Defect: "what is sent to all reaches the sender's instance and no other",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				if to.All && !isFence(payload) {
					to = h.but(to, func(c *connection) bool { return c.hub != h })
				}
				return h.wholeHub.Send(ctx, to, payload)
			}),
		},
		{
			Name: "all-echoed", Breaks: "deliver/all",
			Defect: "what is sent to all is delivered on the sender's instance at once, and once more when the broker brings it",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				if to.All {
					here := h.node.world.find(func(c *connection) bool { return c.hub == h && !c.over })
					_ = h.wholeHub.Send(ctx, hubtest.Target{Connections: here, Except: to.Except}, payload)
				}
				return h.wholeHub.Send(ctx, to, payload)
			}),
		},
		{
			Name: "groups-here-only", Breaks: "deliver/group",
			Defect: "the members of a group on other instances get nothing",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				if len(to.Groups) > 0 && !isFence(payload) {
					to = h.but(to, func(c *connection) bool { return c.hub != h })
				}
				return h.wholeHub.Send(ctx, to, payload)
			}),
		},
		{
			Name: "groups-to-all", Breaks: "deliver/group",
			Defect: "what is sent to a group is sent to all, for the clients to sort out",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				if len(to.Groups) > 0 {
					to = hubtest.Target{All: true, Except: to.Except}
				}
				return h.wholeHub.Send(ctx, to, payload)
			}),
		},
		{
			Name: "user-has-one", Breaks: "deliver/user",
			Defect: "only the first connection of a user is known",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				known := map[string]bool{}
				if !isFence(payload) && len(to.Users) > 0 {
					to = h.but(to, func(c *connection) bool {
						again := known[c.user]
						known[c.user] = true
						return again && slices.Contains(to.Users, c.user)
					})
				}
				return h.wholeHub.Send(ctx, to, payload)
			}),
		},
		{
			Name: "user-unsubscribed", Breaks: "deliver/user-counted",
			Defect: "when one connection of a user leaves, the instance forgets the user",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				left := map[string]bool{}
				h.node.world.find(func(c *connection) bool { left[c.user] = left[c.user] || c.over; return false })
				if !isFence(payload) && len(to.Users) > 0 {
					to = h.but(to, func(c *connection) bool { return left[c.user] && slices.Contains(to.Users, c.user) })
				}
				return h.wholeHub.Send(ctx, to, payload)
			}),
		},
		{
			Name: "local-twice", Breaks: "deliver/connection",
			Defect: "a send to a connection of this instance takes the short way, and the way over the broker as well",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				if len(to.Connections) == 1 && h.node.world.isOf(h.node, to.Connections[0]) {
					_ = h.wholeHub.Send(ctx, to, payload)
				}
				return h.wholeHub.Send(ctx, to, payload)
			}),
		},
	}
}

func received() []Mutant {
	return []Mutant{
		{
			Name: "except-here-only", Breaks: "deliver/except",
			Defect: "an except-list is forgotten on other instances",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				to.Except = slices.DeleteFunc(slices.Clone(to.Except), func(id string) bool { return !h.node.world.isOf(h.node, id) })
				return h.wholeHub.Send(ctx, to, payload)
			}),
		},
		{
			Name: "gone-is-there", Breaks: "deliver/nobody-gone",
			Defect: "a client that has left is still written to",
			hub:    func(h *hub) { h.gone = func(*connection) {} },
		},
		{
			Name: "joins-later", Breaks: "deliver/barrier",
			Defect: "Join returns before the subscription is in force",
			hub: func(h *hub) {
				h.joins = func(_ context.Context, c *connection, group string) error {
					late(func() { _ = c.Connection.Join(context.Background(), group) })
					return nil
				}
			},
		},
		{
			Name: "out-of-order", Breaks: "deliver/order",
			Defect: "a message may be overtaken by the next one",
			hub: func(h *hub) {
				var mu sync.Mutex
				var held func()
				h.send = func(ctx context.Context, to hubtest.Target, payload []byte) error {
					mu.Lock()
					defer mu.Unlock()
					if held == nil && !isFence(payload) {
						payload = bytes.Clone(payload)
						held = func() { _ = h.wholeHub.Send(context.Background(), to, payload) }
						return nil
					}
					err := h.wholeHub.Send(ctx, to, payload)
					if held != nil {
						held()
					}
					held = nil
					return err
				}
			},
		},
		{
			Name: "payload-text", Breaks: "deliver/payload",
			Defect: "payloads are taken for text",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				return h.wholeHub.Send(ctx, to, []byte(strings.ToValidUTF8(string(payload), "?")))
			}),
		},
		{
			Name: "payload-cut", Breaks: "deliver/payload",
			Defect: "payloads are cut at 64 KiB",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				return h.wholeHub.Send(ctx, to, payload[:min(len(payload), 64<<10)])
			}),
		},
		{
			Name: "too-large-cut", Breaks: "deliver/payload",
			Defect: "what is too large is cut to what fits",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				return h.wholeHub.Send(ctx, to, payload[:min(len(payload), 1<<20-16<<10)])
			}),
		},
		{
			Name: "payload-kept", Breaks: "deliver/payload",
			Defect: "Send returns while it still reads the caller's buffer",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				if isFence(payload) || len(payload) == 0 {
					return h.wholeHub.Send(ctx, to, payload)
				}
				first := payload[0] + 1 // what the caller may have written there by now
				return h.wholeHub.Send(ctx, to, append([]byte{first}, payload[1:]...))
			}),
		},
	}
}

// isFence reports whether a payload is of the suite's own: a defect that stops these would be seen by waiting only.
func isFence(payload []byte) bool { return bytes.HasPrefix(payload, []byte("\x00fence ")) }
