package conformance

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// When a subscription begins and ends.

func subscribingProperties() []Property {
	return []Property{
		{
			ID:    "subscribe/barrier",
			Says:  "what is published after Subscribe has returned is heard.",
			Why:   "a client joins, and misses what happens right after.",
			Often: "Subscribe returns when the request was written, not when the broker confirmed it.",
			Since: "v1", about: []string{"must"}, run: subscribeBarrier,
		},
		{
			ID:    "subscribe/barrier-remote",
			Says:  "the same holds when another instance publishes.",
			Why:   "a client joins on one instance, and the answer is sent from another.",
			Often: "the confirmation of one server of a cluster, taken for all of them; publishers that remember that nobody listened.",
			Since: "v1", about: []string{"must"}, run: subscribeBarrierRemote,
		},
		{
			ID:    "subscribe/twice",
			Says:  "two subscriptions of one instance to one address each hear each message once.",
			Why:   "two hubs in one process would see their messages doubled or not at all.",
			Often: "a second subscription at the broker, a map from address to one handler.",
			Since: "v1", about: []string{"once", "must"}, run: subscribeTwice,
		},
		{
			ID:    "subscribe/independent",
			Says:  "the end of one subscription ends no other.",
			Why:   "when one client leaves, a group would fall silent for all.",
			Often: "no counting of what shares a channel.",
			Since: "v1", about: []string{"must"}, run: subscribeIndependent,
		},
		{
			ID:    "subscribe/churn",
			Says:  "subscriptions that come and go quickly, against running traffic, miss nothing while they are in force.",
			Why:   "the last unsubscribe of a name races the next subscribe all the time.",
			Often: "subscribe and unsubscribe that overtake one another on the way to the broker.",
			Since: "v1", about: []string{"must", "barrier"}, run: subscribeChurn,
		},
		{
			ID:    "subscribe/again",
			Says:  "a new subscription to an address that was given up works, and gets nothing left over from the old one.",
			Why:   "a client that comes back would be deaf, or be shown the past.",
			Often: "a leftover queue, an unsubscribe that arrives late or is put off.",
			Since: "v1", about: []string{"must", "mustNot", "noFalseAlarm"}, run: subscribeAgain,
		},
		{
			ID:    "subscribe/many",
			Says:  "ten thousand subscriptions of one instance are all in force.",
			Why:   "one instance serves many groups.",
			Often: "a limit of the client or broker that is silently exceeded.",
			Needs: NeedTime, Since: "v1", about: []string{"must"}, run: subscribeMany,
		},
	}
}

func unsubscribingProperties() []Property {
	return []Property{
		{
			ID:    "unsubscribe/barrier",
			Says:  "once Close of a subscription has returned, its handler is not running and is not called again.",
			Why:   "a handler would touch what was already torn down.",
			Often: "messages that were already queued, a Close that does not wait.",
			Since: "v1", about: []string{"barrier"}, run: unsubscribeBarrier,
		},
		{
			ID:    "unsubscribe/again-is-noop",
			Says:  "closing a subscription a second time does nothing and returns nil.",
			Why:   "clean-up code closes twice, and must not end what somebody else opened since.",
			Often: "a counter that is lowered twice.",
			Since: "v1", about: []string{"must", "errors"}, run: unsubscribeAgain,
		},
	}
}

func subscribeBarrier(w *world) {
	crew := w.crew()
	for i := range w.count(200) {
		n, a := crew[i%len(crew)], group(fmt.Sprintf("room-%d", i))
		n.subscribe(a)
		n.publish(a)
	}
	const together = 4 // and none may rely on another one that is still under way
	w.each(together, func(int) {
		crew[0].subscribe(group("together"))
		crew[0].publish(group("together"))
	})
}

func subscribeBarrierRemote(w *world) {
	crew := w.crew()
	for i := range w.count(200) {
		n, other, a := crew[i%len(crew)], crew[(i+1)%len(crew)], group(fmt.Sprintf("room-%d", i))
		if i%2 == 0 {
			other.publish(a) // which nobody hears, and must not be remembered
		}
		n.subscribe(a)
		other.publish(a)
	}
}

func subscribeTwice(w *world) {
	crew, room := w.crew(), group("room")
	crew[0].subscribe(room)
	for range w.count(20) {
		crew[1].publish(room)
	}
	crew[0].subscribe(room)
	for range w.count(100) {
		crew[1].publish(room)
	}
}

func subscribeIndependent(w *world) {
	crew, room := w.crew(), group("room")
	stay, leave := crew[0].subscribe(room), crew[0].subscribe(room)
	elsewhere := crew[1].subscribe(room)
	there := crew[1].subscribe(room)
	stop := w.stream(crew[0], room)
	w.arrives(crew[0].publish(room), []int{stay.id, leave.id, elsewhere.id, there.id})
	leave.close()
	there.close()
	w.arrives(crew[1].publish(room), []int{stay.id, elsewhere.id})
	elsewhere.close() // the last one of its instance
	w.arrives(crew[1].publish(room), []int{stay.id})
	stop()
}

