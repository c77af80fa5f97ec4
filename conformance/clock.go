package conformance

import "time"

// Chapter 11: time.

func clockProperties() []Property {
	return []Property{
		{
			ID:    "clock/idle",
			Says:  "after a long silence, a day in a bubble and five seconds outside, the first message is heard, and there is no gap.",
			Why:   "an alarm is rare, and the reason for it all.",
			Often: "a connection that a firewall forgot, a number that expired, a silent address that was tidied away.",
			Needs: NeedTime, Since: "v1", about: []string{"must", "noFalseAlarm"}, run: clockIdle,
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
		n.publish(room)
		n.publish(still) // to which nothing has ever been published
	}
}

// idle lets time pass. Meanwhile others may have the place of this property.
func (w *world) idle(d time.Duration) {
	<-w.suite.slots
	rest(w.ctx, d)
	w.suite.slots <- struct{}{}
	w.check()
}
