package mutant

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/gobackplane/backplane/conformance/hubtest"
)

// writer is a client with something between it and the hub.
type writer struct {
	hubtest.Client

	deliver func(ctx context.Context, d hubtest.Delivery) error
	ask     func(ctx context.Context, question string, request []byte) error
	close   func(hubtest.Reason)
}

func (w *writer) Deliver(ctx context.Context, d hubtest.Delivery) error {
	if w.deliver != nil {
		return w.deliver(ctx, d)
	}
	return w.Client.Deliver(ctx, d)
}

func (w *writer) Ask(ctx context.Context, question string, request []byte) error {
	if w.ask != nil {
		return w.ask(ctx, question, request)
	}
	return w.Client.Ask(ctx, question, request)
}

func (w *writer) Close(reason hubtest.Reason) {
	if w.close != nil {
		w.close(reason)
		return
	}
	w.Client.Close(reason)
}

// writing makes a defect between a hub and its clients.
func writing(f func(h *hub, w *writer)) func(*hub) {
	return func(h *hub) {
		h.client = func(c hubtest.Client) hubtest.Client {
			w := &writer{Client: c}
			f(h, w)
			return w
		}
	}
}

func clients() []Mutant {
	return []Mutant{
		{
			Name: "writes-in-turn", Breaks: "slow/stuck-alone", Waits: true,
			Defect: "one goroutine writes to all clients of an instance",
			hub: func(h *hub) {
				turn := make(chan struct{}, 1)
				writing(func(_ *hub, w *writer) {
					w.deliver = func(ctx context.Context, d hubtest.Delivery) error {
						turn <- struct{}{}
						defer func() { <-turn }()
						return w.Client.Deliver(ctx, d)
					}
				})(h)
			},
		},
		{
			Name: "stuck-forgotten", Breaks: "slow/stuck-alone",
			Defect: "what cannot be written at once is dropped without a word",
			hub: writing(func(_ *hub, w *writer) {
				w.deliver = func(ctx context.Context, d hubtest.Delivery) error {
					ctx, cancel := context.WithCancel(ctx)
					cancel()
					if err := w.Client.Deliver(ctx, d); !errors.Is(err, context.Canceled) {
						return err
					}
					return nil
				}
			}),
		},
		{
			Name: "failure-spreads", Breaks: "slow/failing-alone",
			Defect: "after a write that failed the instance delivers nothing to the other members",
			hub: func(h *hub) {
				var mu sync.Mutex
				failed := false
				writing(func(_ *hub, w *writer) {
					w.deliver = func(ctx context.Context, d hubtest.Delivery) error {
						mu.Lock()
						lost := failed && !isFence(d.Payload)
						mu.Unlock()
						if lost {
							return nil
						}
						err := w.Client.Deliver(ctx, d)
						mu.Lock()
						failed = failed || err != nil
						mu.Unlock()
						return err
					}
				})(h)
			},
		},
		{
			Name: "missed-not-told", Breaks: "slow/overflow-counted",
			Defect: "what an outbox drops is told to nobody",
			hub: writing(func(_ *hub, w *writer) {
				w.deliver = func(ctx context.Context, d hubtest.Delivery) error {
					d.Missed = 0
					return w.Client.Deliver(ctx, d)
				}
			}),
		},
		{
			Name: "missed-told-late", Breaks: "slow/overflow-counted",
			Defect: "what an outbox drops is told with the next message but one",
			hub: writing(func(_ *hub, w *writer) {
				missed := uint64(0)
				w.deliver = func(ctx context.Context, d hubtest.Delivery) error {
					missed, d.Missed = d.Missed, missed
					return w.Client.Deliver(ctx, d)
				}
			}),
		},
		{
			Name: "slow-unnamed", Breaks: "slow/overflow-closes",
			Defect: "a client that was too slow is told that all is well",
			hub: writing(func(_ *hub, w *writer) {
				w.close = func(reason hubtest.Reason) {
					if reason.Code == hubtest.ReasonSlow {
						reason.Code = hubtest.ReasonDone
					}
					w.Client.Close(reason)
				}
			}),
		},
		{
			Name: "disconnect-flushes", Breaks: "slow/disconnect-discards",
			Defect: "a second queue behind the outbox is written to the end before a connection is closed",
			hub:    writing(func(_ *hub, w *writer) { flushing(w) }),
		},
	}
}

// flushing puts a queue without a bound between a hub and a client.
func flushing(w *writer) {
	var mu sync.Mutex
	var queue []func()
	running := false
	put := func(f func()) {
		mu.Lock()
		defer mu.Unlock()
		if queue = append(queue, f); running {
			return
		}
		running = true
		go func() {
			for {
				mu.Lock()
				if len(queue) == 0 {
					running = false
					mu.Unlock()
					return
				}
				next := queue[0]
				queue = queue[1:]
				mu.Unlock()
				next()
			}
		}()
	}
	w.deliver = func(_ context.Context, d hubtest.Delivery) error {
		d.Payload = slices.Clone(d.Payload)
		put(func() { _ = w.Client.Deliver(context.Background(), d) })
		return nil
	}
	w.close = func(reason hubtest.Reason) { put(func() { w.Client.Close(reason) }) }
}
