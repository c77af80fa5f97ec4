package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

// What a context bounds.

func contextProperties() []Property {
	return []Property{
		{
			ID:    "ctx/canceled",
			Says:  "with a canceled context every verb returns promptly: Publish and Subscribe with its error, and nobody hears what was refused.",
			Why:   "a caller that has given up must not cause something later.",
			Often: "a context that is looked at only while waiting, work handed to a goroutine before.",
			Since: "v1", about: []string{"mustNot", "errors", "barrier", "must"}, run: ctxCanceled,
		},
		{
			ID:    "ctx/deadline",
			Says:  "deadlines hold while the link hangs, for every verb.",
			Why:   "a request would wait for as long as TCP does, and all its goroutines with it.",
			Often: "a write without a deadline, a lock held while waiting for an answer.",
			Needs: NeedLink, Since: "v1", about: []string{"errors", "mustNot", "must"}, run: ctxDeadline,
		},
		{
			ID:   "ctx/scope",
			Says: "the context of Subscribe bounds the call; the subscription outlives it, and its handler's context ends with the instance only.",
			Why:  "groups are joined from requests, which end.",
			Often: "the caller's context kept for the handler or for the reading loop, a context for each run, one that ends only " +
				"when all handlers have returned.",
			Since: "v1", about: []string{"must"}, run: ctxScope,
		},
	}
}

// canceled fails if what a verb returned does not say that its context was canceled.
func (w *world) canceled(verb string, err error) {
	w.check()
	switch {
	case err == nil:
		w.fatalf("%s with a canceled context returned nil", verb)
	case !errors.Is(err, context.Canceled):
		w.fatalf("%s with a canceled context returned %w, which does not tell so", verb, err)
	}
}

func ctxCanceled(w *world) {
	crew, room := w.crew(), group("room")
	n := crew[0]
	for _, other := range crew {
		other.subscribe(room)
	}
	over, cancel := context.WithCancel(w.ctx)
	cancel()
	const many = 100 // of which none may keep what later calls need
	for range many {
		_, err := n.tryPublish(over, room, headerLen)
		w.canceled("Publish", err)
		_, err = n.trySubscribe(over, room, nil)
		w.canceled("Subscribe", err)
	}
	for i := range w.count(100) {
		n.publish(room)
		_, err := n.tryPublish(over, room, headerLen)
		w.canceled("Publish", err)
		_, err = n.trySubscribe(over, group(fmt.Sprintf("new-%d", i)), nil)
		w.canceled("Subscribe", err)
		_, err = n.trySubscribe(over, room, nil)
		w.canceled("Subscribe to an address that has subscriptions", err)
		crew[1].publish(group(fmt.Sprintf("new-%d", i))) // which must not reach the handler
	}
	s := n.subscribe(room)
	if err := s.tryClose(over); err != nil && !errors.Is(err, context.Canceled) {
		w.fatalf("Close of a subscription with a canceled context returned %w", err)
	}
	pub := n.publish(room)
	w.settle()
	rest(w.ctx, 10*time.Millisecond) //nolint:mnd // settle does not wait for what is closed
	w.rec.mu.Lock()
	heard := w.rec.subs[s.id].heard[pub]
	w.rec.mu.Unlock()
	if heard > 0 {
		w.fatalf("a subscription still heard what was published after a Close with a canceled context had returned")
	}
	last := crew[1]
	if err := last.tryClose(over); err != nil && !errors.Is(err, context.Canceled) {
		w.fatalf("Close with a canceled context returned %w", err)
	}
	ctx, done := w.patient()
	defer done()
	if _, err := last.tryPublish(ctx, room, headerLen); classify(err).Class != closed {
		w.check()
		w.fatalf("after a Close with a canceled context Publish returned %v, not ErrClosed", err)
	}
}

const (
	shortDeadline = 200 * time.Millisecond
	// deadlineLate is how much later a call may return on an idle machine.
	deadlineLate = 2*time.Second - shortDeadline
)

// inDeadline calls a verb with a short deadline, and fails if it does not return soon after it. A busy machine may be late
// by itself, so that it has three attempts.
func (w *world) inDeadline(verb string, call func(ctx context.Context)) {
	const attempts = 3
	late := time.Duration(0)
	for range attempts {
		ctx, cancel := context.WithTimeout(w.ctx, shortDeadline)
		start, returned := time.Now(), make(chan time.Duration, 1)
		go func() {
			call(ctx)
			returned <- time.Since(start)
		}()
		limit := time.NewTimer(w.suite.patience / 2)
		select {
		case late = <-returned:
		case <-limit.C:
			cancel()
			w.check()
			w.fatalf("%s had not returned after %v; its deadline was %v, and the link hangs", verb, w.suite.patience/2, shortDeadline)
		}
		limit.Stop()
		cancel()
		w.check()
		if late <= shortDeadline+deadlineLate {
			return
		}
	}
	w.fatalf("%s returned after %v; its deadline was %v, and the link hangs", verb, late.Round(time.Millisecond), shortDeadline)
}

