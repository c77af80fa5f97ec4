package conformance

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

// Receivers that cannot keep up.

func pressureProperties() []Property {
	return []Property{
		{
			ID:    "pressure/handler",
			Says:  "a handler that does not return delays only its own subscription, and nothing but what it is itself waiting for.",
			Why:   "one slow consumer would stop an instance.",
			Often: "one goroutine that calls all handlers, a queue without a bound that is filled under a lock.",
			Since: "v1", about: []string{"must"}, run: pressureHandler,
		},
		{
			ID:    "pressure/instance",
			Says:  "an instance none of whose handlers returns stalls neither publishers nor other instances.",
			Why:   "one server with a deadlock would stop all of them.",
			Often: "a publisher that waits for the slowest receiver, a broker's queue that all instances share.",
			Since: "v1", about: []string{"must"}, run: pressureInstance,
		},
		{
			ID:    "pressure/loud",
			Says:  "when a receiver cannot keep up, the outcome is a gap or a publisher that is held up, never silence.",
			Why:   "what is dropped under load is dropped when it matters most.",
			Often: "a full channel whose messages are dropped, with a line in the log at best.",
			Since: "v1", about: []string{"must", "lossIsLoud", "counts"}, run: pressureLoud,
		},
		{
			ID:    "pressure/recovers",
			Says:  "after an overflow the subscription works again, in order and without further gaps.",
			Why:   "a moment's load would make a group deaf, or have it fetch everything for ever.",
			Often: "a consumer that is cut off for being slow, a queue that is full for good, what waited delivered behind what is new.",
			Since: "v1", about: []string{"must", "order", "once", "noFalseAlarm"}, run: pressureRecovers,
		},
	}
}

// usualQueue is how many messages wait for a handler in our engine, unless an option says otherwise. A backplane with a
// longer queue hears more, and its overflow is not put to the test; one with a shorter queue overflows earlier.
const usualQueue = 1024

// valve makes the handler of one subscription wait while it is shut.
type valve struct {
	s    *sub
	mu   sync.Mutex
	open chan struct{} // closed while the valve is open; guarded by mu
}

// valved subscribes with a handler behind a valve, which is open.
func (w *world) valved(n *instance, to backplane.Address) (*sub, *valve) {
	v := &valve{open: make(chan struct{})}
	close(v.open)
	v.s = n.subscribeWith(to, func(context.Context, backplane.Event, int) {
		v.mu.Lock()
		open := v.open
		v.mu.Unlock()
		<-open
	})
	w.onEnd(v.release)
	return v.s, v
}

func (v *valve) shut() {
	v.s.n.w.rec.mark(markStall, v.s.n.id, v.s.id)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open = make(chan struct{})
}

// release opens the valve; it does nothing on an open one.
func (v *valve) release() {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.open:
		return
	default:
	}
	v.s.n.w.rec.mark(markRelease, v.s.n.id, v.s.id)
	close(v.open)
}

// stalled subscribes with a handler that blocks at its first event until release, or the end of the world.
func (w *world) stalled(n *instance, to backplane.Address) (s *sub, release func()) {
	s, v := w.valved(n, to)
	v.shut()
	return s, v.release
}

// flood publishes as fast as it goes, from several goroutines. A backplane may hold up or refuse who publishes faster than
// all can hear: then that is the end of it.
func (w *world) flood(by *instance, to backplane.Address, messages int) {
	const (
		publishers = 8
		tooSlow    = time.Second
	)
	var held atomic.Bool
	w.each(publishers, func(int) {
		for range messages / publishers {
			if held.Load() {
				return
			}
			by.pace(to, headerLen)
			ctx, cancel := context.WithTimeout(w.ctx, tooSlow)
			_, err := by.tryPublish(ctx, to, headerLen)
			cancel()
			if err != nil {
				held.Store(true)
			}
		}
	})
}

// catchesUp waits until a subscription whose handler was stuck has heard, or been told of, all that it had missed: until
// it hears a message that was published now. From then on there is no reason for it to miss more.
func (w *world) catchesUp(s *sub, by *instance, to backplane.Address) {
	w.eventually(s.n.name+" to hear messages again, and not gaps only", func() bool {
		pub := by.publish(to)
		w.arrives(pub, []int{s.id})
		w.rec.mu.Lock()
		defer w.rec.mu.Unlock()
		return w.rec.subs[s.id].heard[pub] > 0
	})
	w.rec.mark(markCaughtUp, s.n.id, s.id)
}

func pressureHandler(w *world) {
	crew, room, other := w.crew(), group("room"), group("other")
	busy := crew[0]
	_, release := w.stalled(busy, room)
	defer release()
	const crowd = 40 // more than workers that handlers would share
	for i := range crowd {
		stuck := group(fmt.Sprintf("stuck-%d", i))
		_, release := w.stalled(busy, stuck)
		defer release()
		crew[1].publish(stuck)
	}
	busy.subscribe(room) // beside the stuck ones
	busy.subscribe(other)
	crew[1].subscribe(room)
	for range w.count(300) {
		for _, n := range crew {
			n.publish(room)
			n.publish(other)
		}
	}
	w.settle() // all but the stuck ones have heard it all
	late := group("late")
	busy.subscribe(late) // and nothing else waits for it
	crew[1].publish(late)
	busy.publish(late)
	w.settle()
}

func pressureInstance(w *world) {
	crew, rooms := w.crew(), []backplane.Address{group("room"), group("other"), backplane.All()}
	stuck := crew[0]
	for _, room := range rooms {
		_, release := w.stalled(stuck, room)
		defer release()
		for _, n := range crew[1:] {
			n.subscribe(room)
		}
	}
	const more = usualQueue + usualQueue/4 // than it can queue
	w.each(len(crew), func(i int) {
		for k := range more {
			if k%len(crew) != i {
				continue
			}
			for _, room := range rooms {
				crew[i].publish(room)
			}
		}
	})
	w.settle() // all others have heard it all
	late := group("late")
	crew[1].subscribe(late)
	stuck.publish(late)
	w.settle()
}

func pressureLoud(w *world) {
	crew, room := w.crew(), group("room")
	publisher := crew[1]
	_, far := w.valved(crew[0], room)
	_, own := w.valved(publisher, room)
	publisher.subscribe(room) // beside them is one that keeps up
	times := 10
	if w.suite.short {
		times = 3
	}
	far.shut()
	own.shut()
	w.flood(publisher, room, times*usualQueue)
	far.release()
	own.release()
	w.settle()
}

func pressureRecovers(w *world) {
	crew, room := w.crew(), group("room")
	publisher := crew[1]
	s, v := w.valved(crew[0], room)
	for range 3 {
		v.shut()
		w.flood(publisher, room, 2*usualQueue)
		v.release()
		w.catchesUp(s, publisher, room)
		for range w.count(300) {
			publisher.publish(room)
		}
		w.settle()
	}
}
