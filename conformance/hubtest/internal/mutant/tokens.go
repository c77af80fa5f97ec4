package mutant

import (
	"context"
	"errors"
	"slices"

	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/hubkit"
)

// welcoming accepts some of the tokens that are to be refused: the client is taken for a new one.
func welcoming(some error) func(*hub) {
	return func(h *hub) {
		h.connect = func(ctx context.Context, c hubtest.Client, o hubtest.ConnectOptions) (hubtest.Connection, error) {
			conn, err := h.wholeHub.Connect(ctx, c, o)
			if errors.Is(err, some) {
				o.Token = ""
				return h.wholeHub.Connect(ctx, c, o)
			}
			return conn, err
		}
	}
}

func tokens() []Mutant {
	return []Mutant{
		{
			Name: "restored-late", Breaks: "resume/restored",
			Defect: "the groups of a client that comes back are restored a moment after Connect",
			hub: func(h *hub) {
				h.connect = func(ctx context.Context, c hubtest.Client, o hubtest.ConnectOptions) (hubtest.Connection, error) {
					conn, err := h.wholeHub.Connect(ctx, c, o)
					if err != nil || o.Token == "" {
						return conn, err
					}
					for _, group := range h.node.world.restored() {
						_ = conn.Leave(ctx, group)
						late(func() { _ = conn.Join(context.Background(), group) })
					}
					return conn, nil
				}
			},
			node: restoring(func(_ *node, _ []string, healthy func() []string) []string { return healthy() }),
		},
		{
			Name: "away-not-told", Breaks: "resume/restored",
			Defect: "a client that comes back is not told that it may have missed something",
			hub: writing(func(_ *hub, w *writer) {
				w.deliver = func(ctx context.Context, d hubtest.Delivery) error {
					if d.Gap != "" && d.Payload == nil {
						return nil
					}
					d.Gap = ""
					return w.Client.Deliver(ctx, d)
				}
			}),
		},
		{
			Name: "ghost-kept", Breaks: "resume/ghost",
			Defect: "an old connection is left to its time-out",
			hub:    func(h *hub) { h.connect = h.anew },
		},
		{
			Name: "hook-ignored", Breaks: "resume/hook",
			Defect: "what a token says is restored, whatever the hook says",
			node: restoring(func(_ *node, groups []string, healthy func() []string) []string {
				healthy()
				return groups
			}),
		},
		{Name: "forged-accepted", Breaks: "resume/refused", Defect: "a forged token is accepted", hub: welcoming(hubkit.ErrResumeForged)},
		{
			Name: "foreign-accepted", Breaks: "resume/refused",
			Defect: "a token of another hub is accepted", hub: welcoming(hubkit.ErrResumeForeign),
		},
		{
			Name: "token-of-another", Breaks: "resume/refused",
			Defect: "a token of another user is accepted", hub: welcoming(hubkit.ErrResumeUser),
		},
		{
			Name: "token-reused", Breaks: "resume/twice",
			Defect: "a token may be used again while its client is connected",
			hub:    func(h *hub) { h.connect = h.anew },
		},
		{
			Name: "ended-accepted", Breaks: "resume/ended",
			Defect: "the token of a client that was thrown out is accepted", hub: welcoming(hubkit.ErrResumeEnded),
		},
		{
			Name: "old-instance-needed", Breaks: "resume/death",
			Defect: "the groups of a client are known by its old instance alone",
			node: restoring(func(n *node, groups []string, healthy func() []string) []string {
				n.world.mu.Lock()
				defer n.world.mu.Unlock()
				for _, c := range n.world.conns {
					if c.hub.node.cut {
						return nil
					}
				}
				return healthy()
			}),
		},
		{
			Name: "expired-accepted", Breaks: "resume/expired",
			Defect: "a token is accepted for ever", hub: welcoming(hubkit.ErrResumeExpired),
		},
	}
}

// restoring makes a defect of what is restored, and notes the groups that are.
func restoring(f func(n *node, groups []string, healthy func() []string) []string) func(*node) {
	return func(n *node) {
		n.hooks = func(hooks hubtest.Hooks) hubtest.Hooks {
			if healthy := hooks.Restore; healthy != nil {
				hooks.Restore = func(user string, groups []string) []string {
					still := f(n, groups, func() []string { return healthy(user, groups) })
					n.world.mu.Lock()
					defer n.world.mu.Unlock()
					n.world.still = slices.Clone(still)
					return still
				}
			}
			return hooks
		}
	}
}

// restored returns the groups that were restored last.
func (w *world) restored() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.still
}

// anew takes a client with a token for a new one, in the groups of the connection that the token was given to.
func (h *hub) anew(ctx context.Context, c hubtest.Client, o hubtest.ConnectOptions) (hubtest.Connection, error) {
	if o.Token == "" {
		return h.wholeHub.Connect(ctx, c, o)
	}
	o.Token = ""
	if o.User == "" {
		o.User = "u"
	}
	conn, err := h.wholeHub.Connect(ctx, c, o)
	if err == nil {
		err = conn.Join(ctx, "4B")
	}
	return conn, err
}
