package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/gobackplane/backplane"
)

// What an outage is to those around it, and to itself once it is over.

func aroundProperties() []Property {
	return []Property{
		{
			ID:    "link/others",
			Says:  "the outage of one instance, unless it is taken for dead, changes nothing for the others: they hear each other at once and without a gap.",
			Why:   "one bad network card would make every client of every instance fetch anew.",
			Often: "a fan-out that waits for the one that is gone, a gap for all whenever somebody is.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "noFalseAlarm"}, run: linkOthers,
		},
		{
			ID:    "link/state",
			Says:  "health is not up while the link is down, and each change is told once and in order.",
			Why:   "a load balancer keeps sending clients to an instance that says it is well.",
			Often: "health that looks at a socket, that is told from several goroutines, or to one listener of several.",
			Needs: NeedLink, Since: "v1", Ability: AbilityHealth, about: nil, run: linkState,
		},
		{
			ID:    "link/unsubscribe-down",
			Says:  "what is unsubscribed while the link is down ends at once, and does not come back with the link.",
			Why:   "a group that nobody is in any longer would be heard for ever.",
			Often: "a list of subscriptions to restore that is only changed with the broker's consent.",
			Needs: NeedLink, Since: "v1", about: []string{"barrier", "must", "errors"}, run: linkUnsubscribeDown,
		},
		{
			ID:    "link/flapping",
			Says:  "a link that fails 30 times in a row is healthy in the end, with as many goroutines and connections as at the start.",
			Why:   "a bad switch would bring the process down in an hour.",
			Often: "a goroutine for each attempt to reconnect, an old connection that nobody closes, an attempt that is the last one.",
			Needs: NeedLink | NeedTime, Since: "v1", about: []string{"must", "lossIsLoud"}, run: linkFlapping,
		},
	}
}

func linkOthers(w *world) {
	const three = 3
	crew, room := w.openAll(three), group("room")
	ill, publisher, hears := crew[0], crew[1], crew[2]
	w.needCut(ill)
	ill.subscribe(room)
	subs := []int{publisher.subscribe(room).id, hears.subscribe(room).id}
	for range three {
		stop := w.stream(hears, room)
		w.outage(ill, func() {
			for range w.count(50) {
				w.arrives(publisher.publish(room), subs) // while it is down, not once it is back
			}
		})
		stop()
	}
	w.settle()
	for _, n := range crew[1:] {
		if gaps := n.gaps(); gaps > 0 {
			w.fatalf("%s was told of %d gaps, because %s, which had sent nothing, was cut off", n.name, gaps, ill.name)
		}
	}
}

// gaps is how many gaps all subscriptions of the instance were told.
func (n *instance) gaps() (told int) {
	n.w.rec.mu.Lock()
	defer n.w.rec.mu.Unlock()
	for s := range n.w.rec.subs {
		if n.w.rec.h.Subs[s].Node == n.id {
			told += n.w.rec.subs[s].gaps
		}
	}
	return told
}

func linkState(w *world) {
	crew, room := w.crew(), group("room")
	n := crew[0]
	w.needCut(n)
	n.needHealth()
	n.subscribe(room)
	up := func(s backplane.State) bool { return s == backplane.Up }
	var left []*healthLog // who does not want to know any more, of whom nobody else hears less
	for range 2 {
		left = append(left, n.followHealth())
	}
	told, beside := n.followHealth(), n.followHealth()
	both := func(what string, is func(backplane.State) bool) {
		told.await(what, is)
		beside.await(what, is)
	}
	both("up", up)
	for _, l := range left {
		l.await("up", up)
		l.leave()
	}
	for range 3 {
		n.cut()
		both("not up", func(s backplane.State) bool { return s != backplane.Up })
		first := n.health()
		for range 5 {
			ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
			_, _ = n.tryPublish(ctx, room, headerLen) // also when it is used
			cancel()
			if h := n.health(); h.State == backplane.Up {
				w.fatalf("%s is cut off, and says that it is %v", n.name, h.State)
			} else if h.State == first.State && !h.Since.Equal(first.Since) {
				w.fatalf("%s has not changed its state, and says that it is %v since %v later", n.name, h.State, h.Since.Sub(first.Since))
			}
		}
		n.heal()
		both("up again", up)
	}
	for _, l := range left {
		l.heardNoMore()
	}
	n.close()
	both("down for good", func(s backplane.State) bool { return s == backplane.Down })
	if h := n.health(); h.State != backplane.Down {
		w.fatalf("%s is closed, and says that it is %v", n.name, h.State)
	}
	told.stop()
	beside.stop()
}

func linkUnsubscribeDown(w *world) {
	crew := w.crew()
	down, publisher := crew[0], crew[1]
	w.needCut(down)
	address := func(i int) backplane.Address { return group(fmt.Sprintf("room-%d", i)) }
	const rooms = 20
	for range 3 {
		var subs []*sub
		for i := range rooms {
			subs = append(subs, down.subscribe(address(i)))
		}
		beside := down.subscribe(address(0)) // another one there keeps it at the broker
		w.outage(down, func() {
			for _, s := range subs[:rooms/2] {
				s.close()
			}
		})
		for _, s := range append(subs[rooms/2:], beside) {
			w.awaitGap(s, 1)
		}
		for i := range rooms {
			publisher.publish(address(i))
		}
		w.settle()
		for _, s := range append(subs[rooms/2:], beside) {
			s.close()
		}
	}
}

func linkFlapping(w *world) {
	crew, room := w.crew(), group("room")
	flaps, steady := crew[0], crew[1]
	w.needCut(flaps)
	s, other := flaps.subscribe(room), steady.subscribe(room)
	w.arrives(steady.publish(room), []int{s.id, other.id})
	w.arrives(flaps.publish(room), []int{s.id, other.id})
	before := flaps.resources()
	const cuts = 30
	for i := range cuts {
		w.outage(flaps, func() { rest(w.ctx, time.Duration(w.rand.IntN(10))*time.Millisecond) })
		rest(w.ctx, time.Duration(w.rand.IntN(50))*time.Millisecond) // in which it may come back
		steady.publish(room)
		if i%10 == 9 { // waiting more often would take long: a backplane does well to wait longer each time
			flaps.recovers(room, s)
		}
		if i == cuts/2 && flaps.dials() {
			flaps.refuse(2)
			flaps.recovers(room, s)
			flaps.heal()
		}
	}
	flaps.recovers(room, s)
	if _, tells := flaps.reporter(); tells {
		w.eventually(flaps.name+" to say that it is up", func() bool { return flaps.health().State == backplane.Up })
	}
	w.arrives(steady.publish(room), []int{s.id, other.id})
	var now resources
	w.eventually(flaps.name+" to have no more goroutines and connections than before it flapped", func() bool {
		now = flaps.resources()
		return now.goroutines <= before.goroutines && now.connections <= before.connections
	})
}

// recovers waits until the instance hears itself again.
func (n *instance) recovers(to backplane.Address, s *sub) {
	n.w.arrives(n.publishAgain(to), []int{s.id})
}

// resources are what an instance holds.
type resources struct{ goroutines, connections int }

func (n *instance) resources() resources {
	count, _ := goroutines(n.w.name + "/" + n.name + "\"")
	return resources{count, n.link.Open()}
}
