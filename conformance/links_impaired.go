package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/gobackplane/backplane"
)

// Links that work in part.

func impairedProperties() []Property {
	return []Property{
		{
			ID:    "link/one-way",
			Says:  "a link that carries nothing in one direction is noticed in time; what it swallowed ends in a gap or an error, and it recovers.",
			Why:   "an instance that still sends looks alive to everybody, and one that still hears believes that it is heard.",
			Often: "a keep-alive that is satisfied by one direction, a write that counts as done when the kernel has it.",
			Needs: NeedLink | NeedTime, Since: "v1", about: []string{"must", "mustNot", "lossIsLoud", "errors"}, run: linkOneWay,
		},
		{
			ID:    "link/slow",
			Says:  "a link that is slow, or carries one byte at a time, changes the speed and nothing else: there is no gap either.",
			Why:   "a far broker or a busy host is normal, and no reason to fetch everything anew.",
			Often: "one read taken for one frame, an answer that is late taken for one that is lost.",
			Needs: NeedLink | NeedWire, Since: "v1", about: []string{"must", "once", "order", "origin", "intact", "noFalseAlarm"}, run: linkSlow,
		},
		{
			ID:    "link/torn",
			Says:  "a message whose connection breaks in its middle is heard whole, or not at all, and its neighbours are heard as they were sent.",
			Why:   "half an alert is worse than none.",
			Often: "the rest of a frame taken for the beginning of the next, a retry that repeats what had arrived.",
			Needs: NeedLink | NeedWire, Since: "v1",
			about: []string{"origin", "intact", "once", "order", "must", "mustNot", "lossIsLoud"}, run: linkTorn,
		},
	}
}

func linkOneWay(w *world) {
	const three = 3
	crew, room := w.openAll(three), group("room")
	deaf, mute, well := crew[0], crew[1], crew[2]
	w.needCut(deaf, mute)
	if !deaf.canDeafen() || !mute.canMute() {
		w.notExercised(noFault("Deafen and Mute"))
	}
	var subs []int
	for _, n := range crew {
		subs = append(subs, n.subscribe(room).id)
	}
	for _, n := range crew {
		w.arrives(n.publish(room), subs)
	}
	halves := []struct {
		n    *instance
		fail func()
	}{{deaf, deaf.deafen}, {mute, mute.mute}}
	w.each(len(halves)+1, func(i int) {
		if i == len(halves) {
			for range 20 {
				well.publish(room)
			}
			return
		}
		half := halves[i]
		noticed := half.n.watchHealth()
		half.fail()
		ctx, cancel := context.WithTimeout(w.ctx, 300*time.Millisecond)
		_, _ = half.n.tryPublish(ctx, room, headerLen) // nil would mean that the others hear it
		cancel()
		if !noticed(noticedWithin) {
			w.fatalf("%s is still said to be up, although %v are over in which it should notice that one direction of its link carries nothing",
				half.n.name, noticedWithin)
		}
		half.n.heal()
		half.n.publishAgain(room)
	})
	for _, n := range crew {
		w.arrives(n.publish(room), subs)
	}
}

const noWire = "the instances' links cannot be slowed down or torn: they do not dial through Instance.Dial"

func (w *world) needWire(instances ...*instance) {
	for _, n := range instances {
		if !n.dials() {
			w.notExercised(noWire)
		}
	}
}

func linkSlow(w *world) {
	const three = 3
	crew, room := w.openAll(three), group("room")
	for _, n := range crew {
		n.subscribe(room)
	}
	publish := func(n *instance, k int) {
		for range k {
			n.publish(room)
		}
		n.publishSize(room, 4<<10)
	}
	sips, slow, well := crew[0], crew[1], crew[2]
	for _, n := range crew {
		publish(n, 1)
	}
	w.needWire(sips, slow)
	sips.sip(1)
	slow.delay(50 * time.Millisecond)
	w.each(three, func(i int) {
		switch n := crew[i]; n {
		case slow:
			publish(n, w.count(20))
		case sips, well:
			publish(n, w.count(100))
		}
	})
	late := slow.subscribe(group("late")) // verbs are slower, too, and nothing else
	w.arrives(sips.publish(group("late")), []int{late.id})
	w.settle() // before they are healed
}

func linkTorn(w *world) {
	crew := w.openAll(1 + 4)
	hears, torn := crew[0], crew[1:]
	address := func(i int) backplane.Address { return group(fmt.Sprintf("room-%d", i)) }
	for i, n := range torn {
		hears.subscribe(address(i))
		n.subscribe(address(i))
		n.publish(address(i))
	}
	w.needWire(torn...)
	before := torn[0].link.Written()
	torn[0].publish(address(0))
	frame := torn[0].link.Written() - before // and perhaps a probe
	var places []int
	for n := 1; n <= 64; n++ {
		places = append(places, n)
	}
	for n := max(65, frame-8); n <= frame+8; n++ {
		places = append(places, n)
	}
	w.each(len(torn), func(i int) {
		for k, after := range places {
			if k%len(torn) != i || w.suite.short && k%10 != i {
				continue
			}
			n, to := torn[i], address(i)
			n.publishAgain(to)
			n.tearAfter(after)
			for range 2 { // the second one meets the tear if the first was too short, or what the tear left behind
				ctx, cancel := context.WithTimeout(w.ctx, 2*time.Second)
				_, _ = n.tryPublish(ctx, to, headerLen) // the record has it
				cancel()
			}
			n.heal()
			n.publishAgain(to)
		}
	})
}
