package conformance

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
)

// partly are toys whose faults are changed before they are given.
func partly(change func(*Faults)) (Opener, Option) {
	open, hooks := toys(nil)
	return open, func(s *settings) {
		hooks(s)
		all := s.inject
		s.inject = func(in Instance, bp backplane.Backplane) Faults {
			f := all(in, bp)
			change(&f)
			return f
		}
	}
}

// A property of which a part cannot be put to the test is not proven by the rest of it, and nobody is blamed either.
func TestWhatIsExercisedInPartIsNotProven(t *testing.T) {
	for name, c := range map[string]struct {
		id     string
		change func(*Faults)
		says   string
	}{
		"nothing tells its health, half-open": {"link/half-open", func(*Faults) {}, "backplane.HealthReporter"},
		"nothing tells its health, one-way":   {"link/one-way", func(*Faults) {}, "backplane.HealthReporter"},
		"nothing hangs, busy":                 {"close/busy", func(f *Faults) { f.Hang = nil }, "Hang"},
		"nothing hangs, definite":             {"errors/definite", func(f *Faults) { f.Hang = nil }, "Hang"},
		"nothing is deaf or mute, definite":   {"errors/definite", func(f *Faults) { f.Deafen, f.Mute = nil, nil }, "Deafen with Heal; "},
		"nothing is deaf, publish":            {"link/publish-down", func(f *Faults) { f.Deafen = nil }, "Deafen"},
		"nothing is cut, errors":              {"errors/documented", func(f *Faults) { f.Cut = nil }, "Cut"},
		"nothing is cut, names":               {"names/any", func(f *Faults) { f.Cut = nil }, "Cut"},
		"nothing heals, one-way":              {"link/one-way", func(f *Faults) { f.Cut, f.Heal = nil, nil }, "Heal"},
		"nothing makes Open fail":             {"open/fails-clean", func(*Faults) {}, "Instance.Dial"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open, faults := partly(c.change)
				r := Run(t.Context(), c.id, open, faults, Bubble())
				if r.Verdict != NotExercised || !strings.Contains(r.Err.Error(), c.says) {
					t.Errorf("%v: %v", r.Verdict, r.Err)
				}
			})
		})
	}
}

// What cannot be put to the test hides nothing that the rest has broken.
func TestWhatIsExercisedInPartStillFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open, _ := toys(func(bp backplane.Backplane) backplane.Backplane { return &broken{Backplane: bp, handler: swapping} })
		s := newSuite(open, []Option{Bubble(), Short()})
		r := s.prove(t.Context(), Property{ID: "test/part", about: []string{"order"}, run: func(w *world) {
			n, room := w.openAll(1)[0], group("room")
			n.subscribe(room)
			w.leavesOut("the rest")
			n.publish(room)
			n.publish(room)
		}})
		if r.Verdict != Failed || !strings.Contains(r.Err.Error(), "n1 heard n1#1 after n1#2") {
			t.Errorf("%v: %v", r.Verdict, r.Err)
		}
	})
}

// A fault that cannot be healed is none.
func TestFaultsWithoutHealAreNone(t *testing.T) {
	open, faults := partly(func(f *Faults) { f.Heal = nil })
	s := newSuite(open, []Option{faults, Short(), Linger(time.Millisecond)})
	r := s.prove(t.Context(), Property{ID: "test/no-heal", run: func(w *world) {
		n := w.openAll(1)[0]
		if cut, hang := n.can(); cut || hang || n.canDeafen() || n.canMute() || n.canLose() {
			w.fatalf("it has a fault for good")
		}
	}})
	if r.Verdict != Proven {
		t.Error(r.Err)
	}
}
