package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/gobackplane/backplane"
)

// What happens when an instance's link to the broker fails.

func linkProperties() []Property {
	return []Property{
		{
			ID:    "link/used",
			Says:  "the instances' links can be made to fail: they dial through Instance.Dial, or Inject has given faults.",
			Why:   "what cannot be made to fail is not proven.",
			Often: "the opener does not pass Instance.Dial on.",
			Needs: NeedLink, Since: "v1", about: nil, run: linkUsed,
		},
		{
			ID:    "link/loss-is-loud",
			Says:  "what is missed during an outage is told by a gap, before the next message of that publisher.",
			Why:   "a client that does not know that it missed something shows something wrong for ever.",
			Often: "a client library that reconnects and resubscribes by itself, and tells nobody.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "lossIsLoud", "counts"}, run: linkLossIsLoud,
		},
		{
			ID:    "link/gap-complete",
			Says:  "every subscription that an outage may have touched gets its gap, with its cause, also those that nothing was published to.",
			Why:   "one group would be fetched anew, another would stay wrong.",
			Often: "a client library that reconnects and tells nobody, gaps only for the channels that are heard of again, a limit on how often one is told.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "lossIsLoud"}, run: linkGapComplete,
		},
		{
			ID:    "link/gap-true",
			Says:  "there is no gap without a cause.",
			Why:   "each gap makes all clients fetch: a false alarm is load without reason.",
			Often: "a gap now and then to be safe, a silent address taken for a lost one.",
			Needs: NeedTime, Since: "v1", about: []string{"noFalseAlarm", "counts"}, run: linkGapTrue,
		},
		{
			ID:    "link/resubscribe",
			Says:  "after an outage all subscriptions are in force again without help.",
			Why:   "a group would be deaf until the process restarts.",
			Often: "a client library that reconnects and tells nobody, only some are restored, none when the first attempt fails or once there were many.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "lossIsLoud", "noFalseAlarm"}, run: linkResubscribe,
		},
		{
			ID:    "link/publish-down",
			Says:  "publishing while the link is down fails or waits within its context; it does not return nil for a message that is lost.",
			Why:   "the program would believe that the alert is out.",
			Often: "a buffer of the client library that is emptied when the connection is lost for good, a lost answer reported as a refusal.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "mustNot", "errors", "taken", "noFalseAlarm"}, run: linkPublishDown,
		},
		{
			ID:    "link/subscribe-down",
			Says:  "subscribing while the link is down fails, or is in force afterwards; never neither.",
			Why:   "a group would be deaf although the program was told that it hears.",
			Often: "a subscription that is noted, reported as done, and never sent.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "barrier", "errors"}, run: linkSubscribeDown,
		},
		{
			ID:    "link/half-open",
			Says:  "a link that carries nothing although its connections are open is noticed in time and treated like a broken one.",
			Why:   "a firewall that forgets a connection makes an instance deaf without an error.",
			Often: "no keep-alive, or one that is answered by the client library alone.",
			Needs: NeedLink | NeedTime, Since: "v1", about: []string{"must", "lossIsLoud"}, run: linkHalfOpen,
		},
		{
			ID:    "link/no-repeat",
			Says:  "reconnecting and retrying never deliver a message twice.",
			Why:   "an alert shown twice is acted on twice.",
			Often: "a retry of a publish whose answer was lost.",
			Needs: NeedLink, Since: "v1", about: []string{"once", "order", "mustNot"}, run: linkNoRepeat,
		},
	}
}

// noticedWithin is the time in which the contract wants a half-open link to be noticed.
const noticedWithin = 5 * time.Second

func linkUsed(w *world) {
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		n.subscribe(room)
		n.publish(room)
	}
	w.needCut(crew...)
}

