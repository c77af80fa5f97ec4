package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/gobackplane/backplane"
)

// A broker that is gone and comes back with an empty memory.

func restartProperties() []Property {
	return []Property{
		{
			ID:    "restart/recovers",
			Says:  "after a restart of the broker with an empty memory everything works again without help, the old subscriptions and new ones.",
			Why:   "nobody restarts all instances because the broker was updated.",
			Often: "what is made once at the broker, at the start: scripts, streams, groups, users.",
			Needs: NeedRestart, Since: "v1", about: []string{"must", "lossIsLoud", "once", "order"}, run: restartRecovers,
		},
		{
			ID:    "restart/loud",
			Says:  "every subscription of every instance is told of a gap when the broker was restarted.",
			Why:   "what was under way is gone, and nobody knows what it was.",
			Often: "a client library that connects anew by itself, a gap only where the numbers show one.",
			Needs: NeedRestart, Since: "v1", about: []string{"must", "lossIsLoud"}, run: restartLoud,
		},
		{
			ID:    "restart/counters",
			Says:  "numbers that start over, because the broker or an instance was restarted, are not taken for repeats.",
			Why:   "an instance would ignore everything until the numbers have caught up, with green lights everywhere.",
			Often: "numbers of the broker's that receivers believe to grow for ever, numbers kept by an instance's name.",
			Needs: NeedRestart | NeedTime, Since: "v1", about: []string{"must", "lossIsLoud"}, run: restartCounters,
		},
		{
			ID: "restart/newcomer",
			Says: "an instance that is opened while the broker is gone does not say that it is up, and works once the broker is back: " +
				"by itself if Open succeeded, else when it is opened again.",
			Why:   "who starts all at once, after a power failure, has no order.",
			Often: "a client library that connects again only what has been connected, an attempt to open that blocks the next one.",
			Needs: NeedRestart | NeedTime, Since: "v1", about: []string{"must"}, run: restartNewcomer,
		},
		{
			ID: "restart/first-words",
			Says: "after a restart of the broker what an instance publishes as soon as it can is heard by all who had subscribed anew until then, or a " +
				"gap tells it.",
			Why:   "instances do not come back at the same time, and the first one does not wait for the last.",
			Often: "servers of a cluster that take publishes before they have heard of one another's subscriptions.",
			Needs: NeedRestart, Since: "v1", about: []string{"must", "lossIsLoud"}, run: restartFirstWords,
		},
	}
}

func restartRecovers(w *world) {
	w.needRestart()
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		n.subscribe(room)
	}
	address := func(i int) backplane.Address { return group(fmt.Sprintf("ward:%d", i)) }
	rooms := w.count(300)
	var subs []*sub
	for i := range rooms {
		subs = append(subs, crew[i%len(crew)].subscribe(address(i)))
		crew[0].publish(address(i))
	}
	w.restartBroker(func() {
		w.each(len(crew), func(i int) { // the first to try are those who notice
			ctx, cancel := context.WithTimeout(w.ctx, 100*time.Millisecond)
			defer cancel()
			_, _ = crew[i].tryPublish(ctx, room, headerLen) // the record has it
		})
	})
	w.each(len(crew), func(i int) { crew[i].publishAgain(room) })
	for i, s := range subs {
		w.arrives(crew[(i+1)%len(crew)].publish(address(i)), []int{s.id})
	}
	late := crew[0].subscribe(group("late"))
	w.arrives(crew[1].publish(group("late")), []int{late.id})
}

func restartLoud(w *world) {
	w.needRestart()
	crew, room, quiet := w.crew(), group("room"), group("quiet")
	var subs []*sub
	for _, n := range crew {
		subs = append(subs, n.subscribe(room), n.subscribe(quiet)) // nothing is ever published to the second
	}
	for _, n := range crew {
		n.publish(room)
	}
	w.restartBroker(func() {})
	for _, s := range subs {
		w.awaitGap(s, 1)
	}
}

func restartCounters(w *world) {
	w.needRestart()
	crew, room := w.crew(), group("room")
	hears, publisher := crew[0], crew[1]
	s := hears.subscribe(room)
	old := w.count(100)
	for range old {
		publisher.publish(room)
	}
	w.restartBroker(func() {})
	w.awaitGap(s, 1)
	first := publisher.publishAgain(room)
	w.arrives(first, []int{s.id})
	for range old - 1 { // as many as the numbers need to catch up
		w.arrives(publisher.publish(room), []int{s.id})
	}
	publisher.close()
	again := w.reopen(publisher)
	for range old {
		w.arrives(again.publish(room), []int{s.id})
	}
}

func restartNewcomer(w *world) {
	w.needRestart()
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		n.subscribe(room)
		n.publish(room)
	}
	newcomer := w.newInstance(w.namespace())
	w.restartBroker(func() {
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		if newcomer.tryOpen(ctx) != nil {
			newcomer = nil
			return
		}
		if _, tells := newcomer.reporter(); tells {
			if h := newcomer.health(); h.State == backplane.Up {
				w.fatalf("%s was opened while the broker is gone, and says that it is up", newcomer.name)
			}
		}
		soon, cancel := context.WithTimeout(w.ctx, 100*time.Millisecond)
		defer cancel()
		_, _ = newcomer.trySubscribe(soon, room, nil) // the record has it; a later one works in any case
	})
	if newcomer == nil {
		newcomer = w.newInstance(w.namespace())
		newcomer.open()
	}
	s := newcomer.subscribe(room)
	for _, n := range crew {
		w.arrives(n.publishAgain(room), []int{s.id})
	}
	w.arrives(newcomer.publishAgain(room), []int{s.id})
	newcomer.publish(room)
}

func restartFirstWords(w *world) {
	w.needRestart()
	crew, room := w.crew(), group("room")
	var old []int
	for _, n := range crew {
		old = append(old, n.subscribe(room).id)
	}
	for i := range w.rounds(3) {
		w.restartBroker(func() {})
		w.each(len(crew), func(k int) {
			n, next := crew[k], crew[(k+1)%len(crew)]
			for j := range 3 {
				to := group(fmt.Sprintf("room-%d-%d-%d", i, k, j))
				s := n.subscribe(to)
				w.arrives(next.publishAgain(to), []int{s.id})
			}
			w.arrives(next.publishAgain(room), old)
		})
	}
}

// reopen opens an instance in the place of one that was closed, under its name, as a restarted process does.
func (w *world) reopen(closed *instance) *instance {
	n := w.newInstance(closed.namespace)
	n.seat = closed.seat
	n.open()
	return n
}
