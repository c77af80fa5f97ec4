package conformance

import (
	"context"
	"fmt"
	"sync"
	"testing/synctest"
	"time"
)

// The end of an instance.

func closingProperties() []Property {
	return []Property{
		{
			ID:    "close/barrier",
			Says:  "once Close of an instance has returned, no handler of it is running or called again.",
			Why:   "handlers would touch what the program has already torn down.",
			Often: "queues that drain after the return.",
			Since: "v1", about: []string{"barrier"}, run: closeBarrier,
		},
		{
			ID:    "close/idempotent",
			Says:  "a second Close, also a concurrent one, does nothing and returns nil.",
			Why:   "clean-up code closes twice.",
			Often: "a channel closed twice, a connection's error passed on.",
			Since: "v1", about: []string{"errors"}, run: closeIdempotent,
		},
		{
			ID:    "close/after",
			Says:  "after Close every other verb returns ErrClosed, and none hangs.",
			Why:   "late callers are normal during a shutdown, and must be told.",
			Often: "an error of the client library, a nil from a buffer that nobody empties.",
			Since: "v1", about: []string{"errors", "mustNot"}, run: closeAfter,
		},
		{
			ID: "close/busy",
			Says: "Close is bounded by its context, whose error it returns, while a handler is stuck or the link is dead, and what is published " +
				"meanwhile is delivered or refused.",
			Why: "a shutdown has a deadline.",
			Often: "waiting for handlers or for the broker without a bound, giving up waiting before anything is closed, " +
				"a queue that still takes messages and is not sent any more.",
			Since: "v1", about: []string{"errors", "must"}, run: closeBusy,
		},
		{
			ID:    "close/alone",
			Says:  "closing one instance changes nothing for the others, and what it had published is delivered.",
			Why:   "instances come and go with every deployment.",
			Often: "state at the broker that instances share.",
			Since: "v1", about: []string{"must", "noFalseAlarm"}, run: closeAlone,
		},
		{
			ID:    "close/clean",
			Says:  "no goroutine and no connection of an instance outlives its Close.",
			Why:   "tests and reconfigurations open and close many times.",
			Often: "a goroutine that waits for a message that never comes, a connection in a pool.",
			Since: "v1", about: nil, run: closeClean,
		},
		{
			ID:    "open/fails-clean",
			Says:  "an Open that fails, or whose context ends, returns promptly and leaves nothing behind.",
			Why:   "programs try again.",
			Often: "goroutines started before the first error.",
			Since: "v1", about: nil, run: openFailsClean,
		},
	}
}

func closeBarrier(w *world) {
	crew, room := w.crew(), group("room")
	stop := w.stream(crew[0], room)
	for range w.count(50) {
		n := w.newInstance(w.namespace())
		n.open()
		var subs []int
		for range 3 {
			subs = append(subs, n.subscribe(room).id)
		}
		w.arrives(crew[1].publish(room), subs)
		w.closesBehind(n, room, func(*sub) { n.close() })
	}
	stop()
}

func closeIdempotent(w *world) {
	crew := w.crew()
	crew[0].subscribe(group("room"))
	crew[0].close()
	crew[0].close()
	const closers = 4
	w.each(closers, func(int) { crew[1].close() })
	crew[1].close()
}

func closeAfter(w *world) {
	crew, room := w.crew(), group("room")
	n := crew[0]
	s := n.subscribe(room)
	crew[1].subscribe(room)
	n.publish(room)
	n.close()
	ctx, cancel := w.patient()
	defer cancel()
	for range 3 {
		if _, err := n.tryPublish(ctx, room, headerLen); classify(err).Class != closed {
			w.check()
			w.fatalf("Publish after Close returned %v, not ErrClosed", err)
		}
		if _, err := n.trySubscribe(ctx, room, nil); classify(err).Class != closed {
			w.check()
			w.fatalf("Subscribe after Close returned %v, not ErrClosed", err)
		}
	}
	if err := s.tryClose(ctx); err != nil {
		w.fatalf("Close of a subscription of a closed instance returned %w; it has ended, and there is nothing to fail", err)
	}
	crew[1].publish(room)
}

