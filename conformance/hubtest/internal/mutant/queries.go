package mutant

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/hubkit"
)

// counting makes a defect of how a hub counts.
func counting(f func(h *hub, ctx context.Context, of hubtest.Target) (hubtest.Count, error)) func(*hub) {
	return func(h *hub) {
		h.count = func(ctx context.Context, of hubtest.Target) (hubtest.Count, error) { return f(h, ctx, of) }
	}
}

// listing makes a defect of how a hub lists.
func listing(f func(h *hub, ctx context.Context, of hubtest.Target, limit int, token string) (hubtest.Page, error)) func(*hub) {
	return func(h *hub) {
		h.list = func(ctx context.Context, of hubtest.Target, limit int, token string) (hubtest.Page, error) {
			return f(h, ctx, of, limit, token)
		}
	}
}

func queries() []Mutant {
	return []Mutant{
		{
			Name: "count-sums", Breaks: "query/count",
			Defect: "a count is the sum over all that is named",
			hub: counting(func(h *hub, ctx context.Context, of hubtest.Target) (sum hubtest.Count, err error) {
				for _, part := range parts(of) {
					c, err := h.wholeHub.Count(ctx, part)
					if err != nil {
						return c, err
					}
					sum.Connections += c.Connections
					sum.Coverage = c.Coverage
				}
				return sum, nil
			}),
		},
		{
			Name: "count-here-only", Breaks: "query/count",
			Defect: "a count is that of the asked instance",
			hub: counting(func(h *hub, ctx context.Context, of hubtest.Target) (hubtest.Count, error) {
				return h.wholeHub.Count(ctx, h.but(of, func(c *connection) bool { return c.hub.node != h.node }))
			}),
		},
		{
			Name: "exists-forgets-except", Breaks: "query/count",
			Defect: "Exists does not look at the except-list",
			hub: func(h *hub) {
				h.exists = func(ctx context.Context, of hubtest.Target) (bool, error) {
					of.Except = nil
					return h.wholeHub.Exists(ctx, of)
				}
			},
		},
		{
			Name: "page-overlaps", Breaks: "query/list",
			Defect: "a page begins with the last entry of the page before",
			hub: func(h *hub) {
				last := map[string]hubtest.Info{} // by token
				listing(func(h *hub, ctx context.Context, of hubtest.Target, limit int, token string) (hubtest.Page, error) {
					p, err := h.wholeHub.List(ctx, of, limit, token)
					if again, ok := last[token]; ok && len(p.Connections) < limit {
						p.Connections = slices.Insert(p.Connections, 0, again)
					}
					if len(p.Connections) > 0 {
						h.node.world.mu.Lock()
						defer h.node.world.mu.Unlock()
						for _, other := range h.node.world.hubs {
							other.lists(p.Next, p.Connections[len(p.Connections)-1])
						}
					}
					return p, err
				})(h)
				h.lists = func(token string, info hubtest.Info) { last[token] = info }
			},
		},
		{
			Name: "page-by-position", Breaks: "query/list-stable",
			Defect: "a page begins at a position",
			hub: listing(func(h *hub, ctx context.Context, of hubtest.Target, limit int, token string) (hubtest.Page, error) {
				all, err := h.wholeHub.List(ctx, of, 1000, "")
				from, _ := strconv.Atoi(token)
				rest := all.Connections[min(from, len(all.Connections)):]
				all.Connections = rest[:min(limit, len(rest))]
				if len(rest) > limit {
					all.Next = strconv.Itoa(from + limit)
				}
				return all, err
			}),
		},
		{
			Name: "token-ignored", Breaks: "query/token",
			Defect: "a page token that does not fit is taken for the first page",
			hub: listing(func(h *hub, ctx context.Context, of hubtest.Target, limit int, token string) (hubtest.Page, error) {
				p, err := h.wholeHub.List(ctx, of, limit, token)
				if errors.Is(err, hubkit.ErrInvalidToken) {
					return h.wholeHub.List(ctx, of, limit, "")
				}
				return p, err
			}),
		},
		{
			Name: "coverage-hidden", Breaks: "query/after-outage",
			Defect: "answers do not say what they miss",
			hub: counting(func(h *hub, ctx context.Context, of hubtest.Target) (hubtest.Count, error) {
				c, err := h.wholeHub.Count(ctx, of)
				c.Coverage = hubtest.Coverage{}
				return c, err
			}),
		},
		{
			Name: "settling-hidden", Breaks: "query/unknown-instance",
			Defect: "an instance believes the list of members that it has",
			hub: counting(func(h *hub, ctx context.Context, of hubtest.Target) (hubtest.Count, error) {
				c, err := h.wholeHub.Count(ctx, of)
				c.Settling = false
				return c, err
			}),
		},
	}
}
