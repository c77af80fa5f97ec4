package conformance

import (
	"strings"
	"testing"

	"github.com/gobackplane/backplane/conformance/internal/mutant"
)

// Some lies of a transport are no defects of the backplane: the engine is built to make up for them. The suite must see
// nothing, though the transport did lie.
func TestSurvivedByDesign(t *testing.T) {
	t.Parallel()
	for _, m := range mutant.Survivors() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			for _, p := range Properties() {
				if p.Needs&(NeedTime|NeedChild|NeedWire) != 0 {
					continue
				}
				if testing.Short() && !strings.HasPrefix(p.ID, "link/") && !strings.HasPrefix(p.ID, "close/") && !strings.HasPrefix(p.ID, "isolate/") {
					continue
				}
				k := face(t, p, m)
				if k.verdict == NotExercised && (p.ID == opensInMemory || p.ID == "clock/skew") {
					continue // by our engine over the in-memory transport, whatever it does
				}
				if k.verdict == NotClaimed && p.ID == "link/lost-first" {
					continue // of one broker
				}
				if k.verdict != Proven {
					t.Errorf("%s: %v: %v", m.Defect, k.verdict, k.err)
				}
			}
			if m.Lies() == 0 {
				t.Error("the transport has not lied once")
			}
		})
	}
}
