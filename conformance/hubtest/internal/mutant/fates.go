package mutant

import (
	"context"
	"errors"
	"slices"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/hubkit"
)

func dying() []Mutant {
	lost := func(as error) func(*hub) {
		return operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
			n, err := h.healthy(ctx, op, of, with)
			if errors.Is(err, backplane.ErrNodeLost) && len(of.Connections) == 1 {
				err = as
			}
			return n, err
		})
	}
	return []Mutant{
		{Name: "lost-as-timeout", Breaks: "death/pending", Defect: "the death of an instance is told as silence", hub: lost(backplane.ErrTimeout)},
		{
			Name: "missing-hidden", Breaks: "death/pending",
			Defect: "an answer does not say whom it misses",
			hub: counting(func(h *hub, ctx context.Context, of hubtest.Target) (hubtest.Count, error) {
				c, err := h.wholeHub.Count(ctx, of)
				c.Missing = nil
				return c, err
			}),
		},
		{
			Name: "ghosts", Breaks: "death/no-ghosts",
			Defect: "the connections of an instance that died stay in the broker's table",
			hub: counting(func(h *hub, ctx context.Context, of hubtest.Target) (hubtest.Count, error) {
				c, err := h.wholeHub.Count(ctx, of)
				if len(c.Missing) == 0 {
					c.Connections += len(h.node.world.find(func(c *connection) bool { return c.hub.node.cut && slices.Contains(of.Users, c.user) }))
				}
				return c, err
			}),
		},
		{Name: "lost-as-not-found", Breaks: "death/no-ghosts", Defect: "who cannot be reached is taken for gone", hub: lost(hubkit.ErrNotFound)},
		{
			Name: "no-goodbye", Breaks: "death/goodbye",
			Defect: "an instance that is closed says nothing to the others",
			node: func(n *node) {
				n.close = func(ctx context.Context) error {
					f := n.wholeNode.Faults()
					f.Cut()
					late(f.Heal)
					return n.wholeNode.Close(ctx)
				}
			},
		},
	}
}

func outages() []Mutant {
	return []Mutant{
		{
			Name: "unavailable-as-timeout", Breaks: "outage/unavailable",
			Defect: "an outage of one's own is told as the silence of others",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				n, err := h.healthy(ctx, op, of, with)
				if errors.Is(err, backplane.ErrUnavailable) {
					err = backplane.ErrTimeout
				}
				return n, err
			}),
		},
		{
			Name: "restored-in-part", Breaks: "outage/everybody",
			Defect: "after an outage those groups are forgotten that a connection did not join by itself",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				if len(to.Groups) == 1 && !isFence(payload) {
					to = h.but(to, func(c *connection) bool { return c.hub.node.cut && !c.groups[to.Groups[0]] })
				}
				return h.wholeHub.Send(ctx, to, payload)
			}),
		},
		{
			Name: "join-anyway", Breaks: "outage/join-fails-clean",
			Defect: "a join that failed is done when the link is back",
			hub: func(h *hub) {
				h.joins = func(ctx context.Context, c *connection, group string) error {
					err := c.Connection.Join(ctx, group)
					if err != nil {
						later := context.WithoutCancel(ctx)
						go func() { _ = c.Connection.Join(later, group) }()
					}
					return err
				}
			},
		},
		{
			Name: "late-join-wins", Breaks: "outage/timeout",
			Defect: "an operation that timed out is sent again when the instance answers",
			hub: func(h *hub) {
				var again func()
				h.operate = func(ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
					n, err := h.healthy(ctx, op, of, with)
					switch {
					case errors.Is(err, backplane.ErrTimeout) && op == join:
						again = func() { _, _ = h.healthy(context.Background(), op, of, with) }
					case err == nil && again != nil:
						again()
					}
					return n, err
				}
			},
		},
		{
			Name: "partial-hidden", Breaks: "outage/partial",
			Defect: "an operation that not everybody has heard of succeeds",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				n, err := h.healthy(ctx, op, of, with)
				if errors.Is(err, hubkit.ErrPartial) {
					err = nil
				}
				return n, err
			}),
		},
	}
}

func wide() []Mutant {
	return []Mutant{
		{
			Name: "first-session-only", Breaks: "wide/sessions",
			Defect: "Disconnect of a user ends the first session that is found",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				if op == disconnect && len(of.Users) == 1 {
					sessions := h.node.world.find(func(c *connection) bool { return c.user == of.Users[0] })
					return h.healthy(ctx, op, hubtest.Target{Connections: sessions[:1]}, with)
				}
				return h.healthy(ctx, op, of, with)
			}),
		},
		{
			Name: "operation-forgets-except", Breaks: "wide/targets",
			Defect: "the except-list of an operation does not travel",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				of.Except = slices.DeleteFunc(slices.Clone(of.Except), func(id string) bool { return !h.node.world.isOf(h.node, id) })
				return h.healthy(ctx, op, of, with)
			}),
		},
		{
			Name: "operation-first-group", Breaks: "wide/targets",
			Defect: "an operation on several groups is done to the first",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				of.Groups = of.Groups[:min(len(of.Groups), 1)]
				return h.healthy(ctx, op, of, with)
			}),
		},
		{
			Name: "half-done", Breaks: "wide/bad-input",
			Defect: "the parts of a target are done one after the other, up to the one that is wrong",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				if op != join {
					return h.healthy(ctx, op, of, with)
				}
				sum := 0
				for _, part := range parts(of) {
					n, err := h.healthy(ctx, op, part, with)
					if sum += n; err != nil {
						return sum, err
					}
				}
				return sum, nil
			}),
		},
		{
			Name: "part-gone-hidden", Breaks: "wide/part-gone",
			Defect: "who of several is gone is not told",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				n, err := h.healthy(ctx, op, of, with)
				if errors.Is(err, hubkit.ErrNotFound) && len(of.Connections) > 1 {
					err = nil
				}
				return n, err
			}),
		},
	}
}

func races() []Mutant {
	return []Mutant{
		{
			Name: "late-join-leaks", Breaks: "race/join-disconnect",
			Defect: "a join that comes after the end of its connection leaves a member behind",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				n, err := h.healthy(ctx, op, of, with)
				if op == join && errors.Is(err, hubkit.ErrNotFound) {
					if left, refused := h.wholeHub.Connect(ctx, nobody{}, hubtest.ConnectOptions{}); refused == nil {
						_ = left.Join(ctx, with)
					}
				}
				return n, err
			}),
		},
		{
			Name: "joins-collide", Breaks: "race/crowd",
			Defect: "of two joins that come at once one is lost",
			hub: func(h *hub) {
				busy := make(chan struct{}, 1)
				h.operate = func(ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
					if op != join {
						return h.healthy(ctx, op, of, with)
					}
					select {
					case busy <- struct{}{}:
						defer func() { <-busy }()
						return h.healthy(ctx, op, of, with)
					default:
						return 1, nil
					}
				}
			},
		},
	}
}

// nobody is a client that nobody knows of.
type nobody struct{}

func (nobody) Deliver(context.Context, hubtest.Delivery) error { return nil }
func (nobody) Ask(context.Context, string, []byte) error       { return nil }
func (nobody) Close(hubtest.Reason)                            {}
