package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/gobackplane/backplane"
)

// Chapter 9: what happens when an instance's link to the broker fails.

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
			Says:  "every subscription that an outage may have touched gets its gap, also those that nothing was published to.",
			Why:   "one group would be fetched anew, another would stay wrong.",
			Often: "gaps only for the channels that are heard of again.",
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
			Often: "only some are restored, or none when the first attempt fails.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "lossIsLoud"}, run: linkResubscribe,
		},
		{
			ID:    "link/publish-down",
			Says:  "publishing while the link is down fails or waits within its context; it does not return nil for a message that is lost.",
			Why:   "the program would believe that the alert is out.",
			Often: "a buffer of the client library that is emptied when the connection is lost for good.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "mustNot", "errors"}, run: linkPublishDown,
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
			Needs: NeedLink, Since: "v1", about: []string{"once", "order"}, run: linkNoRepeat,
		},
	}
}

// noticed is the time in which the contract wants a half-open link to be noticed.
const noticed = 5 * time.Second

const noLink = "the instances' links cannot be made to fail: they do not dial through Instance.Dial, and Inject gives no such fault"

// needCut ends the property if the links of these instances cannot be cut.
func (w *world) needCut(instances ...*instance) {
	for _, n := range instances {
		if cut, _ := n.can(); !cut {
			w.notExercised(noLink)
		}
	}
}

// outage cuts an instance's link, does something meanwhile, and heals it.
func (w *world) outage(n *instance, meanwhile func()) {
	n.cut()
	meanwhile()
	n.heal()
}

// gaps returns how many gaps a subscription was told.
func (w *world) gaps(s *sub) int {
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	return w.rec.subs[s.id].gaps
}

// awaitGap waits until a subscription was told n gaps.
func (w *world) awaitGap(s *sub, n int) {
	w.await(fmt.Sprintf("%s to be told of a gap on %v", s.n.name, w.placeOf(s).Address), func() bool { return w.rec.subs[s.id].gaps >= n })
}

func (w *world) placeOf(s *sub) place {
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	return w.rec.h.Subs[s.id].Place
}

// publishAgain publishes until it succeeds: after an outage the first attempts may still fail.
func (n *instance) publishAgain(to backplane.Address) (pub int) {
	n.w.eventually(n.name+" to publish again", func() bool {
		ctx, cancel := n.w.patient()
		defer cancel()
		var err error
		pub, err = n.tryPublish(ctx, to, headerLen)
		return err == nil
	})
	return pub
}

// tryDuring publishes from an instance, four calls at a time, while its own link fails in several ways: answers get lost,
// then it is cut with publishes under way, then cut and healed at once. What Publish returns is for the rules.
func (w *world) tryDuring(n *instance, to backplane.Address) {
	const (
		workers = 4
		some    = 20 // messages between two faults
		least   = 300 * time.Millisecond
		patient = 2 * time.Second // long enough to be retried, should the backplane do so
	)
	over := make(chan struct{})
	w.each(workers+1, func(i int) {
		if i < workers {
			for alive := true; alive; alive = rest(w.ctx, time.Millisecond) {
				select {
				case <-over:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(w.ctx, patient)
				_, _ = n.tryPublish(ctx, to, headerLen) // the record has it
				cancel()
			}
			return
		}
		defer close(over)
		called := 0
		pass := func(messages int) {
			w.rec.mu.Lock()
			called = w.rec.seqs[n.id] + messages
			w.rec.mu.Unlock()
			w.within(least, func() bool { return w.rec.seqs[n.id] >= called })
		}
		pass(some)
		if n.canDeafen() {
			n.deafen()
			pass(workers)
		}
		n.cut()
		pass(some)
		n.heal()
		pass(some)
		n.cut()
		n.heal()
		pass(some)
	})
}

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
	w.outage(deaf, func() {
		for i := range subs {
			if i%10 == 0 {
				publisher.publish(group(fmt.Sprintf("room-%d", i)))
			}
		}
	})
	for _, s := range subs {
		w.awaitGap(s, 1)
	}
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
			w.arrives(publisher.publish(address(i)), []int{s.id})
			s.close()
		}
	}
}

func linkPublishDown(w *world) {
	crew, room := w.crew(), group("room")
	down, hears := crew[0], crew[1]
	w.needCut(down)
	hears.subscribe(room)
	for range 3 {
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
	var asked []func()
	w.outage(down, func() {
		for i := range during { // some give up while it is down
			ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
			_, _ = down.trySubscribe(ctx, address(i), nil) // the record has it
			cancel()
		}
		for i := during; i < across; i++ { // some wait until it is over
			done := make(chan error, 1)
			go func() {
				ctx, cancel := w.patient()
				defer cancel()
				_, err := down.trySubscribe(ctx, address(i), nil)
				done <- err
			}()
			asked = append(asked, func() { <-done })
		}
	})
	for _, wait := range asked {
		wait()
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
	half.hang()
	for range 20 {
		publisher.publish(room)
	}
	if !half.dials() { // new connections hang, too, so it is healed once it must have noticed
		w.within(noticed, func() bool { return w.rec.subs[s.id].gaps > 0 })
		half.heal()
	}
	w.awaitGap(s, 1) // else nothing heals it: it has to notice by itself, and connect anew
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
	for range 5 {
		w.tryDuring(publisher, room)
		publisher.publishAgain(room)
		w.outage(receiver, func() { publisher.publish(room) })
		publisher.publish(room)
	}
}