func linkLossIsLoud(w *world) {
	crew, room := w.crew(), group("room")
	deaf, publisher := crew[0], crew[1]
	w.needCut(deaf)
	first, second := deaf.subscribe(room), deaf.subscribe(room)
	publisher.subscribe(room)
	stop := w.stream(publisher, room)
	for round := range 3 {
		w.arrives(publisher.publish(room), []int{first.id})
		w.outage(deaf, func() {
			for range 20 {
				publisher.publish(room)
			}
		})
		w.awaitGap(first, round+1)
		w.awaitGap(second, round+1)
	}
	stop()
	w.outage(deaf, func() { publisher.publish(room) }) // the last message, with none after it
	const all = 4
	w.awaitGap(first, all)
	w.awaitGap(second, all)
}

func linkGapComplete(w *world) {
	crew := w.crew()
	deaf, publisher := crew[0], crew[1]
	w.needCut(deaf)
	var subs []*sub
	for i := range w.count(500) {
		subs = append(subs, deaf.subscribe(group(fmt.Sprintf("room-%d", i))))
	}
	for round := range 2 { // the second right after the first, which does not stand for both
		w.outage(deaf, func() {
			for i := range subs {
				if i%10 == 0 {
					publisher.publish(group(fmt.Sprintf("room-%d", i)))
				}
			}
		})
		for _, s := range subs {
			w.awaitGap(s, round+1)
		}
	}
	w.outagesBehindHandler(deaf, publisher)
	w.gapTellsOutage(deaf)
}

// gapTellsOutage looks at the cause of a gap: that the link failed.
func (w *world) gapTellsOutage(n *instance) {
	s := n.subscribe(group("told"))
	w.outage(n, func() {})
	w.awaitGap(s, 1)
	for _, r := range w.rec.snapshot().Runs {
		if r.Sub == s.id && r.Gap != 0 && r.Gap != backplane.GapLink {
			w.fatalf("%s was cut off, and the cause of its gap is %q", n.name, r.Gap)
		}
	}
}

// outagesBehindHandler has a second outage begin while the gap of the first waits for a handler that is busy. Whatever the
// handler is told before the second is over, that one is told as well. Nothing is published that numbers could miss.
func (w *world) outagesBehindHandler(n, publisher *instance) {
	busy, other := group("busy"), group("other")
	s, v := w.valved(n, busy)
	beside := n.subscribe(other)
	v.shut()
	publisher.publish(busy)
	w.await(n.name+" to enter its handler", func() bool { return len(w.rec.running[s.id]) > 0 })
	w.outage(n, func() {})
	w.awaitGap(beside, 1)
	told := 0
	w.outage(n, func() {
		const soon = 10 * time.Millisecond
		rest(w.ctx, soon)
		v.release()
		w.within(soon, func() bool { return w.rec.subs[s.id].gaps > 0 }) // or both are told together
		w.rec.mu.Lock()
		defer w.rec.mu.Unlock()
		told = w.rec.subs[s.id].gaps
	})
	w.awaitGap(s, told+1)
}

func linkGapTrue(w *world) {
	crew, busy, calm, still := w.crew(), group("busy"), group("calm"), group("still")
	for _, n := range crew {
		n.subscribe(busy)
		n.subscribe(calm)
		n.subscribe(still)
	}
	stop := w.stream(crew[0], busy)
	const seconds = 3
	for range seconds { // longer than a silent address takes to be looked after
		crew[1].publish(calm)
		rest(w.ctx, time.Second)
	}
	stop()
	crew[1].publish(still)
}

func linkResubscribe(w *world) {
	crew := w.crew()
	back, publisher := crew[0], crew[1]
	w.needCut(back)
	address := func(i int) backplane.Address { return group(fmt.Sprintf("ward:%d", i)) }
	for _, k := range []int{1, 100, w.count(2000)} {
		var subs []*sub
		for i := range k {
			subs = append(subs, back.subscribe(address(i)))
		}
		w.outage(back, func() {})
		for _, s := range subs {
			w.awaitGap(s, 1)
		}
		for i, s := range subs {
			w.hears(publisher, address(i), []int{s.id})
			if k == 1 { // and it stays well
				w.hears(publisher, address(i), []int{s.id})
				w.quiet()
			}
			s.close()
		}
	}
	if w.suite.bubble { // where time is free, also after one that is longer than any number of attempts that looks like enough
		s := back.subscribe(address(0))
		w.outage(back, func() { w.idle(time.Hour) })
		w.awaitGap(s, 1)
		w.hears(publisher, address(0), []int{s.id})
	}
}

