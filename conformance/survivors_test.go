package conformance

import (
	"strings"
	"testing"
	"testing/synctest"

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
				if p.Needs&(NeedTime|NeedChild) != 0 {
					continue
				}
				if testing.Short() && !strings.HasPrefix(p.ID, "link/") && !strings.HasPrefix(p.ID, "close/") {
					continue
				}
				open, faults := opener(m)
				synctest.Test(t, func(t *testing.T) {
					r := newSuite(open, []Option{faults, Bubble(), Seed(1), Short()}).prove(t.Context(), p)
					if r.Verdict != Proven {
						t.Errorf("%s: %v: %v", m.Defect, r.Verdict, r.Err)
					}
				})
			}
			if m.Lies() == 0 {
				t.Error("the transport has not lied once")
			}
		})
	}
}
