package conformance

import "time"

// Time.

func clockProperties() []Property {
	return []Property{
		{
			ID:   "clock/idle",
			Says: "after a long silence, a day in a bubble and five seconds outside, the first messages are heard in their order, and there is no gap.",
			Why:  "an alarm is rare, and the reason for it all.",
			Often: "a connection that a firewall forgot, a number that expired, a silent address that was tidied away, a worker that " +
				"is started for the first message while the second one is handled.",
			Needs: NeedTime, Since: "v1", about: []string{"must", "noFalseAlarm", "order"}, run: clockIdle,
		},
		{
			ID:   "clock/skew",
			Says: "clocks that are an hour apart, and one that jumps back, change nothing.",
			Why:  "clocks are wrong now and then, and a server that is a minute ahead would be deaf to all others.",
			Often: "a time stamp of one instance compared with a clock, or a time stamp, of another one; an age taken from the time of " +
				"day, a question's deadline sent as one.",
			Since: "v1", about: []string{"must", "noFalseAlarm", "order", "once"}, run: clockSkew,
		},
	}
}

func clockIdle(w *world) {
	const two = 2
	crew, room, still := w.openAll(two), group("room"), group("still")
	for _, n := range crew {
		n.subscribe(room)
		n.subscribe(still)
		n.publish(room)
	}
	w.settle()
	long := 5 * time.Second // several heartbeats, probes and marks
	if w.suite.bubble {
		long = 24 * time.Hour
	}
	w.idle(long)
	for _, n := range crew {
		for range 3 {
			n.publish(room)
			n.publish(still) // to which nothing has ever been published
		}
	}
}

// idle lets time pass. Meanwhile others may have the place of this property.
func (w *world) idle(d time.Duration) {
	w.aside(func() { rest(w.ctx, d) })
	w.check()
}

// noClock is why most backplanes have nothing to lose here.
const noClock = "the backplane asks nobody for the time of day through Instance.Now"

func clockSkew(w *world) {
	const (
		ahead = iota // the indexes of the instances
		right
		behind
		all
	)
	crew, room := make([]*instance, all), group("room")
	for i := range crew {
		crew[i] = w.newInstance(w.namespace())
	}
	crew[ahead].skew(time.Hour)
	crew[behind].skew(-time.Hour)
	for _, n := range crew {
		n.open()
		n.subscribe(room)
	}
	talk := func() { // in both directions between any two
		for range w.count(30) {
			for _, n := range crew {
				n.publish(room)
			}
			for i := range crew {
				crew[all-1-i].publish(room)
			}
		}
	}
	talk()
	w.settle()
	w.questions(crew)
	for _, n := range crew { // and on, with what was sent before the jump still on its way
		n.publish(room)
		n.skew(-2 * time.Hour)
		n.publish(room)
	}
	crew[right].skew(0)
	talk()
	w.settle()
	w.questions(crew)
	for _, n := range crew {
		if n.clock.asked.Load() {
			return
		}
	}
	w.notExercised(noClock)
}

// questions lets each ask each, where they can.
func (w *world) questions(crew []*instance) {
	for _, n := range crew {
		if !AbilityCluster.of(n.backplane()) {
			return
		}
	}
	w.together(crew)
	for _, n := range crew {
		defer n.answers("service", answersWith("here"))()
	}
	for _, n := range crew {
		for _, other := range crew {
			ctx, cancel := w.patient()
			_, err := n.ask(ctx, other.cluster().ID(), "service", nil)
			cancel()
			if err != nil {
				w.check()
				w.fatalf("%s asked %s, whose clock shows another time, and got %w", n.name, other.name, err)
			}
		}
	}
}

// skew sets the instance's clock wrong.
func (n *instance) skew(ahead time.Duration) {
	n.w.rec.mark(markSkew, n.id, -1)
	n.clock.skew(ahead)
}
