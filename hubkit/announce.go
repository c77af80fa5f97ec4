package hubkit

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

const (
	// resumePatience bounds how long a resume, or an end of a session, waits for an instance that does not answer.
	resumePatience = time.Second
	// announceEvery is how long an instance that did not answer, or that was not known, waits at most to be told.
	announceEvery = time.Second
	// maxAnnounced bounds the notices that wait for such instances.
	maxAnnounced = 65536
)

// announcer tells the other instances which sessions were ended here and which came back here: all of them now, and those
// that did not answer, or come later, when they are there. So a ghost on an instance that cannot be reached is closed as
// soon as it can. What all have been told is kept until it is old, for whoever comes.
type announcer struct {
	hub  *Hub
	wake chan struct{} // holds a token where there is something new

	mu      sync.Mutex
	log     []notice      // guarded by mu, as all that follows
	first   uint64        // the number of log[0]
	told    uint64        // notices below this number were told to whoever could be reached, and stored
	changed chan struct{} // closed, and made anew, when told grows
	store   []notice      // ended sessions that the store does not have yet
	running bool          // the goroutine that tells runs

	most uint64 // notices that travel at a time; less than maxNotices where the backplane's payloads are small; of the goroutine
}

func (a *announcer) init(h *Hub) {
	a.hub, a.wake, a.changed, a.most = h, make(chan struct{}, 1), make(chan struct{}), maxNotices
}

// add has notices told. It returns a number for wait. It does not block.
func (a *announcer) add(list ...notice) (number uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log = append(a.log, list...)
	if extra := len(a.log) - maxAnnounced; extra > 0 {
		a.log = a.log[extra:] // append makes a new one now and then; to copy it each time would cost every resume the whole log
		a.first += uint64(extra)
	}
	a.keep(list)
	return a.first + uint64(len(a.log))
}

// record has ended sessions stored, and nobody told. It does not block.
func (a *announcer) record(list []notice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keep(list)
}

