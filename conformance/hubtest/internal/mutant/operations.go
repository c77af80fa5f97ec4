package mutant

import (
	"context"
	"errors"
	"fmt"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/hubkit"
)

// operating makes a defect of how a hub does an operation.
func operating(f func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error)) func(*hub) {
	return func(h *hub) {
		h.operate = func(ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
			return f(h, ctx, op, of, with)
		}
	}
}

// early acknowledges an operation on another instance's connection before it is effective.
func early(early string) func(*hub) {
	return operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
		if op != early || !h.foreign(of) {
			return h.healthy(ctx, op, of, with)
		}
		late(func() { _, _ = h.healthy(context.Background(), op, of, with) })
		return 1, nil
	})
}

func operations() []Mutant {
	return []Mutant{
		{
			Name: "join-early", Breaks: "remote/join-is-effective",
			Defect: "Join of another instance's connection returns before it is effective",
			hub:    early(join),
		},
		{
			Name: "leave-early", Breaks: "remote/leave-is-effective",
			Defect: "Leave of another instance's connection returns before it is effective",
			hub:    early(leave),
		},
		{
			Name: "disconnect-early", Breaks: "remote/disconnect-is-effective",
			Defect: "Disconnect of another instance's connection returns before it is effective",
			hub:    early(disconnect),
		},
		{
			Name: "reason-lost", Breaks: "remote/disconnect-is-effective",
			Defect: "the reason of a disconnect does not travel",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				if op == disconnect && h.foreign(of) {
					with = ""
				}
				return h.healthy(ctx, op, of, with)
			}),
		},
		{
			Name: "leave-once", Breaks: "remote/idempotent",
			Defect: "leaving what was not joined is an error",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				n, err := h.healthy(ctx, op, of, with)
				if op == leave && n == 0 && err == nil {
					err = fmt.Errorf("%w: it is no member", hubkit.ErrNotFound)
				}
				return n, err
			}),
		},
		{
			Name: "not-found-as-timeout", Breaks: "remote/not-found",
			Defect: "who is gone is waited for until the time is over",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				n, err := h.healthy(ctx, op, of, with)
				if errors.Is(err, hubkit.ErrNotFound) {
					err = backplane.ErrTimeout
				}
				return n, err
			}),
		},
		{
			Name: "gone-as-success", Breaks: "remote/not-found",
			Defect: "an operation on who is gone succeeds",
			hub: operating(func(h *hub, ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
				n, err := h.healthy(ctx, op, of, with)
				if errors.Is(err, hubkit.ErrNotFound) {
					err = nil
				}
				return n, err
			}),
		},
	}
}
