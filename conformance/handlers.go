package conformance

import (
	"context"
	"runtime"
	"sync"

	"github.com/gobackplane/backplane"
)

// Chapter 7: how handlers are called.

func handlerProperties() []Property {
	return []Property{
		{
			ID:    "handler/serial",
			Says:  "the handler of one subscription is never called concurrently with itself.",
			Why:   "handlers are written without locks.",
			Often: "a goroutine for each message, two connections that deliver.",
			Since: "v1", about: []string{"serial"}, run: handlerSerial,
		},
		{
			ID:    "handler/stalls-only-itself",
			Says:  "a handler that does not return delays only its own subscription, and nothing but what it is itself waiting for.",
			Why:   "one slow consumer would stop an instance.",
			Often: "one goroutine that calls all handlers, a queue without a bound that is filled under a lock.",
			Since: "v1", about: []string{"must"}, run: handlerStallsOnlyItself,
		},
		{
			ID:    "handler/reentrant",
			Says:  "a handler may publish, subscribe, and close its own and other subscriptions.",
			Why:   "hubs answer from their handlers.",
			Often: "a lock held while handlers run, a Close that waits for the handler it was called from.",
			Since: "v1", about: []string{"must", "barrier"}, run: handlerReentrant,
		},
	}
}

// stalled subscribes with a handler that blocks at its first event until release, or the end of the world.
func (w *world) stalled(n *instance, to backplane.Address) (s *sub, release func()) {
	gate := make(chan struct{})
	s = n.subscribeWith(to, func(context.Context, backplane.Event, int) { <-gate })
	w.rec.mark(markStall, n.id, s.id)
	release = sync.OnceFunc(func() {
		w.rec.mark(markRelease, n.id, s.id)
		close(gate)
	})
	w.onEnd(release)
	return s, release
}

func handlerSerial(w *world) {
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		n.subscribeWith(room, func(context.Context, backplane.Event, int) { runtime.Gosched() })
	}
	const publishers = 4
	w.each(publishers, func(i int) {
		for range w.count(300) {
			crew[i%len(crew)].publish(room)
		}
	})
}

func handlerStallsOnlyItself(w *world) {
	crew, room, other := w.crew(), group("room"), group("other")
	busy := crew[0]
	_, release := w.stalled(busy, room)
	defer release()
	busy.subscribe(room) // beside the stuck one
	busy.subscribe(other)
	crew[1].subscribe(room)
	for range w.count(300) {
		for _, n := range crew {
			n.publish(room)
			n.publish(other)
		}
	}
	w.settle() // all but the stuck one have heard it all
	late := group("late")
	busy.subscribe(late) // and nothing else waits for it
	crew[1].publish(late)
	busy.publish(late)
	w.settle()
}

func handlerReentrant(w *world) {
	crew, ask, answer, extra := w.crew(), group("ask"), group("answer"), group("extra")
	n := crew[0]
	crew[1].subscribe(answer)
	n.subscribe(answer)
	done := make(chan struct{})
	var self, other *sub
	ready := make(chan struct{})
	other = n.subscribe(ask)
	var once sync.Once
	self = n.subscribeWith(ask, func(ctx context.Context, e backplane.Event, _ int) {
		if _, is := e.(*backplane.Message); !is {
			return
		}
		once.Do(func() {
			defer close(done)
			<-ready
			var wg sync.WaitGroup
			wg.Go(func() { // a goroutine of ours, which a failure may stop; the handler waits for it
				n.publish(answer)
				fresh := n.subscribe(extra)
				n.publish(extra)
				w.arrives(n.publish(extra), []int{fresh.id})
				fresh.close()
				other.close()
				if err := self.closeFrom(ctx, true); err != nil {
					w.fatalf("closing a subscription with its handler's context returned %w", err)
				}
			})
			wg.Wait()
		})
	})
	close(ready)
	crew[1].publish(ask)
	defer w.while("a handler that publishes, subscribes and closes")()
	ctx, cancel := w.patient()
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		w.check()
		w.fatalf("a handler that publishes, subscribes and closes had not returned after %v", w.suite.patience)
	}
	for range w.count(20) {
		crew[1].publish(ask)
	}
}
