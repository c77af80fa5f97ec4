package conformance

import (
	"context"
	"sync"

	"github.com/gobackplane/backplane"
)

// Chapter 8: receivers that cannot keep up.

func pressureProperties() []Property {
	return []Property{
		{
			ID:    "pressure/handler",
			Says:  "a handler that does not return delays only its own subscription, and nothing but what it is itself waiting for.",
			Why:   "one slow consumer would stop an instance.",
			Often: "one goroutine that calls all handlers, a queue without a bound that is filled under a lock.",
			Since: "v1", about: []string{"must"}, run: pressureHandler,
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

func pressureHandler(w *world) {
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
