package mutant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gobackplane/backplane"
)

// contexts are mutants that take no or too much notice of a context.
func contexts() []Mutant {
	return []Mutant{
		{
			Name: "canceled-publishes", Defect: "Publish looks at its context only while it waits.", Breaks: "ctx/canceled",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if ctx.Err() != nil {
						ctx = context.WithoutCancel(ctx)
					}
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
		{
			Name: "canceled-and-sent", Defect: "Publish with a canceled context says so, and sends all the same.", Breaks: "ctx/canceled",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if ctx.Err() != nil {
						_ = n.Node.Publish(context.WithoutCancel(ctx), to, payload)
						return refused("publish", to, fmt.Errorf("%w: %w", backplane.ErrUnavailable, ctx.Err()))
					}
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
		{
			Name: "canceled-subscribes", Defect: "Subscribe to an address that has subscriptions does not look at its context.", Breaks: "ctx/canceled",
			world: each(func(n *Node) {
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					if len(n.world.openSubs(func(s *Sub) bool { return s.n == n && s.to == to })) > 0 {
						ctx = context.WithoutCancel(ctx)
					}
					return n.subscribeHealthy(ctx, to, h)
				}
			}),
		},
		{
			Name: "publish-hangs-with-the-link", Defect: "Publish waits for the broker's answer for as long as it takes.", Breaks: "ctx/deadline",
			Seen: "a write on a socket without a deadline",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if ctx.Err() != nil {
						return n.Node.Publish(ctx, to, payload)
					}
					return n.Node.Publish(context.WithoutCancel(ctx), to, payload)
				}
			}),
		},
		{
			Name: "subscribe-takes-a-minute", Defect: "Subscribe has a timeout of its own instead of the caller's.", Breaks: "ctx/deadline",
			world: each(func(n *Node) {
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					if ctx.Err() == nil {
						own, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
						defer cancel()
						ctx = own
					}
					return n.subscribeHealthy(ctx, to, h)
				}
			}),
		},
		{
			Name: "ends-with-its-caller", Defect: "a subscription ends with the context of Subscribe.", Breaks: "ctx/scope",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "nats.go: a context passed on to the subscription; watermill's Subscribe, on purpose",
			world: each(func(n *Node) {
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					s, err := n.subscribeHealthy(ctx, to, h)
					if err == nil {
						context.AfterFunc(ctx, func() { s.deaf.Store(true) })
					}
					return s, err
				}
			}),
		},
		{
			Name: "callers-context", Defect: "handlers are called with the context of Subscribe.", Breaks: "ctx/scope",
			world: each(func(n *Node) {
				n.subscribe = func(caller context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					return n.subscribeHealthy(caller, to, func(_ context.Context, e backplane.Event) { h(caller, e) })
				}
			}),
		},
	}
}

// errings are mutants whose errors say too little, too much, or what is not so.
func errings() []Mutant {
	retold := func(retell func(to backplane.Address, payload []byte, err error) error) func(*World) func(*Node) {
		return each(func(n *Node) {
			n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
				if err := n.Node.Publish(ctx, to, payload); err != nil {
					return retell(to, payload, err)
				}
				return nil
			}
		})
	}
	return []Mutant{
		{
			Name: "address-unnamed", Defect: "errors do not name the address.", Breaks: "errors/documented",
			world: retold(func(_ backplane.Address, _ []byte, err error) error {
				return refused("publish", backplane.Address{}, errors.Unwrap(err))
			}),
		},
		{
			Name: "chain-cut", Defect: "the cause is in the text of an error only.", Breaks: "errors/documented",
			Seen: "fmt.Errorf with %v",
			world: retold(func(to backplane.Address, _ []byte, err error) error {
				return refused("publish", to, errors.New(errors.Unwrap(err).Error()))
			}),
		},
		{
			Name: "payload-shown", Defect: "errors show the message.", Breaks: "errors/documented",
			world: retold(func(to backplane.Address, payload []byte, err error) error {
				return refused("publish", to, fmt.Errorf("%w: %.64q", errors.Unwrap(err), payload))
			}),
		},
		{
			Name: "doubt-denied", Defect: "a deadline that passes while the message is on its way is told as unavailable.", Breaks: "errors/definite",
			world: retold(func(to backplane.Address, _ []byte, err error) error {
				if errors.Is(err, backplane.ErrUncertain) {
					return refused("publish", to, backplane.ErrUnavailable)
				}
				return err
			}),
		},
		{
			Name: "buffered-is-done", Defect: "Publish returns when the message is in a buffer, which is sent later.", Breaks: "publish/confirmed",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "nats.go: Publish without Flush",
			world: each(func(n *Node) {
				n.publish = n.publishLater(func([]byte) time.Duration { return time.Millisecond })
			}),
		},
	}
}
