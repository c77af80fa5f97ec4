package conformance

import (
	"slices"
	"sync"
)

// byTurn returns the places of properties in the order in which they begin: first those that take long or wait for links
// to come back, so that the others fill the time; at the end, and alone, those that restart the broker.
func byTurn(properties []Property) []int {
	turn := func(i int) int {
		switch n := properties[i].Needs; {
		case n&NeedRestart != 0:
			return 4
		case n&NeedTime != 0:
			return 1
		case n&NeedLink != 0:
			return 2
		}
		return 3
	}
	places := make([]int, len(properties))
	for i := range places {
		places[i] = i
	}
	slices.SortStableFunc(places, func(a, b int) int { return turn(a) - turn(b) })
	return places
}

// turn is a world's place among the properties that run at the same time.
type turn struct {
	mu    sync.Mutex
	taken bool // guarded by mu
	over  bool // guarded by mu; it is not taken again
}

// take waits for a place.
func (t *turn) take(slots chan struct{}) {
	slots <- struct{}{}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over { // the property was given up meanwhile
		<-slots
		return
	}
	t.taken = true
}

// leave gives the place back, for good or for a while. It returns false where there is none: in a world inside another.
func (t *turn) leave(slots chan struct{}, over bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.taken
	if taken {
		<-slots
	}
	t.taken, t.over = false, t.over || over
	return taken
}

// aside runs f, which does little but wait. Meanwhile another property may have the place of this one.
func (w *world) aside(f func()) {
	if w.turn.leave(w.suite.slots, false) {
		defer w.turn.take(w.suite.slots)
	}
	f()
}