func ctxDeadline(w *world) {
	crew, room := w.crew(), group("room")
	n, last := crew[0], crew[1]
	for _, one := range []*instance{n, last} {
		if _, hang := one.can(); !hang {
			w.notExercised(noLink)
		}
	}
	s := n.subscribe(room)
	last.subscribe(room)
	last.publish(room)
	w.settle()

	n.hang()
	w.inDeadline("Publish", func(ctx context.Context) { _, _ = n.tryPublish(ctx, room, headerLen) })
	w.inDeadline("Publish of many at once", func(ctx context.Context) {
		const many = 100 // of which none may keep what later calls need
		var wg sync.WaitGroup
		for range many {
			wg.Go(func() { _, _ = n.tryPublish(ctx, room, headerLen) })
		}
		wg.Wait()
	})
	w.inDeadline("Subscribe", func(ctx context.Context) { _, _ = n.trySubscribe(ctx, group("new"), nil) })
	w.inDeadline("Close of a subscription", func(ctx context.Context) { _ = s.tryClose(ctx) })
	if AbilityCluster.of(n.backplane()) && AbilityCluster.of(last.backplane()) {
		other := last.cluster().ID()
		w.inDeadline("Ask", func(ctx context.Context) { _, _ = n.ask(ctx, other, "service", nil) })
		w.inDeadline("AskAll", func(ctx context.Context) { _, _ = n.askAll(ctx, "service", nil) })
	}
	n.heal()
	n.publishAgain(room)

	last.hang()
	w.inDeadline("Close", func(ctx context.Context) { _ = last.tryClose(ctx) })
	last.heal()
}

// callersKey is in the context of a Subscribe, and must not turn up in its handler's.
type callersKey struct{}

func ctxScope(w *world) {
	crew, room := w.crew(), group("room")
	n := crew[0]
	var subs []int
	var mu sync.Mutex
	var closing atomic.Bool
	var kept []context.Context // guarded by mu; a handler may start something that goes on when it has returned
	for i := range w.count(50) {
		ctx, cancel := context.WithTimeout(context.WithValue(w.ctx, callersKey{}, i), w.suite.patience)
		s, err := n.trySubscribe(ctx, room, func(ctx context.Context, _ backplane.Event, _ int) {
			if ctx.Value(callersKey{}) != nil {
				w.fail(errors.New("a handler's context has the values of the context of Subscribe"), false)
			}
			if ctx.Err() != nil && !closing.Load() && w.rec.before(markOver) { // a run may go on when all has been heard
				w.fail(fmt.Errorf("a handler's context ended while its instance is open: %w", context.Cause(ctx)), false)
			}
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, ctx)
		})
		cancel() // the call is over, the subscription is not
		if err != nil {
			w.check()
			w.fatalf("Subscribe of %s failed: %w", n.name, err)
		}
		subs = append(subs, s.id)
	}
	for range 10 {
		w.arrives(crew[1].publish(room), subs)
	}
	w.settle()
	mu.Lock()
	handlers := slices.Clone(kept)
	mu.Unlock()
	for _, ctx := range handlers {
		if ctx.Err() != nil {
			w.fatalf("a handler's context ended after its run, while its instance is open: %w", context.Cause(ctx))
		}
	}
	waits := n.subscribeWith(group("waits"), func(ctx context.Context, _ backplane.Event, _ int) {
		select {
		case <-ctx.Done():
		case <-w.ctx.Done(): // the property has failed
		}
	})
	n.publish(group("waits"))
	w.await(n.name+" to enter its handler", func() bool { return len(w.rec.running[waits.id]) > 0 })
	closing.Store(true)
	ending, cancel := w.patient()
	defer cancel()
	if err := n.tryClose(ending); err != nil {
		w.check()
		w.fatalf("a handler waits for its context to end, and Close of %s waits for the handler: it returned %w", n.name, err)
	}
	for _, ctx := range handlers {
		if ctx.Err() == nil {
			w.fatalf("a handler's context has not ended with the Close of %s", n.name)
		}
	}
}
