package hubtest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/conformance/hubtest/internal/mutant"
)

// The suite is measured by the broken hubs that it catches: each has to fail the property that it names, by what is seen and
// not by waiting in vain, and each property has to catch one at least.
func TestMatrix(t *testing.T) {
	caught := map[string]bool{}
	faced := 0
	for _, m := range mutant.All() {
		t.Run(m.Name, func(t *testing.T) {
			faced++
			r := hubtest.Face(t, m.Open(inMemory()), m.Breaks)
			f, ok := errors.AsType[*hubtest.Failure](r.Err)
			switch {
			case r.Verdict != conformance.Failed || !ok:
				t.Errorf("%s survives %s: %v, %v", m.Defect, m.Breaks, r.Verdict, r.Err)
			case f.Waited && !m.Waits:
				t.Errorf("seen only by waiting in vain:\n%v", f)
			case !strings.Contains(f.Error(), r.Property.Says) || f.Witness == "":
				t.Errorf("the failure does not tell the promise, or no witness:\n%v", f)
			default:
				caught[m.Breaks] = true
				t.Log(f)
			}
		})
	}
	if t.Failed() || faced < len(mutant.All()) {
		return
	}
	for _, p := range hubtest.Properties() {
		if !caught[p.ID] {
			t.Errorf("%s catches no broken hub, and so proves nothing", p.ID)
		}
	}
}
