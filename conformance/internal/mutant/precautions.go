package mutant

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// comforts are mutants that mean well: they unpack and they round.
func comforts() []Mutant {
	return []Mutant{
		{
			Name: "eight-workers", Defect: "eight goroutines call all handlers of an instance.", Breaks: "pressure/handler",
			Seen: "a pool of workers of a fixed size",
			world: each(func(n *Node) {
				workers := make(chan struct{}, 8)
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					select {
					case workers <- struct{}{}:
					case <-ctx.Done():
						return
					}
					defer func() { <-workers }()
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "unpacks-what-was-packed", Breaks: "payload/intact",
			Defect: "a payload that is a gzip stream arrives unpacked.",
			Seen:   "clients that compress what is large, and know it by its first two bytes",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if m, ok := message(e); ok {
						if plain, ok := unpacked(m.Payload); ok {
							e = &backplane.Message{Address: m.Address, Publisher: m.Publisher, Payload: plain}
						}
					}
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "deadlines-in-whole-seconds", Breaks: "ctx/deadline",
			Defect: "a deadline that is less than a second away is rounded to 0 seconds, which means none.",
			Seen:   "timeouts in whole seconds, and 0 for blocking, as in BLPOP of Redis before version 6",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					ctx, stop := inWholeSeconds(ctx)
					defer stop()
					return n.Node.Publish(ctx, to, payload)
				}
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					ctx, stop := inWholeSeconds(ctx)
					defer stop()
					return n.subscribeHealthy(ctx, to, h)
				}
				n.ask = func(ctx context.Context, node backplane.NodeID, service string, request []byte) ([]byte, error) {
					ctx, stop := inWholeSeconds(ctx)
					defer stop()
					return n.Node.Ask(ctx, node, service, request)
				}
			}),
		},
	}
}

// unpacked returns what a gzip stream holds; false for what is none.
func unpacked(payload []byte) ([]byte, bool) {
	if !bytes.HasPrefix(payload, []byte{0x1f, 0x8b}) {
		return nil, false
	}
	r, err := gzip.NewReader(bytes.NewReader(payload))
	if err != nil {
		return nil, false
	}
	plain, err := io.ReadAll(io.LimitReader(r, 16<<20))
	return plain, err == nil
}

// inWholeSeconds returns a context without a deadline where there is less than a second left.
func inWholeSeconds(ctx context.Context) (context.Context, func()) {
	deadline, ok := ctx.Deadline()
	if !ok || ctx.Err() != nil || time.Until(deadline) >= time.Second {
		return ctx, func() {}
	}
	forever, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unwatch := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel()
		}
	})
	return forever, func() {
		unwatch()
		cancel()
	}
}

// precautions are mutants that spare the broker, the program or its clients something.
func precautions() []Mutant {
	const (
		tolerated  = 3
		openFor    = 30 * time.Second
		remembered = 30 * time.Second
		blip       = 2 * time.Second
	)
	return []Mutant{
		{
			Name: "circuit-breaker", Breaks: "link/publish-down",
			Defect: "after three publishes in a row that failed, all are refused for 30 seconds, also when the link is back.",
			Seen:   "gobreaker or Hystrix around a client that reconnects by itself",
			world: each(func(n *Node) {
				var mu sync.Mutex
				failed, until := 0, time.Time{}
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					mu.Lock()
					tripped := time.Now().Before(until)
					mu.Unlock()
					if tripped {
						return refused("publish", to, backplane.ErrUnavailable)
					}
					err := n.Node.Publish(ctx, to, payload)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						failed = 0
					case errors.Is(err, backplane.ErrUnavailable), errors.Is(err, backplane.ErrUncertain):
						if failed++; failed >= tolerated {
							failed, until = 0, time.Now().Add(openFor)
						}
					}
					return err //nolint:wrapcheck // the healthy instance's word, as it is
				}
			}),
		},
		{
			Name: "failure-is-remembered", Breaks: "link/subscribe-down",
			Defect: "a Subscribe that failed is answered for 30 seconds with the same error when it is tried again.",
			Seen:   "a cache that keeps failures like results",
			world: each(func(n *Node) {
				type failure struct {
					err error
					at  time.Time
				}
				var mu sync.Mutex
				failures := map[backplane.Address]failure{}
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					mu.Lock()
					old, ok := failures[to]
					mu.Unlock()
					if ok && time.Since(old.at) < remembered {
						return nil, old.err
					}
					s, err := n.subscribeHealthy(ctx, to, h)
					if err != nil && !errors.Is(err, backplane.ErrClosed) && !errors.Is(err, backplane.ErrInvalidAddress) {
						mu.Lock()
						failures[to] = failure{err, time.Now()}
						mu.Unlock()
					}
					return s, err
				}
			}),
		},
		{
			Name: "blips-are-nothing", Breaks: "link/gap-complete",
			Defect: "an outage of less than two seconds is not told.",
			Seen:   "a grace period, so that clients do not fetch anew for a moment's outage",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if g, ok := e.(*backplane.Gap); ok && g.Cause == backplane.GapLink && time.Since(g.Since) < blip {
						return
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}