func linkPublishDown(w *world) {
	crew, room := w.crew(), group("room")
	down, hears := crew[0], crew[1]
	w.needCut(down)
	down.subscribe(room) // which must not hear what nobody else does
	hears.subscribe(room)
	for range w.rounds(3) {
		w.tryDuring(down, room)
		down.publishAgain(room)
		w.outage(down, func() {
			ctx, cancel := context.WithTimeout(w.ctx, 300*time.Millisecond)
			defer cancel()
			_, _ = down.tryPublish(ctx, room, headerLen) // nil would mean that somebody hears it
		})
		down.publishAgain(room)
	}
}

func linkSubscribeDown(w *world) {
	crew := w.crew()
	down, publisher := crew[0], crew[1]
	w.needCut(down)
	address := func(i int) backplane.Address { return group(fmt.Sprintf("room-%d", i)) }
	down.subscribe(address(0))
	const during, across = 10, 20
	var asked []<-chan struct{}
	w.outage(down, func() {
		for i := range during { // some give up while it is down
			ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
			_, _ = down.trySubscribe(ctx, address(i), nil) // the record has it
			cancel()
		}
		for i := during; i < across; i++ { // some wait until it is over
			done := make(chan struct{})
			go func() {
				defer close(done)
				ctx, cancel := w.patient()
				defer cancel()
				_, _ = down.trySubscribe(ctx, address(i), nil)
			}()
			asked = append(asked, done)
		}
		const meanwhile = 5 * time.Millisecond
		rest(w.ctx, meanwhile)
		for i := during; i < across; i++ { // and others to the same addresses, which must not take those for done
			done := make(chan struct{})
			go func() {
				defer close(done)
				ctx, cancel := w.patient()
				defer cancel()
				_, _ = down.trySubscribe(ctx, address(i), nil)
			}()
			asked = append(asked, done)
		}
		rest(w.ctx, meanwhile)
		for i := range across { // who was told that it hears, hears this
			publisher.publish(address(i))
		}
	})
	for _, done := range asked {
		<-done
	}
	w.check()
	for i := range across {
		publisher.publish(address(i))
	}
	w.settle()
	for i := range across { // and an attempt after the outage works in any case
		down.subscribe(address(i))
		publisher.publish(address(i))
	}
}

func linkHalfOpen(w *world) {
	crew, room := w.crew(), group("room")
	half, publisher := crew[0], crew[1]
	if _, hang := half.can(); !hang {
		w.notExercised(noLink)
	}
	s := half.subscribe(room)
	publisher.subscribe(room)
	w.arrives(publisher.publish(room), []int{s.id})
	carryNothing := func() {
		half.hang()
		for range 20 {
			publisher.publish(room)
		}
	}
	if half.dials() {
		carryNothing()
		w.awaitGap(s, 1) // nothing heals it: it has to notice by itself, and connect anew
	} else { // new connections hang, too, so it is healed once it must have noticed
		noticed := half.watchHealth()
		carryNothing()
		if !noticed(noticedWithin) {
			w.fatalf("%s is still said to be up, although %v are over in which it should notice that its link carries nothing", half.name, noticedWithin)
		}
		half.heal() // what was held back may arrive after all, and then no gap is due
	}
	w.arrives(publisher.publish(room), []int{s.id})
	half.publishAgain(room)
	half.heal()
}

func linkNoRepeat(w *world) {
	crew, room := w.crew(), group("room")
	publisher, receiver := crew[0], crew[1]
	w.needCut(publisher, receiver)
	for _, n := range crew {
		n.subscribe(room)
	}
	for range w.rounds(5) {
		w.tryDuring(publisher, room)
		publisher.publishAgain(room)
		w.outage(receiver, func() { publisher.publish(room) })
		publisher.publish(room)
	}
}