func subscribeChurn(w *world) {
	crew := w.crew()
	const workers, rooms = 20, 5
	room := func(i int) backplane.Address { return group(fmt.Sprintf("room-%d", i%rooms)) }
	stop := make([]func(), rooms)
	for i := range stop {
		stop[i] = w.stream(crew[i%len(crew)], room(i))
	}
	w.each(workers, func(i int) {
		n, to := crew[i%len(crew)], room(i)
		for k := range w.count(50) {
			s := n.subscribe(to)
			if k%2 == 0 {
				w.arrives(n.publish(to), []int{s.id})
			}
			s.close()
		}
		n.subscribe(to)
	})
	for i := range stop {
		stop[i]()
	}
}

func subscribeAgain(w *world) {
	crew := w.crew()
	for i := range w.count(50) {
		n, a := crew[i%len(crew)], group(fmt.Sprintf("room-%d", i%5))
		s := n.subscribe(a)
		w.arrives(crew[0].publish(a), []int{s.id})
		s.close()
		crew[0].publish(a)
		s = n.subscribe(a)
		w.arrives(crew[0].publish(a), []int{s.id})
		s.close()
	}
	for i := range 5 {
		crew[1].subscribe(group(fmt.Sprintf("room-%d", i)))
	}
	w.staysAgain(crew[0], crew[1], group("room-0"))
}

// staysAgain subscribes to an address right after it was given up, and wants it to be heard also once whatever was still to be
// done for the old subscription is done.
func (w *world) staysAgain(n, publisher *instance, to backplane.Address) {
	n.subscribe(to).close()
	s := n.subscribe(to)
	w.idle(time.Second)
	w.arrives(publisher.publish(to), []int{s.id})
}

func subscribeMany(w *world) {
	crew := w.crew()
	const addresses, workers = 10_000, 64
	address := func(i int) backplane.Address { return group(fmt.Sprintf("ward:%d", i)) }
	w.each(workers, func(k int) {
		for i := k; i < addresses; i += workers {
			crew[0].subscribe(address(i))
		}
	})
	w.each(workers, func(k int) {
		for i := k; i < addresses; i += workers {
			crew[1].publish(address(i))
		}
	})
}

func unsubscribeBarrier(w *world) {
	crew, room := w.crew(), group("room")
	done := make(chan struct{})
	w.each(2, func(i int) {
		if i == 0 {
			defer close(done)
			for range w.count(2000) {
				crew[0].publish(room)
			}
			return
		}
		for range w.count(200) {
			s := crew[1].subscribe(room)
			w.arrives(crew[1].publish(room), []int{s.id})
			s.close()
			w.closesBehind(crew[1], room, func(s *sub) { s.close() })
			select {
			case <-done:
				return
			default:
			}
		}
	})
	w.closesAgain(crew[1], room)
	w.closesInFront(crew[1], group("queue"))
}

// closesInFront closes a subscription for which many messages wait, behind a run that ends only then. That the handler is
// called once more may be because Close was entered late, but not that it is called for all of them.
func (w *world) closesInFront(n *instance, to backplane.Address) {
	const messages, each = 50, 10 * time.Millisecond
	closing := make(chan struct{})
	begin := sync.OnceFunc(func() { close(closing) })
	defer begin()
	s := n.subscribeWith(to, func(context.Context, backplane.Event, int) {
		<-closing
		rest(w.ctx, each)
	})
	beside := n.subscribe(to)
	for range messages {
		w.arrives(n.publish(to), []int{beside.id})
	}
	begin()
	s.close()
	w.rec.mu.Lock()
	heard := len(w.rec.subs[s.id].heard)
	w.rec.mu.Unlock()
	if heard == messages {
		w.fatalf("Close of a subscription let its handler run for all %d messages that waited, instead of only ending the run in progress", messages)
	}
}

// closesAgain closes a subscription a second time while the run that the first Close gave up waiting for goes on.
func (w *world) closesAgain(n *instance, to backplane.Address) {
	s, release := w.stalled(n, to)
	n.publish(to)
	w.await(n.name+" to enter its handler", func() bool { return len(w.rec.running[s.id]) > 0 })
	const soon = 10 * time.Millisecond
	ctx, cancel := context.WithTimeout(w.ctx, soon)
	defer cancel()
	_ = s.tryClose(ctx) // which gives up, unless it does not wait at all: that is for the rules
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		rest(w.ctx, soon)
		release()
	})
	s.close() // the rules find out whether it waited
}

// closesBehind calls close while a handler is running that takes a while yet: the rules find out whether it was waited for.
func (w *world) closesBehind(n *instance, to backplane.Address, closes func(*sub)) {
	closing := make(chan struct{})
	begin := sync.OnceFunc(func() { close(closing) })
	defer begin()
	s := n.subscribeWith(to, func(context.Context, backplane.Event, int) {
		<-closing
		rest(w.ctx, time.Millisecond)
	})
	n.publish(to)
	w.await(n.name+" to enter its handler", func() bool { return len(w.rec.running[s.id]) > 0 })
	begin()
	closes(s)
}

func unsubscribeAgain(w *world) {
	crew, room := w.crew(), group("room")
	gone := crew[0].subscribe(room)
	gone.close()
	stay := crew[0].subscribe(room)
	gone.close()
	w.arrives(crew[1].publish(room), []int{stay.id})
	racing := crew[0].subscribe(room)
	const closers = 4
	w.each(closers, func(int) { racing.close() })
	racing.close()
	w.arrives(crew[1].publish(room), []int{stay.id})
}
