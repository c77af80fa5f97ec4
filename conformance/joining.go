package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/gobackplane/backplane"
)

// Who speaks as soon as it can, and who subscribes while others come, go or say nothing.

func joiningProperties() []Property {
	return []Property{
		{
			ID:    "subscribe/crowd",
			Says:  "of hundreds of Subscribes at the same time each one is in force when it returns, whichever instance publishes.",
			Why:   "after a deployment all clients join at once, and each is sent its state.",
			Often: "a barrier that is shared with who came after it had begun, a second subscriber that relies on a first one still under way.",
			Since: "v1", about: []string{"must", "taken"}, run: subscribeCrowd,
		},
		{
			ID:   "subscribe/newcomer",
			Says: "what an instance publishes as soon as it is open is heard by all who had subscribed until then, and who leaves keeps no Subscribe waiting.",
			Why:  "a rolling update replaces all instances, and each one has something to say at once.",
			Often: "a newcomer that publishes before it, or the server that it is connected to, knows who listens; " +
				"a Subscribe that asks the members that it knew when it began.",
			Since: "v1", about: []string{"must", "taken"}, run: subscribeNewcomer,
		},
		{
			ID: "subscribe/silent-member",
			Says: "while another instance hangs, or hears nothing, Subscribe returns within the member timeout and the time in which the link is " +
				"noticed, and is in force; one that gives up before leaves nothing behind.",
			Why:   "one frozen process must not keep clients from joining everywhere else.",
			Often: "a barrier that everybody has to answer, without a bound; what is found out behind it only: that the silent one speaks again.",
			Needs: NeedLink | NeedTime, Since: "v1", about: []string{"must", "barrier", "errors"}, run: subscribeSilentMember,
		},
	}
}

func returningProperties() []Property {
	return []Property{
		{
			ID: "link/first-words",
			Says: "what an instance publishes as soon as it is back from an outage is heard by all who had subscribed until then, those included who did " +
				"while it was away, or a gap tells it; and so is what it misses of the others itself.",
			Why:   "who was cut off has a backlog to tell, and it is those who joined meanwhile that have never heard of it.",
			Often: "a publisher that goes on with what it knew of the others before, members that are taken back without a gap.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "lossIsLoud"}, run: linkFirstWords,
		},
	}
}

func subscribeCrowd(w *world) {
	crew := w.crew()
	const each = 3 // subscribe to one address: two of one instance, and one of another
	w.each(each*w.count(200), func(i int) {
		room, at := i/each, i/each
		if i%each == each-1 {
			at++
		}
		to := group(fmt.Sprintf("room-%d", room))
		crew[at%len(crew)].subscribe(to)
		for _, n := range crew {
			n.publish(to)
		}
	})
}

func subscribeNewcomer(w *world) {
	crew := w.crew()
	for i := range max(2, w.count(20)) { //nolint:mnd // one on each side
		hears, other := crew[(i+1)%len(crew)], crew[i%len(crew)]
		name := func(when string) backplane.Address { return group(fmt.Sprintf("%s-%d", when, i)) }
		before := hears.subscribe(name("before"))
		newcomer := w.newInstance(w.namespace())
		var during *sub
		w.each(2, func(k int) {
			if k == 0 {
				newcomer.open()
				w.arrives(newcomer.publish(name("before")), []int{before.id})
				return
			}
			during = hears.subscribe(name("during"))
		})
		w.arrives(newcomer.publish(name("during")), []int{during.id})
		var after *sub
		w.each(2, func(k int) {
			if k == 0 {
				newcomer.close()
				return
			}
			began := time.Now()
			after = hears.subscribe(name("after"))
			if took := time.Since(began); w.suite.bubble && took > memberTimeout/2 {
				w.fatalf("Subscribe of %s took %v, because %s was closed meanwhile", hears.name, took, newcomer.name)
			}
		})
		w.arrives(other.publish(name("after")), []int{after.id})
	}
}

