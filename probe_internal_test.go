package backplane

import (
	"testing"
	"time"
)

func TestProbing(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	const timeout = 3 * time.Second
	var p probing
	due := func(what string, want float64) {
		t.Helper()
		silent, _ := p.overdue(timeout, start, false)
		if want == 0 && !silent.IsZero() || want != 0 && !silent.Equal(at(want)) {
			t.Errorf("%s: silent at %v, want %v s", what, silent.Sub(start), want)
		}
	}
	back := func(k uint64, s float64, want time.Duration, wantOK bool) {
		t.Helper()
		if took, ok := p.back(k, at(s)); took != want || ok != wantOK {
			t.Errorf("probe %d back at %v s: %v, %v, want %v, %v", k, s, took, ok, want, wantOK)
		}
	}
	due("nothing yet", 0)
	p.connected(at(0))
	due("connected: the subscription is due", 3)
	p.next(at(2))
	due("the first probe has its own time", 5)
	p.next(at(3))
	due("the second one does not put it off", 5)
	back(3, 3.5, 0, false) // never sent
	due("a forged one", 5)
	back(1, 4, 2*time.Second, true)
	due("the second one is due", 6)
	back(1, 4.5, 0, false) // a repeat
	due("a repeat", 6)
	if !p.proven || !p.provenAt.Equal(at(2)) {
		t.Errorf("proven %v at %v", p.proven, p.provenAt)
	}
	back(2, 5, 2*time.Second, true)
	due("all are back", 0)
	p.next(at(6))
	due("the next one", 9)
	p.connected(at(10))
	if p.proven {
		t.Error("proven before a probe came back on the new connection")
	}
	due("connected anew", 13)
	back(3, 11, 5*time.Second, true) // it came back on the new connection
	due("back", 0)

	for i := range 100 { // more than are remembered
		p.next(at(20 + float64(i)))
	}
	back(4, 120, 0, true)
	due("too old to be known", 119+3)
	back(103, 120, time.Second, true)
	due("all are back", 0)
	back(50, 120, 0, false)
}

func TestProbeOverdue(t *testing.T) {
	start := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		lastFrame time.Duration
		mute      bool
		givenUp   time.Duration
	}{
		"nothing comes in":                   {-5 * time.Second, false, 3 * time.Second},
		"frames come in":                     {2 * time.Second, false, 5 * time.Second},
		"frames come in all the time":        {time.Minute, false, 9 * time.Second},
		"frames come in, and nothing is out": {time.Minute, true, 3 * time.Second},
	} {
		p := probing{unanswered: start}
		silent, givenUp := p.overdue(3*time.Second, start.Add(c.lastFrame), c.mute)
		if silent.Sub(start) != 3*time.Second || givenUp.Sub(start) != c.givenUp {
			t.Errorf("%s: silent after %v, given up after %v, want 3s and %v", name, silent.Sub(start), givenUp.Sub(start), c.givenUp)
		}
	}
}

// A process that was stopped finds its probes overdue and the answers unread. That is no reason to give the link up.
func TestPauseIsNoSilence(t *testing.T) {
	start := time.Unix(1000, 0)
	n := &Node{opened: start, o: Options{ProbeTimeout: 3 * time.Second}}
	l := newLink(n, 0)
	l.up, l.give = true, func(error) {}
	l.probes.unanswered = start
	later := start.Add(time.Minute)
	l.paused(later)
	if next := l.watch(later); !next.Equal(later.Add(3*time.Second)) || l.giveCause != nil {
		t.Errorf("looks again at %v; %v", next.Sub(start), l.giveCause)
	}
	if l.watch(later.Add(3 * time.Second)); l.giveCause == nil {
		t.Error("a link that stays silent is not given up")
	}
	l.probes.unanswered = time.Time{}
	if l.paused(later); !l.probes.unanswered.IsZero() {
		t.Error("a pause makes a probe due")
	}
}
