package hubkit_test

import (
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// ErrUnavailable means that nothing was done: not to the connections of this very instance either.
func TestOperationsWithoutALinkDoNothing(t *testing.T) {
	onSettled(t, func(f *farm) {
		here := f.user(0, "u", "4B")
		f.broker.Cut(f.nodes[0].ID())
		settleFor(f.t, gapWindow)
		for name, do := range operations {
			for _, of := range []hubkit.Target{hubkit.ToUsers("u"), hubkit.ToGroups("4B"), hubkit.ToAll()} {
				n, err := do(f.t.Context(), f.hubs[0], of)
				f.failedAs(name, err, backplane.ErrUnavailable)
				settle()
				if _, closed := here.Reason(); n != 0 || closed || len(here.Groups()) != 1 {
					f.t.Fatalf("%s failed, and the connection is in %q now (closed: %v), %d changed", name, here.Groups(), closed, n)
				}
			}
		}
		f.broker.Heal(f.nodes[0].ID())
		settleFor(f.t, settling)
	})
}