func subscribeSilentMember(w *world) {
	const three = 3
	crew := w.openAll(three)
	silent, joins, speaks := crew[0], crew[1], crew[2]
	if _, hang := silent.can(); !hang {
		w.notExercised(noLink)
	}
	faults := []func(){silent.hang}
	if silent.canDeafen() {
		faults = append(faults, silent.deafen)
	} else {
		w.leavesOut(noFault("Deafen"))
	}
	for i, fail := range faults {
		name := func(what string) backplane.Address { return group(fmt.Sprintf("%s-%d", what, i)) }
		w.hears(silent, name("old"), []int{joins.subscribe(name("old")).id})

		// It is back before anybody has given it up.
		fail()
		var short *sub
		w.each(2, func(k int) {
			if k == 0 {
				rest(w.ctx, time.Second)
				silent.heal()
				silent.publishAgain(name("short"))
				return
			}
			short = joins.subscribeWithin(memberTimeout, name("short"))
		})
		w.arrives(silent.publishAgain(name("short")), []int{short.id})

		// It is not.
		fail()
		for k := range three {
			ctx, cancel := context.WithTimeout(w.ctx, time.Duration(k)*100*time.Millisecond)
			_, _ = joins.trySubscribe(ctx, name("given-up"), nil) // the record has it
			cancel()
		}
		speaks.publish(name("given-up"))
		w.aside(func() {
			long := joins.subscribeWithin(memberTimeout+noticedWithin, name("long"))
			w.arrives(speaks.publish(name("long")), []int{long.id})
		})
		silent.heal()
		silent.publishAgain(name("long"))
		silent.publishAgain(name("given-up"))
		silent.publishAgain(name("old"))
	}
}

// subscribeWithin subscribes, which must succeed in a known time. What a busy machine needs comes on top of it.
func (n *instance) subscribeWithin(d time.Duration, to backplane.Address) *sub {
	const busy = 2 * time.Second
	ctx, cancel := context.WithTimeout(n.w.ctx, d+busy)
	defer cancel()
	s, err := n.trySubscribe(ctx, to, nil)
	if err != nil {
		n.w.check()
		n.w.fatalf("Subscribe of %s to %v failed, with %v to succeed in: %w", n.name, to, d, err)
	}
	return s
}

func linkFirstWords(w *world) {
	const three = 3
	crew := w.openAll(three)
	returns, joins, other := crew[0], crew[1], crew[2]
	w.needCut(returns)
	const enough = 2
	waits := 0 // for an instance that is away
	for i := range w.rounds(5) {
		name := func(what string) backplane.Address { return group(fmt.Sprintf("%s-%d", what, i)) }
		own, old := returns.subscribe(name("own")), joins.subscribe(name("old"))
		w.arrives(returns.publish(name("old")), []int{old.id})

		// What is subscribed meanwhile may have to wait for who is away.
		var during *sub
		w.each(2, func(k int) {
			if k == 0 {
				w.outage(returns, func() {
					other.publish(name("own"))
					rest(w.ctx, time.Duration(w.rand.IntN(100))*time.Millisecond)
				})
				returns.publishAgain(name("during"))
				returns.publish(name("old"))
				return
			}
			during = joins.subscribe(name("during"))
		})
		w.arrives(returns.publishAgain(name("during")), []int{during.id})
		w.arrives(other.publish(name("own")), []int{own.id})

		// It does not wait for longer than it takes to be taken for dead. Where it takes that long, of real time, twice are enough.
		if waits == enough && !w.suite.bubble {
			continue
		}
		var away *sub
		w.outage(returns, func() {
			began := time.Now()
			away = joins.subscribeWithin(memberTimeout, name("away"))
			if time.Since(began) > memberTimeout/2 {
				waits++
			}
			w.arrives(other.publish(name("away")), []int{away.id})
			if w.suite.bubble && i%2 == 1 {
				w.idle(2 * memberTimeout)
			}
		})
		w.arrives(returns.publishAgain(name("away")), []int{away.id})
		w.arrives(returns.publish(name("old")), []int{old.id})
		w.arrives(other.publish(name("own")), []int{own.id})
	}
}