// keep has the ended sessions of a list stored, and wakes the goroutine. mu is held.
func (a *announcer) keep(list []notice) {
	if a.hub.sessionStore() != nil {
		for _, n := range list {
			if n.ended && len(a.store) < maxAnnounced {
				a.store = append(a.store, n)
			}
		}
	}
	if !a.running {
		a.running = a.hub.spawn(a.run)
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// wait waits until the notices below a number were told to whoever can be reached, and stored.
func (a *announcer) wait(ctx context.Context, number uint64) {
	for {
		a.mu.Lock()
		told, changed := a.told, a.changed
		a.mu.Unlock()
		if told >= number {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-a.hub.closing.Done():
			return
		}
	}
}

// run tells until there is nothing to tell to anybody.
func (a *announcer) run() {
	next := make(map[backplane.NodeID]uint64) // the number of the first notice that a member has not been told
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		last := false
		select {
		case <-a.wake:
		case <-timer.C:
		case <-a.hub.closing.Done():
			last = true // what was said just before is still told once
		}
		more := true
		for again := true; again; {
			again, more = a.round(next)
		}
		if last || !more {
			return
		}
		timer.Reset(announceEvery)
	}
}

// round tells what there is to tell, at most a.most notices to each member. again says that more can be told at once; more, that the
// goroutine has to go on.
func (a *announcer) round(next map[backplane.NodeID]uint64) (again, more bool) {
	now := time.Now()
	a.mu.Lock()
	for len(a.log) > 0 && !now.Before(a.log[0].until) {
		a.log = a.log[1:]
		a.first++
	}
	log, first := a.log, a.first
	unstored := a.store[:min(len(a.store), maxNotices)]
	a.store = a.store[len(unstored):]
	if len(log) == 0 && len(unstored) == 0 {
		a.log, a.running = nil, false
		a.mu.Unlock()
		return false, false
	}
	a.mu.Unlock()

	ctx, cancel := context.WithTimeout(a.hub.ctx, resumePatience)
	defer cancel()
	var storing sync.WaitGroup
	stored := false
	storing.Go(func() { stored = a.storeEnded(ctx, unstored) })
	told, again := a.tell(ctx, log, first, next)
	storing.Wait()

	a.mu.Lock()
	defer a.mu.Unlock()
	if stored && len(a.store) > 0 { // what waits for these waits for those, too
		return true, true
	}
	if told > a.told {
		a.told = told
		close(a.changed)
		a.changed = make(chan struct{})
	}
	return again, true
}

// tell tells every member what comes next for it. It returns the number that whoever can be reached has been told up to, and whether
// there is more that could be told now.
func (a *announcer) tell(ctx context.Context, log []notice, first uint64, next map[backplane.NodeID]uint64) (told uint64, again bool) {
	h := a.hub
	head, most := first+uint64(len(log)), a.most
	if h.cluster == nil {
		return head, false
	}
	behind := a.members(first, head, next)
	if len(behind) == 0 {
		return head, false
	}
	question := func(from uint64) []byte {
		return appendNotices([]byte{questionVersion, askNotices}, log[from-first:min(from-first+most, head-first)], time.Now())
	}
	// Usually all wait for the same, and are asked at once.
	front := next[behind[0]]
	at := slices.IndexFunc(behind, func(node backplane.NodeID) bool { return next[node] != front })
	if at < 0 {
		at = len(behind)
	}
	var asking sync.WaitGroup
	var all []said
	var tooLarge error
	if at > 1 && 2*at >= len(next) {
		asking.Go(func() { all, tooLarge = h.askAllOf(ctx, question(front)) })
		behind = behind[at:]
	}
	alone := inParallel(behind, func(node backplane.NodeID) said { return h.askNode(ctx, node, question(next[node])) })
	asking.Wait()
	advance := func(s said) {
		if a.heard(s) {
			next[s.node] = min(next[s.node]+most, head)
			again = again || next[s.node] < head
		} else if errors.Is(s.err, backplane.ErrTooLarge) {
			tooLarge = s.err
		}
	}
	for _, s := range alone {
		advance(s)
	}
	for _, s := range all {
		if from, is := next[s.node]; is && from == front && !slices.Contains(behind, s.node) {
			advance(s)
		}
	}
	if errors.Is(tooLarge, backplane.ErrTooLarge) && most > 1 {
		a.most = most / 2 //nolint:mnd // until they fit
		return front, true
	}
	return min(front+most, head), again
}

// members brings the members' places up to date, and returns those that are behind, the ones that are least behind first.
func (a *announcer) members(first, head uint64, next map[backplane.NodeID]uint64) (behind []backplane.NodeID) {
	is := make(map[backplane.NodeID]struct{})
	for _, m := range a.hub.cluster.Members() {
		if m.Self {
			continue
		}
		is[m.ID] = struct{}{}
		if next[m.ID] = max(next[m.ID], first); next[m.ID] < head {
			behind = append(behind, m.ID)
		}
	}
	for node := range next {
		if _, member := is[node]; !member {
			delete(next, node) // if it comes back it is told everything
		}
	}
	slices.SortFunc(behind, func(a, b backplane.NodeID) int { return cmp.Compare(next[b], next[a]) })
	return behind
}

// heard reports whether an instance has been told, and takes in what it knows better. One that has no such hub, or an older one,
// need not be told.
func (a *announcer) heard(s said) bool {
	switch {
	case s.nobody, errors.Is(s.err, backplane.ErrUnsupported):
		return true
	case s.err != nil:
		return false
	}
	better, err := decodeNotices(s.answer, time.Now())
	if err != nil {
		return true // a newer version: to tell it again would not help
	}
	a.hub.takeNotices(better)
	return true
}

// askAllOf asks all instances and returns what each said, or why it did not. The error is this node's own; then nobody was asked.
func (h *Hub) askAllOf(ctx context.Context, question []byte) ([]said, error) {
	all, err := h.cluster.AskAll(ctx, service(h.name), question)
	if err != nil {
		return nil, err
	}
	answers := make([]said, len(all))
	for i, one := range all {
		answers[i] = hears(one.Node, one.Payload, one.Err)
	}
	return answers, nil
}
