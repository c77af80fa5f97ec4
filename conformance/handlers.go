package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// How handlers are called.

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
			ID:    "handler/panic",
			Says:  "a handler's panic is not swallowed: the process ends, and shows the handler's stack.",
			Why:   "a handler that stopped halfway leaves locks and counts as they were; a server that goes on serves what is wrong.",
			Often: "a recover around the call of the handler, to be safe.",
			Needs: NeedChild, Since: "v1", run: handlerPanic, ended: handlerPanicked,
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
	slow := group("slow")
	s := crew[0].subscribeWith(slow, func(context.Context, backplane.Event, int) { rest(w.ctx, 2*time.Millisecond) })
	some := func() {
		for range 10 {
			crew[1].publish(slow)
		}
	}
	some()
	if cut, _ := crew[0].can(); cut { // two connections must not deliver beside one another
		w.outage(crew[0], func() {})
		w.awaitGap(s, 1)
		some()
	}
}

func handlerReentrant(w *world) {
	crew, ask, answer, extra := w.crew(), group("ask"), group("answer"), group("extra")
	n := crew[0]
	crew[1].subscribe(answer)
	n.subscribe(answer)
	done := make(chan struct{})
	var self, other, slow *sub
	var free func()
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
				within, cancel := context.WithTimeout(ctx, w.suite.patience)
				defer cancel()
				pub, err := n.tryPublish(within, extra, headerLen) // with the handler's own context it works no less
				n.mustPublish(extra, err)
				w.arrives(pub, []int{fresh.id}) // which is before the handler returns
				fresh.close()
				other.close()
				for _, s := range []*sub{slow, self} {
					if err := s.closeFrom(ctx, true); err != nil {
						w.fatalf("closing a subscription with a handler's context returned %w", err)
					}
				}
				n.subscribe(ask) // a new one in its place
				free()
			})
			wg.Wait()
		})
	})
	slow, free = w.stalled(n, extra)
	for range 3 { // the first keeps its handler busy, and the others wait
		n.publish(extra)
	}
	w.await(n.name+" to enter its handler", func() bool { return len(w.rec.running[slow.id]) > 0 })
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
	w.await("the handler to return", func() bool { return len(w.rec.running[self.id]) == 0 })
	rest(w.ctx, time.Millisecond) // in which what it closed may be removed: that and nothing else
	for range w.count(20) {
		crew[1].publish(ask)
	}
}

const (
	panicText = "conformance: the panic of a handler"
	livedOn   = "conformance: the process lives on after the panic of a handler"
)

// handlerPanic runs in a child process, and ends it where the promise is kept.
func handlerPanic(w *world) {
	crew, room := w.openAll(1), group("room")
	n := crew[0]
	s := n.subscribeWith(room, panickingHandler)
	ctx, cancel := w.patient()
	defer cancel()
	_, _ = n.tryPublish(ctx, room, headerLen) // the panic may come before it returns
	w.await(n.name+" to enter its handler", func() bool { return len(w.rec.running[s.id]) > 0 })
	rest(w.ctx, w.suite.patience/2)
	_, _ = fmt.Fprintln(os.Stderr, livedOn)
	w.fatalf("the process lives on after the panic of a handler")
}

// panickingHandler is named in the stack.
func panickingHandler(context.Context, backplane.Event, int) { panic(panicError{}) }

// panicError is what a handler panics with: an error of the runtime, which is what a recover that chooses would most likely take.
type panicError struct{}

func (panicError) Error() string { return panicText }
func (panicError) RuntimeError() {}

func handlerPanicked(e ending) error {
	switch {
	case strings.Contains(e.output, livedOn):
		return errors.New("the process lived on after a handler's panic")
	case e.late, e.err == nil:
		return fmt.Errorf("a handler panicked, and its process did not end of it: %s", e.status())
	case !strings.Contains(e.output, panicText):
		return fmt.Errorf("a handler panicked, and its process ended (%s) without showing the panic", e.status())
	case !strings.Contains(e.output, "conformance.panickingHandler"):
		return fmt.Errorf("a handler panicked, and its process ended (%s) without showing the handler's stack", e.status())
	default:
		return nil
	}
}
