package conformance

import (
	"math/rand/v2"
	"slices"
	"time"
)

// scale says how large the schedules are that are drawn.
type scale struct {
	instances int           // at most
	steps     int           // at most; a third of it at least
	pause     time.Duration // at most
}

// drawer draws a schedule. It follows roughly what the schedule does, so that most steps make sense.
type drawer struct {
	rand  *rand.Rand
	scale scale
	can   []verb // the faults that can be made
	addrs []int  // the addresses, by their numbers, see stepAddress
	hot   step   // the instance and the address that most is about: what breaks needs several steps at one place
	seats []seatDraft
	steps []step
}

// seatDraft is what a drawer knows of an instance.
type seatDraft struct {
	closed  bool
	faulty  bool
	subs    [addressCount]int
	stalled [addressCount]bool
}

const (
	maxAddresses = 3
	minInstances = 2
)

// draw returns the schedule of a seed.
func draw(seed uint64, can []verb, sc scale) schedule {
	d := &drawer{rand: schedule{seed: seed}.rand("draw"), scale: sc, can: can}
	d.addrs = d.rand.Perm(addressCount)[:1+d.rand.IntN(maxAddresses)]
	d.seats = make([]seatDraft, minInstances+d.rand.IntN(sc.instances-minInstances+1))
	d.hot = step{node: d.rand.IntN(len(d.seats)), address: d.address()}
	for i := range d.seats { // else most of what is published reaches nobody
		d.add(step{verb: doSubscribe, node: i, address: d.address()})
	}
	least := sc.steps / 3
	for n := least + d.rand.IntN(sc.steps-least+1); len(d.steps) < n; {
		d.next()
	}
	return schedule{seed: seed, instances: len(d.seats), steps: d.steps}
}

// rand is for what is drawn of a schedule's seed, for one purpose.
func (s schedule) rand(purpose string) *rand.Rand {
	return rand.New(rand.NewPCG(s.seed, uint64(checksum([]byte(purpose))))) //nolint:gosec // repeatable on purpose
}

// address draws one of the schedule's addresses.
func (d *drawer) address() int { return d.addrs[d.rand.IntN(len(d.addrs))] }

// chance is true once in n times.
func (d *drawer) chance(n int) bool { return d.rand.IntN(n) == 0 }

// next draws one more step, if the one that it comes upon makes sense.
func (d *drawer) next() {
	node, address := d.rand.IntN(len(d.seats)), d.address()
	if d.chance(2) {
		node = d.hot.node
	}
	if d.chance(2) {
		address = d.hot.address
	}
	seat := &d.seats[node]
	st := step{node: node, address: address}
	kinds := []struct {
		weight int
		makes  bool // sense
		draw   func()
	}{
		{20, !seat.closed, func() { d.publish(&st) }},
		{12, !seat.closed && seat.subs[address] < 4, func() { d.callers(&st, doSubscribe) }},
		{10, seat.subs[address] > 0, func() { d.callers(&st, doUnsubscribe) }},
		{3, !seat.closed, func() { st.verb, st.beside = doAsk, d.chance(3) }},
		{6, true, func() { d.pause(&st) }},
		{12, !seat.closed && !seat.faulty && len(d.can) > 0, func() { d.fault(&st) }},
		{10, seat.faulty, func() { st.verb = doHeal }},
		{6, seat.subs[address] > 0 && !seat.stalled[address], func() { st.verb = doStall }},
		{8, seat.stalled[address], func() { st.verb = doRelease }},
		{6, true, func() { st.verb, st.beside = doReopen, d.chance(4) }},
		{1, !seat.closed && len(d.seats) > minInstances, func() { st.verb, st.beside = doClose, d.chance(4) }},
	}
	all := 0
	for _, k := range kinds {
		all += k.weight
	}
	at := d.rand.IntN(all)
	for _, k := range kinds {
		if at -= k.weight; at >= 0 {
			continue
		}
		if k.makes {
			k.draw()
			d.add(st)
		}
		return
	}
}

// publish draws how many messages of which size. A burst is of small ones, or more than a handler's queue holds.
func (d *drawer) publish(st *step) {
	const (
		burst = 300
		large = 48 << 10
		many  = 90 // large ones are more than 4 MiB

		surrendered = 64
	)
	st.verb, st.count, st.size, st.callers = doPublish, 1+d.rand.IntN(10), headerLen, 1
	stalled := slices.ContainsFunc(d.seats, func(s seatDraft) bool { return s.stalled[st.address] })
	switch kind := d.rand.IntN(12); {
	case kind == 0:
		st.count = 1 + d.rand.IntN(burst)
	case kind == 1:
		st.size = headerLen + d.rand.IntN(large)
	case kind == 2:
		st.callers = 2 + d.rand.IntN(3)
		st.count *= st.callers
	case kind == 3 && d.chance(2):
		st.canceled, st.count = true, 1+d.rand.IntN(surrendered)
	case kind < 6 && stalled && !d.seats[st.node].faulty: // a queue that fills
		st.count, st.size = many, large
	}
	st.beside = d.chance(3)
}

// callers draws who does the same at the same time: two that subscribe to one address, two that close one subscription.
func (d *drawer) callers(st *step, v verb) {
	st.verb, st.beside, st.callers = v, d.chance(4), 1
	if d.chance(4) {
		st.callers = 2
	}
}

// fault draws what happens to a link, or to the broker.
func (d *drawer) fault(st *step) {
	const tornWithin = 4000
	switch st.verb = d.can[d.rand.IntN(len(d.can))]; st.verb {
	case doTear:
		st.size = d.rand.IntN(tornWithin)
	case doRestart:
		*st = step{verb: doRestart}
	default:
	}
}

// pause draws how long nothing happens: mostly next to nothing.
func (d *drawer) pause(st *step) {
	*st = step{verb: doPause}
	longest := time.Millisecond
	for longest < d.scale.pause && !d.chance(3) {
		longest *= 4
	}
	longest = min(longest, d.scale.pause)
	st.pause = (longest/2 + time.Duration(d.rand.Int64N(int64(longest/2)))).Round(time.Millisecond / 10)
}

// add adds a step, and notes what it does.
func (d *drawer) add(st step) {
	d.steps = append(d.steps, st)
	seat := &d.seats[st.node]
	switch st.verb {
	case doSubscribe:
		seat.subs[st.address] += st.callers
	case doUnsubscribe:
		seat.subs[st.address]--
	case doClose:
		*seat = seatDraft{closed: true}
	case doReopen:
		*seat = seatDraft{}
	case doStall:
		seat.stalled[st.address] = true
	case doRelease:
		seat.stalled[st.address] = false
	case doCut, doHang, doDeafen, doMute, doTear:
		seat.faulty = true
	case doHeal:
		seat.faulty = false
	case doPublish, doAsk, doPause, doRestart:
	}
}