func closeBusy(w *world) {
	crew, room := w.crew(), group("room")
	n := crew[0]
	s, release := w.stalled(n, room)
	hears := crew[1].subscribe(room)
	crew[1].publish(room)
	w.await(n.name+" to enter its handler", func() bool { return len(w.rec.running[s.id]) > 0 })
	w.closesInTime(n, "a handler is stuck", true, func(ctx context.Context) {
		if pub, err := n.tryPublish(ctx, room, headerLen); err == nil {
			w.arrives(pub, []int{hears.id})
		}
	})
	release()
	n.close() // and a second Close is none the worse for it
	if _, err := n.tryPublish(w.ctx, room, headerLen); classify(err).Class != closed {
		w.check()
		w.fatalf("Publish returned %v after a Close that had given up waiting for a handler, and a second one; not ErrClosed", err)
	}

	last := crew[1]
	if _, hang := last.can(); !hang {
		w.leavesOut(noFault("Hang"))
		return
	}
	last.subscribe(room)
	last.hang()
	w.closesInTime(last, "the link is dead", false, func(context.Context) {})
	last.heal()
}

// closesInTime closes with a context that ends soon, does something once Close has most likely begun, and checks that Close
// returns soon after its context ended.
func (w *world) closesInTime(n *instance, while string, stuck bool, meanwhile func(context.Context)) {
	const soon = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(w.ctx, soon)
	defer cancel()
	returned := make(chan error, 1)
	go func() { returned <- n.tryClose(ctx) }()
	limit := time.NewTimer(w.suite.patience / 2)
	defer limit.Stop()
	rest(ctx, soon/4)
	meanwhile(ctx)
	select {
	case err := <-returned:
		if stuck && err == nil {
			w.fatalf("Close of %s returned nil while %s", n.name, while)
		}
		if err != nil && classify(err).Class != ended {
			w.fatalf("Close of %s, while %s, returned %w, not its context's error", n.name, while, err)
		}
	case <-limit.C:
		w.fatalf("Close of %s had not returned %v after its context ended, while %s", n.name, w.suite.patience/2, while)
	}
}

func closeAlone(w *world) {
	crew, room := w.crew(), group("room")
	stay := crew[0]
	stay.subscribe(room)
	last := crew[len(crew)-1]
	last.subscribe(room)
	stop := w.stream(stay, room)
	for range w.count(40) { // as in some days of deployments
		n := w.newInstance(w.namespace())
		n.open()
		n.subscribe(room)
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 20 {
				n.publish(room)
			}
		})
		wg.Wait()
		n.close()
	}
	stop()
}

func closeClean(w *world) {
	crew, room := w.crew(), group("room")
	crew[0].subscribe(room)
	for range w.count(20) {
		n := w.newInstance(w.namespace())
		n.open()
		for i := range 10 {
			n.subscribe(group(fmt.Sprintf("room-%d", i)))
		}
		s := n.subscribe(room)
		w.arrives(n.publish(room), []int{s.id})
		w.arrives(crew[0].publish(room), []int{s.id})
		s.close()
		n.close()
		w.gone(n)
	}
}

// gone checks that nothing of an instance is left.
func (w *world) gone(n *instance) {
	owner := w.name + "/" + n.name + "\""
	left, stacks := 0, ""
	none := func() bool {
		left, stacks = goroutines(owner)
		return left == 0 && n.link.Open() == 0
	}
	if w.suite.bubble {
		synctest.Wait()
		if !none() {
			w.fatalf("%s left %d goroutines behind:\n%s", n.name, left, stacks)
		}
		return
	}
	// A goroutine that has told that it is done takes a moment to be gone, and no event tells.
	ctx, cancel := w.patient()
	defer cancel()
	for !none() {
		if !rest(ctx, time.Millisecond) {
			w.check()
			w.fatalf("%s left %d goroutines and %d connections behind:\n%s", n.name, left, n.link.Open(), stacks)
		}
	}
}

func openFailsClean(w *world) {
	crew := w.crew()
	crew[0].subscribe(group("room"))

	canceled := w.newInstance(w.namespace())
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	w.opensOrNot(canceled, ctx)

	if !crew[0].dials() {
		w.leavesOut("nothing makes Open fail: the instances do not dial through Instance.Dial")
		return
	}
	cut := w.newInstance(w.namespace())
	cut.cut()
	within, cancel := context.WithTimeout(w.ctx, time.Second)
	defer cancel()
	w.opensOrNot(cut, within)
}

// opensOrNot opens an instance under bad conditions: either it fails and nothing is left, or it works once they are over.
func (w *world) opensOrNot(n *instance, ctx context.Context) { //nolint:revive // the context is the subject here
	limit := time.NewTimer(w.suite.patience)
	defer limit.Stop()
	returned := make(chan error, 1)
	go func() { returned <- n.tryOpen(ctx) }()
	select {
	case err := <-returned:
		n.heal()
		if err == nil {
			s := n.subscribe(group("room"))
			w.arrives(n.publishAgain(group("room")), []int{s.id})
			n.close()
		}
		w.gone(n)
	case <-limit.C:
		w.fatalf("Open had not returned after %v", w.suite.patience)
	}
}
