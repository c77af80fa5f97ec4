package conformance

import (
	"fmt"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// healthLog is what an instance tells of its health, as it is told.
type healthLog struct {
	n    *instance
	stop func()

	mu     sync.Mutex
	states []backplane.State // guarded by mu
	more   chan struct{}     // guarded by mu; closed and replaced with each state
	left   int               // guarded by mu; how many there were when leave was called
	seen   int               // for the property's own goroutine: how many of them await has looked at
}

func (n *instance) reporter() (backplane.HealthReporter, bool) {
	r, tells := n.backplane().(backplane.HealthReporter)
	return r, tells
}

// needHealth ends the property if the instance does not tell its health.
func (n *instance) needHealth() {
	if _, tells := n.reporter(); !tells {
		n.w.without("the backplane does not tell its health: it is no backplane.HealthReporter", NotClaimed)
	}
}

// health is what the instance says now; only for one that says it.
func (n *instance) health() backplane.Health {
	r, _ := n.reporter()
	return r.Health()
}

// watchHealth begins to watch the instance's health. The function it returns waits until it has not been up since, and
// reports whether that came within d; patience comes on top of it, as for [world.inTime]. Where the backplane does not
// tell its health, it waits for d: whether the fault was noticed stays open, and the property is not exercised.
func (n *instance) watchHealth() (wasDown func(d time.Duration) bool) {
	w := n.w
	reporter, tells := n.reporter()
	if !tells {
		w.leavesOut("nothing tells whether the fault is noticed in time: the backplane is no " + string(AbilityHealth))
		return func(d time.Duration) bool { return rest(w.ctx, d) }
	}
	down := make(chan struct{})
	note := sync.OnceFunc(func() { close(down) })
	stop := reporter.OnHealth(func(h backplane.Health) {
		if h.State != backplane.Up {
			note()
		}
	})
	return func(d time.Duration) bool {
		defer stop()
		t := time.NewTimer(d + w.suite.patience)
		defer t.Stop()
		select {
		case <-down:
			return true
		case <-w.ctx.Done():
			w.check()
		case <-t.C:
		}
		return false
	}
}

// soundHealth fails the property if what an instance says of its health contradicts itself.
func (n *instance) soundHealth(h backplane.Health) {
	switch {
	case h.State == backplane.Up && len(h.Causes) > 0:
		n.w.fail(fmt.Errorf("%s says that it is up, and a cause why it is not: %v", n.name, h.Causes[0].Kind), false)
	case h.State != backplane.Up && (len(h.Causes) == 0 || h.Causes[0].Kind == ""):
		n.w.fail(fmt.Errorf("%s says that it is %v, and not why", n.name, h.State), false)
	case h.Since.IsZero():
		n.w.fail(fmt.Errorf("%s says that it is %v, and not since when", n.name, h.State), false)
	}
}

// followHealth begins to note what the instance tells of its health. The property fails if a state is told twice in a row.
func (n *instance) followHealth() *healthLog {
	l := &healthLog{n: n, more: make(chan struct{})}
	r, _ := n.reporter()
	l.stop = r.OnHealth(func(h backplane.Health) {
		n.soundHealth(r.Health()) // which must be possible from here
		n.soundHealth(h)
		l.mu.Lock()
		defer l.mu.Unlock()
		if k := len(l.states); k > 0 && l.states[k-1] == h.State {
			n.w.fail(fmt.Errorf("%s told twice in a row that it is %v", n.name, h.State), false)
		}
		l.states = append(l.states, h.State)
		close(l.more)
		l.more = make(chan struct{})
	})
	return l
}

// leave stops the watching.
func (l *healthLog) leave() {
	l.stop()
	rest(l.n.w.ctx, time.Millisecond) // a call that was under way ends
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = len(l.states)
}

// heardNoMore fails the property if something was told after leave.
func (l *healthLog) heardNoMore() {
	l.mu.Lock()
	more := len(l.states) - l.left
	l.mu.Unlock()
	if more > 0 {
		l.n.w.fatalf("%s told %d changes of its health after the watching was stopped", l.n.name, more)
	}
}

// await waits for a state to be told that has not been looked at yet.
func (l *healthLog) await(what string, is func(backplane.State) bool) {
	w := l.n.w
	defer w.while("health of " + l.n.name)()
	limit := time.NewTimer(w.suite.patience)
	defer limit.Stop()
	for {
		l.mu.Lock()
		for l.seen < len(l.states) {
			l.seen++
			if is(l.states[l.seen-1]) {
				l.mu.Unlock()
				return
			}
		}
		told, more := len(l.states), l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-w.ctx.Done():
			w.check()
		case <-limit.C:
			w.fatalf("%s has not told within %v that it is %s; it told %d states, and says %v now",
				l.n.name, w.suite.patience, what, told, l.n.health().State)
		}
	}
}

// last is the state that was told last.
func (l *healthLog) last() backplane.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.states) == 0 {
		return 0
	}
	return l.states[len(l.states)-1]
}
