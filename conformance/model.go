package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// What nobody thought of.

const modelID = "model/random"

func modelProperties() []Property {
	var every []string
	for _, r := range allRules() {
		every = append(every, r.name)
	}
	return []Property{{
		ID:    modelID,
		Says:  "whatever instances do and whatever happens to their links, in any order, all of the contract holds.",
		Why:   "what breaks in production is what nobody thought of: two things at once, or one right after another.",
		Often: "state that only one of two verbs looks at, a step of a recovery that assumes that nothing else happens meanwhile.",
		Needs: NeedLink, Since: "v1", about: every, run: modelRandom,
	}}
}

// How much random schedules are run by default, and how long a failing one is made smaller.
const (
	modelTime     = 2 * time.Second // where time is real
	modelAtOnce   = 4               // where time is real
	modelInBubble = 150             // schedules; where time costs nothing
	modelShort    = 20              // schedules; in a short run, where time costs nothing
	shrinkRuns    = 300
	shrinkTime    = time.Minute // where time is real
	failsAgain    = 3           // times that a failing schedule is run again to see whether it does
)

// modelRandom runs random schedules, each in a world of its own, until one fails or enough have run.
func modelRandom(w *world) {
	probe := w.openAll(1)[0]
	w.needCut(probe)
	can := probe.faultVerbs()
	probe.close()

	m := &model{w: w, can: can, size: scale{instances: 4, steps: 60, pause: 200 * time.Millisecond}}
	workers := modelAtOnce
	switch {
	case w.suite.bubble:
		workers = 1 // synctest.Wait is for one at a time, and time is free
		m.size.pause = 10 * time.Second
	case w.suite.soak > 0:
		m.size.pause = 6 * time.Second // a silent link is noticed
	}
	if w.suite.short {
		m.size.steps, m.size.instances = 24, 3
	}
	start := time.Now()
	w.suite.soaking.begin(w.suite.soak, w.suite.soakTold)
	defer w.suite.soaking.end()
	m.enough = func(n int) bool {
		switch {
		case w.suite.soak > 0:
			return n > 0 && w.suite.soaking.over.Load()
		case w.suite.short && w.suite.bubble:
			return n >= modelShort
		case w.suite.short:
			return n >= 1
		case w.suite.bubble:
			return n >= modelInBubble
		default:
			return n >= workers && time.Since(start) > modelTime
		}
	}
	w.each(workers, func(int) { m.work() })
	if m.failed != nil {
		w.adopt(m.shrink())
	}
}

// model is a run of random schedules.
type model struct {
	w      *world
	can    []verb
	size   scale
	enough func(started int) bool

	mu      sync.Mutex
	started int       // guarded by mu
	failed  *Result   // guarded by mu; of the first schedule that failed
	at      *schedule // guarded by mu; that schedule
}

// work runs schedules. The first one is of the suite's seed, and so a seed repeats what it is told with.
func (m *model) work() {
	for {
		m.mu.Lock()
		n := m.started
		over := m.failed != nil || m.enough(n)
		m.started++
		m.mu.Unlock()
		if over || m.w.ctx.Err() != nil {
			return
		}
		s := draw(m.w.suite.seed+uint64(n), m.can, m.size) //nolint:gosec // a count
		r := m.w.suite.try(m.w.ctx, m.w.property, s)
		m.w.suite.soaking.runs.Add(1)
		if r.Verdict == Proven || m.w.ctx.Err() != nil {
			continue
		}
		m.mu.Lock()
		if m.failed == nil || s.seed < m.at.seed {
			m.failed, m.at = &r, &s
		}
		m.mu.Unlock()
	}
}

// shrink returns the failure of the smallest schedule that fails in the same way.
func (m *model) shrink() Result {
	worst, start, runs := *m.failed, time.Now(), 0
	more := func() bool {
		return runs < shrinkRuns && m.w.ctx.Err() == nil && (m.w.suite.bubble || time.Since(start) < shrinkTime)
	}
	once := func(s schedule) bool {
		runs++
		r := m.w.suite.try(m.w.ctx, m.w.property, s)
		if r.Verdict != Failed || m.w.ctx.Err() != nil || kind(r) != kind(*m.failed) {
			return false
		}
		worst = r
		return true
	}
	smallest, again, tries := *m.at, false, 0
	for tries < failsAgain && !again {
		tries++
		again = once(smallest)
	}
	fails := func(s schedule) bool { // what does not always fail has as many tries as it took
		for range tries {
			if once(s) {
				return true
			}
		}
		return false
	}
	note := fmt.Sprintf("it did not fail again in %d runs, and so could not be made smaller", failsAgain)
	if again {
		smallest = shrink(smallest, fails, more)
		note = fmt.Sprintf("the smallest that fails, after %d runs; %d steps were drawn", runs, len(m.at.steps))
	}
	if f, is := errors.AsType[*Failure](worst.Err); is {
		f.Schedule = append([]string{fmt.Sprintf("with %s; %s", instancesOf(smallest.instances), note)}, smallest.lines()...)
	}
	return worst
}

func instancesOf(n int) string {
	if n == 1 {
		return "1 instance"
	}
	return fmt.Sprintf("%d instances", n)
}

// kind tells failures apart: what was broken, without the details.
func kind(r Result) string {
	var f *Failure
	if !errors.As(r.Err, &f) {
		return r.Verdict.String()
	}
	if f.Rule != "" {
		return f.Rule
	}
	return "the schedule itself"
}

// try runs a schedule in a world of its own, and judges it.
func (s *suite) try(ctx context.Context, p Property, sc schedule) Result {
	p.run = sc.play
	r := Result{Property: p, Seed: sc.seed}
	w := newWorld(ctx, s, p)
	defer w.cancel()
	w.rand = sc.rand("run")
	start := time.Now()
	detail := s.runIn(w)
	if w.ctx.Err() == nil {
		w.quiet()
	}
	w.end()
	r.Took = time.Since(start)
	s.verdict(&r, w, detail)
	return r
}

// adopt makes the verdict on a world inside this one the property's own.
func (w *world) adopt(r Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found = &r
}

// faultVerbs lists the faults that can be made to an instance's link. Lose is left out: what is lost on a healthy link is known
// from a publisher's first message or heartbeat after the subscription, and a random schedule does not wait for it as the
// properties about it do.
func (n *instance) faultVerbs() []verb {
	var can []verb
	cut, hang := n.can()
	if cut {
		can = append(can, doCut, doCut) // the usual one
	}
	if hang {
		can = append(can, doHang)
	}
	for _, other := range []struct {
		can  bool
		verb verb
	}{
		{n.canDeafen(), doDeafen},
		{n.canMute(), doMute},
		{n.dials(), doTear},
		// Only in a bubble it is sure that the broker is this world's alone.
		{n.w.suite.bubble && n.w.suite.restart.stop != nil && n.w.suite.restart.start != nil, doRestart},
	} {
		if other.can {
			can = append(can, other.verb)
		}
	}
	return can
}
