package conformance

import (
	"slices"
	"testing"

	"github.com/gobackplane/backplane/conformance/internal/mutant"
)

// A mutant is to be a backplane with one defect, and no heap of scrap that any property would catch. So it has to pass
// what is most of a backplane, or to say that it does not.
func TestMutantsAreAlive(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"deliver/once", "order/per-publisher"} {
		p, err := find(id)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mutant.All() {
			if m.Breaks == id {
				continue
			}
			m.Full = false
			if k := face(t, p, m); k.verdict != Proven && !slices.Contains(m.Also, id) {
				t.Errorf("%s (%s) fails %s as well, and does not say so in Also:\n%v", m.Name, m.Defect, id, k.err)
			}
		}
	}
}
