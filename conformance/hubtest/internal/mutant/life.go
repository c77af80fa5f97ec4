package mutant

import (
	"context"
	"slices"
	"time"

	"github.com/gobackplane/backplane/conformance/hubtest"
)

// draining makes a defect of how a hub drains.
func draining(f func(h *hub, ctx context.Context, over time.Duration) (hubtest.Drained, error)) func(*hub) {
	return func(h *hub) {
		h.drain = func(ctx context.Context, over time.Duration) (hubtest.Drained, error) { return f(h, ctx, over) }
	}
}

// hooking makes a defect of what a hub tells its hooks.
func hooking(f func(hooks hubtest.Hooks) hubtest.Hooks) func(*node) {
	return func(n *node) { n.hooks = f }
}

func life() []Mutant {
	return []Mutant{
		{
			Name: "gap-not-told", Breaks: "gap/told",
			Defect: "clients are not told of gaps",
			hub: writing(func(_ *hub, w *writer) {
				w.deliver = func(ctx context.Context, d hubtest.Delivery) error {
					d.Gap = ""
					return w.Client.Deliver(ctx, d)
				}
			}),
		},
		{
			Name: "gap-told-twice", Breaks: "gap/told",
			Defect: "a client is told of a gap for each of its groups",
			hub: writing(func(_ *hub, w *writer) {
				w.deliver = func(ctx context.Context, d hubtest.Delivery) error {
					if d.Gap != "" {
						_ = w.Client.Deliver(ctx, hubtest.Delivery{Gap: d.Gap})
					}
					return w.Client.Deliver(ctx, d)
				}
			}),
		},
		{
			Name: "hook-for-each", Breaks: "gap/hook",
			Defect: "the gap hook is called for each connection",
			node: hooking(func(hooks hubtest.Hooks) hubtest.Hooks {
				healthy := hooks.Gap
				hooks.Gap = func(cause string, connections []string) {
					for _, id := range connections {
						healthy(cause, []string{id})
					}
				}
				return hooks
			}),
		},
		{
			Name: "hook-names-twice", Breaks: "gap/hook",
			Defect: "the gap hook gets a connection for each of its groups",
			node: hooking(func(hooks hubtest.Hooks) hubtest.Hooks {
				healthy := hooks.Gap
				hooks.Gap = func(cause string, connections []string) { healthy(cause, slices.Repeat(connections, 2)) }
				return hooks
			}),
		},
		{
			Name: "states-repeat", Breaks: "gap/states",
			Defect: "the state hook is called at each check",
			node: hooking(func(hooks hubtest.Hooks) hubtest.Hooks {
				healthy := hooks.State
				hooks.State = func(state string) {
					healthy(state)
					healthy(state)
				}
				return hooks
			}),
		},
		{
			Name: "drain-accepts", Breaks: "drain/refuses",
			Defect: "a drain sends the present connections away and nothing else",
			hub: draining(func(h *hub, ctx context.Context, _ time.Duration) (hubtest.Drained, error) {
				n, err := h.healthy(ctx, disconnect, hubtest.Target{Connections: h.here()}, "")
				return hubtest.Drained{Connections: n}, err
			}),
		},
		{
			Name: "drain-discards", Breaks: "drain/flushes",
			Defect: "a drain closes connections as they are",
			hub: draining(func(h *hub, ctx context.Context, over time.Duration) (hubtest.Drained, error) {
				ended, cancel := context.WithCancel(ctx)
				cancel()
				d, _ := h.wholeHub.Drain(ended, over)
				return d, nil
			}),
		},
		{
			Name: "drain-reports-nothing", Breaks: "drain/reports",
			Defect: "a drain does not tell what was not written",
			hub: draining(func(h *hub, ctx context.Context, over time.Duration) (hubtest.Drained, error) {
				d, err := h.wholeHub.Drain(ctx, over)
				d.Remained = nil
				return d, err
			}),
		},
		{
			Name: "drain-at-once", Breaks: "drain/paced",
			Defect: "a drain sends everybody away at the same moment",
			hub: draining(func(h *hub, ctx context.Context, _ time.Duration) (hubtest.Drained, error) {
				return h.wholeHub.Drain(ctx, time.Nanosecond)
			}),
		},
		{
			Name: "goroutine-left", Breaks: "close/clean",
			Defect: "a goroutine of a question outlives its hub",
			hub: invoking(func(h *hub, ctx context.Context, connection string, request []byte) ([]byte, error) {
				go waitsFor(time.After(time.Hour))
				return h.wholeHub.Invoke(ctx, connection, request)
			}),
		},
	}
}

func userGroups() []Mutant {
	return []Mutant{
		{
			Name: "user-present-only", Breaks: "user/future",
			Defect: "a user's membership is that of the connections of the moment",
			hub: func(h *hub) {
				h.joinUser = func(ctx context.Context, user, group string, _ time.Duration) (int, error) {
					return h.wholeHub.Join(ctx, hubtest.Target{Users: []string{user}}, group)
				}
			},
		},
		{
			Name: "user-record-kept", Breaks: "user/leave",
			Defect: "ending a user's membership is a leave of the connections of the moment",
			hub: func(h *hub) {
				h.leaveUser = func(ctx context.Context, user, group string) (int, error) {
					return h.wholeHub.Leave(ctx, hubtest.Target{Users: []string{user}}, group)
				}
			},
		},
		{
			Name: "user-time-of-record", Breaks: "user/time",
			Defect: "when a user's membership ends by its time, present connections stay",
			hub: func(h *hub) {
				h.joinUser = func(ctx context.Context, user, group string, ttl time.Duration) (int, error) {
					n, err := h.wholeHub.JoinUser(ctx, user, group, ttl)
					if err == nil && ttl > 0 {
						late(func() { _, _ = h.wholeHub.Join(context.Background(), hubtest.Target{Users: []string{user}}, group) })
					}
					return n, err
				}
			},
			Waits: true,
		},
		{
			Name: "user-in-memory", Breaks: "user/survives",
			Defect: "a user's memberships are kept by the instance that made them",
			node: func(n *node) {
				n.forget = func() {
					for _, h := range n.world.hubs {
						if h.node != n {
							late(func() { _, _ = h.wholeHub.LeaveUser(context.Background(), "u", "team") })
							return
						}
					}
				}
			},
		},
	}
}

func waitsFor(c <-chan time.Time) { <-c }

// here returns the ids of the connections of this instance.
func (h *hub) here() []string {
	return h.node.world.find(func(c *connection) bool { return c.hub == h && !c.over })
}
